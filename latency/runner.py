"""The one file sent to a board: loads networks, times them, and answers in JSON lines.

Standard library and the engine only, Python 3.9 or newer. It reads one request a line on standard input and writes its
answers a line each on what was standard output (what an engine prints goes to standard error). It ends when its input
ends, when its output is gone, and on SIGTERM; the lock goes with it.

Requests (field `do`), and what the answer holds beside ``"ok": true``:
    hello    engine, threads, cores, dtype, lock, owner   -> the board's facts; takes the lock and pins the cores
    load     name, model, shape                           -> bytes (added to resident memory), order (see below)
    unload   names                                        -> nothing
    measure  names, runs, warm                            -> a line a network: name, whole or timed; last the state
    state                                                 -> what may change: frequency, temperature, throttling, load
An error is ``{"ok": false, "kind": "busy" | "request" | "engine", "message": ...}``; the runner lives on.

A visit makes `warm` runs that are not kept, then `runs` that are. Answers are in nanoseconds. A network without stamps
gives `whole`, one number a run. One with stamps gives `timed`, a list a run: the time up to each stamp since the one
before (or the start), then from the last stamp to the end; `order` says which stamp of the text is the first to run,
the second, ...
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any, TextIO

PROTOCOL = 1


class Refused(Exception):
    """A request that cannot be done; `kind` is as in the answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class NcnnBackend:
    """ncnn through its extension module."""

    def __init__(self, threads: int, dtype: str) -> None:
        self.ncnn = importlib.import_module("ncnn.ncnn")
        self.version = str(self.ncnn.__version__)
        self.threads, self.dtype = threads, dtype
        self.times: list[int] = []
        times, now = self.times, perf_counter_ns

        class Stamp(self.ncnn.Layer):  # type: ignore[name-defined, misc]
            """Notes when the layer before it was done. In place and on any packing: it moves and converts nothing."""

            def __init__(self) -> None:
                super().__init__()
                self.one_blob_only = self.support_inplace = True
                self.support_packing = self.support_any_packing = True
                self.support_fp16_storage = self.support_bf16_storage = True

            def forward_inplace(self, blob: Any, opt: Any) -> int:
                times.append(now())
                return 0

        self.stamp_type = Stamp

    def load(self, model: str, shape: list[int]) -> dict[str, Any]:
        """A network with zero weights, run once. The stamps are kept with it: ncnn holds bare pointers to them."""
        net = self.ncnn.Net()
        stamps: list[Any] = []
        opt = net.opt
        opt.num_threads = self.threads  # ncnn's default is all cores
        opt.lightmode = opt.use_packing_layout = True
        opt.use_vulkan_compute = False
        # ncnn turns 16 bits on by itself where the CPU has them; not every build knows every option.
        half, brain = self.dtype == "fp16", self.dtype == "bf16"
        for name, value in (
            ("use_fp16_packed", half),
            ("use_fp16_storage", half),
            ("use_fp16_arithmetic", half),
            ("use_bf16_packed", brain),
            ("use_bf16_storage", brain),
        ):
            if hasattr(opt, name):
                setattr(opt, name, value)

        def create() -> Any:
            stamps.append(self.stamp_type())
            return stamps[-1]

        net.register_custom_layer("Stamp", create, lambda layer: None)
        if net.load_param_mem(model) != 0:
            raise Refused("engine", "ncnn cannot read the network")
        net.load_model(self.ncnn.DataReaderFromEmpty())
        c, h, w = shape
        blob = self.ncnn.Mat(w, h, c)
        blob.fill(0.0)
        loaded = {"net": net, "blob": blob, "stamps": stamps}
        self.run(loaded)
        return loaded

    def run(self, loaded: dict[str, Any]) -> tuple[int, int]:
        """One inference; its start and end in ns."""
        start = perf_counter_ns()
        extractor = loaded["net"].create_extractor()
        extractor.input("in0", loaded["blob"])
        status, _ = extractor.extract("out0")
        end = perf_counter_ns()
        if status != 0:
            raise Refused("engine", f"ncnn could not run the network (status {status})")
        return start, end

    def timed(self, loaded: dict[str, Any]) -> list[int]:
        """One inference of a network with stamps: the intervals in ns, in the order they ran."""
        self.times.clear()
        start, end = self.run(loaded)
        marks = [start, *self.times, end]
        return [b - a for a, b in zip(marks, marks[1:])]  # noqa: B905, RUF007 - newer than Python 3.9

    def order(self, loaded: dict[str, Any]) -> list[int]:
        """The stamps in the order in which they run, each as its place in the text."""
        seen: list[int] = []
        for place, stamp in enumerate(loaded["stamps"]):

            def note(blob: Any, opt: Any, place: int = place) -> int:
                seen.append(place)
                return 0

            # pybind11 asks the instance before its class, so this stands in for one run.
            stamp.forward_inplace = note
        try:
            self.run(loaded)
        finally:
            for stamp in loaded["stamps"]:
                del stamp.forward_inplace
        return seen

    def unload(self, loaded: dict[str, Any]) -> None:
        """Frees the network before its stamps."""
        loaded["net"].clear()


BACKENDS: dict[str, Callable[[int, str], NcnnBackend]] = {"ncnn": NcnnBackend}


def read_text(path: str) -> str:
    """A small file of /proc or /sys, or nothing."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def number_after(label: str, text: str) -> int | None:
    """The first whole number behind a label at the start of a line."""
    found = re.search(rf"^{re.escape(label)}\D*(\d+)", text, re.M)
    return int(found.group(1)) if found else None


def throttled() -> str | None:
    """A Raspberry Pi's throttling bits (hex): 0-3 now, 16-19 since boot; None elsewhere."""
    try:
        answer = subprocess.run(
            ["vcgencmd", "get_throttled"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"0x[0-9a-fA-F]+", answer.stdout.decode("ascii", "replace"))
    return found.group(0) if found else None


def read_state(cores: list[int]) -> dict[str, Any]:
    """What may change while we measure; None or empty where the board does not tell."""
    cpufreq = [f"/sys/devices/system/cpu/cpu{core}/cpufreq/" for core in cores]
    governors = {read_text(folder + "scaling_governor") for folder in cpufreq} - {""}
    hertz = [read_text(folder + "scaling_cur_freq") for folder in cpufreq]
    heat = [read_text(str(path)) for path in sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp"))]
    available = number_after("MemAvailable:", read_text("/proc/meminfo"))
    return {
        "governor": sorted(governors),
        "mhz": [int(text) // 1000 for text in hertz if text.isdigit()],
        "celsius": [int(text) / 1000 for text in heat if text.lstrip("-").isdigit()],
        "throttled": throttled(),
        "load": list(os.getloadavg()),
        "free_bytes": available * 1024 if available is not None else None,
    }


def read_facts(cores: list[int]) -> dict[str, Any]:
    """What stays: the machine and its system."""
    cpuinfo = read_text("/proc/cpuinfo")
    names = re.findall(r"^(?:model name|Hardware|CPU part)\s*:\s*(.+)$", cpuinfo, re.M)
    return {
        "model": read_text("/proc/device-tree/model") or (names[0] if names else platform.machine()),
        "cpu": sorted(set(names)),
        "machine": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "cores": cores,
        "memory_bytes": (number_after("MemTotal:", read_text("/proc/meminfo")) or 0) * 1024,
        "pid": os.getpid(),
    }


def resident_bytes() -> int:
    """Resident memory of this process."""
    fields = read_text("/proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


class Runner:
    """Answers requests; see the module for them."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.backend: NcnnBackend | None = None
        self.lock: TextIO | None = None
        self.networks: dict[str, dict[str, Any]] = {}
        self.cores: list[int] = []

    def answer(self, **fields: Any) -> None:
        """Writes one answer."""
        self.out.write(json.dumps({"ok": True, **fields}, separators=(",", ":")) + "\n")
        self.out.flush()

    def handle(self, line: str) -> None:
        """One request: answers it, or says why not."""
        try:
            request = json.loads(line)
            handler = getattr(self, "do_" + str(request.pop("do", "")), None)
            if handler is None:
                raise Refused("request", f"unknown request; this runner speaks protocol {PROTOCOL}")
            handler(**request)
        except Refused as error:
            self.answer(ok=False, kind=error.kind, message=str(error))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            self.answer(ok=False, kind="request", message=f"{type(error).__name__}: {error}")
        except (ImportError, MemoryError, RuntimeError) as error:
            self.answer(ok=False, kind="engine", message=f"{type(error).__name__}: {error}")

    def do_hello(self, engine: str, threads: int, cores: list[int], dtype: str, lock: str, owner: str) -> None:
        """Takes the board's lock, pins the cores, starts the engine."""
        if engine not in BACKENDS:
            raise Refused("engine", f"no engine {engine!r} in this runner; it has {', '.join(sorted(BACKENDS))}")
        self.take_lock(lock, owner)
        if cores:
            try:
                os.sched_setaffinity(0, cores)
            except OSError as error:
                raise Refused("request", f"cannot pin to cores {cores}: {error.strerror}") from error
        self.cores = sorted(os.sched_getaffinity(0))
        self.backend = BACKENDS[engine](threads, dtype)
        facts = {**read_facts(self.cores), "engine": engine, "engine_version": self.backend.version}
        # A collection in the middle of a run would be charged to a layer.
        gc.collect()
        gc.disable()
        self.answer(protocol=PROTOCOL, facts=facts, state=read_state(self.cores))

    def take_lock(self, path: str, owner: str) -> None:
        """flock: the kernel lets go of it when we end, however we end."""
        self.lock = Path(path).open("a+", encoding="utf-8")  # noqa: SIM115 - held until the end
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.lock.seek(0)
            holder = " ".join(self.lock.read().split()) or "somebody unknown"
            self.lock.close()
            self.lock = None
            raise Refused("busy", holder) from None
        self.lock.truncate(0)
        self.lock.write(f"{owner} (runner pid {os.getpid()} on {socket.gethostname()})\n")
        self.lock.flush()

    def engine(self) -> NcnnBackend:
        """The backend, once there was a hello."""
        if self.backend is None:
            raise Refused("request", "say hello first")
        return self.backend

    def do_load(self, name: str, model: str, shape: list[int]) -> None:
        """Loads a network, with or without stamps."""
        backend, before = self.engine(), resident_bytes()
        loaded = self.networks[name] = backend.load(model, shape)
        self.answer(order=backend.order(loaded), bytes=max(0, resident_bytes() - before))

    def do_unload(self, names: list[str]) -> None:
        """Frees networks; unknown names are nothing to free."""
        backend = self.engine()
        for name in names:
            if name in self.networks:
                backend.unload(self.networks.pop(name))
        gc.collect()
        self.answer()

    def do_measure(self, names: list[str], runs: int, warm: int) -> None:
        """Visits networks in the given order."""
        backend = self.engine()
        for name in names:
            if name not in self.networks:
                raise Refused("request", f"no network {name!r} is loaded")
        for name in names:
            loaded = self.networks[name]
            for _ in range(warm):
                backend.run(loaded)
            if loaded["stamps"]:
                self.answer(name=name, whole=[], timed=[backend.timed(loaded) for _ in range(runs)])
            else:
                spans = [backend.run(loaded) for _ in range(runs)]
                self.answer(name=name, whole=[end - start for start, end in spans], timed=[])
        gc.collect()
        self.answer(state=read_state(self.cores))

    def do_state(self) -> None:
        """What may have changed."""
        self.answer(state=read_state(self.cores))


def main() -> int:
    """Serves requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the side that started us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runner = Runner(out)
    try:
        for line in iter(sys.stdin.readline, ""):
            if line.strip():
                runner.handle(line)
    except BrokenPipeError:
        return 1
    finally:
        for loaded in runner.networks.values():
            runner.engine().unload(loaded)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # The engine's own clean-up at interpreter exit may crash after a lost link; everything is flushed already.
    os._exit(status)
