"""The one file sent to a board: loads networks, times them, and answers in JSON lines.

Standard library and the engine only, Python 3.9 or newer. It reads one request a line on standard input and writes its
answers a line each on what was standard output (what an engine prints goes to standard error). It ends when its input
ends, when its output is gone, on SIGTERM, and when nobody asks or listens for `IDLE_S`; the lock goes with it.

Requests (field `do`), and what the answer holds beside ``"ok": true``:
    hello    engine, threads, cores, dtype, lock, owner   -> the board's facts, its state, governor (see below);
                                                             takes the lock and pins the cores
    load     name, model, shape                           -> bytes (added to resident memory), order (see below)
    load     name, path, shape (a list, or null)          -> bytes, order, inputs: [[name, shape], ...] as they are fed
    unload   names                                        -> nothing
    measure  names, runs, warm                            -> a line a network: name, whole or timed; last the state
                                                             before the first run and the one after the last
    state                                                 -> what may change: frequency, temperature, throttling, load
An error is ``{"ok": false, "kind": "busy" | "board" | "request" | "engine", "message": ...}``; the runner lives on.

From hello to its end the runner holds the frequency of its cores with the governor `performance` where it may, and a
guard process gives back what was there before however the runner ends. `governor` tells ``set``, ``was`` and
``why_not``. Beside the account's own `lock`, hello takes `board_lock`, if it is given one: a file for all accounts.

A visit makes `warm` runs that are not kept, then `runs` that are. Answers are in nanoseconds. A network without stamps
gives `whole`, one number a run. One with stamps gives `timed`, a list a run: the time up to each stamp since the one
before (or the start), then from the last stamp to the end; `order` says which stamp of the text is the first to run,
the second, ...

A `path` is a user's own model, a file on the board: for ncnn a `.param`, with the weights of the `.bin` beside it or
zero weights where there is none; for onnxruntime a `.onnx`. `shape` is of its first input, (c, h, w); it may be left
out where the model tells it. Every input is filled with zeros; every output is asked for.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import gc
import importlib
import json
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter_ns, sleep
from typing import Any, TextIO

PROTOCOL = 1
SYSROOT = os.environ.get("LIGHTNAS_SYSROOT", "")
"""The folder that holds /proc and /sys: none but in tests, which put recorded trees of boards there."""
PROC, SYS = SYSROOT + "/proc", SYSROOT + "/sys"
FEATURES = (
    "neon", "asimd", "asimdhp", "fphp", "asimddp", "i8mm", "bf16", "sve", "sve2", "avx2", "avx512f", "avx512_vnni",
)  # fmt: skip
"""The abilities of a CPU that decide which kernels an engine picks; asimdhp is 16-bit float arithmetic."""
IDLE_S = 180
"""Seconds without a request, or with an answer that nobody takes: the other side is gone, though a cut cable or a
switched-off computer gives us no end of input."""
IDLE_STATUS = 75


class Refused(Exception):
    """A request that cannot be done; `kind` is as in the answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LeftAlone(Exception):
    """The other side is gone."""


def left_alone(number: int, frame: Any) -> None:
    """What the alarm does."""
    raise LeftAlone


_TWO_LAYERS = """7767517
4 4
Input in0 0 1 in0
Convolution a 1 1 in0 a 0=16 1=3 4=1 5=1 6=2304
Stamp s 1 1 a b
Convolution c 1 1 b out0 0=16 1=3 4=1 5=1 6=2304
"""


class Backend(ABC):
    """An engine on the board; made with the threads, the dtype and a folder of ours. What it refuses raises `Refused`.

    A loaded network is a dict of the backend's own, with `stamps` (empty: to be run whole), and the `inputs`, each a
    tuple whose first is the name, and `shapes` that it is fed.
    """

    version: str

    @abstractmethod
    def load(self, model: str, shape: list[int]) -> dict[str, Any]:
        """A network of ours, without weights, run once."""

    @abstractmethod
    def load_file(self, path: str, shape: list[int] | None) -> dict[str, Any]:
        """A user's own network, run once."""

    @abstractmethod
    def order(self, loaded: dict[str, Any]) -> list[int]:
        """The stamps in the order in which they run, each as its place in the text."""

    @abstractmethod
    def visit(self, loaded: dict[str, Any], runs: int, warm: int) -> tuple[list[int], list[list[int]]]:
        """Kept runs in ns: whole ones of a network without stamps, timed ones of another."""

    @abstractmethod
    def unload(self, loaded: dict[str, Any]) -> None:
        """Frees the network."""


class NcnnBackend(Backend):
    """ncnn through its extension module."""

    def __init__(self, threads: int, dtype: str, folder: Path) -> None:
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
        if dtype != "fp32":
            self.require_half()

    def require_half(self) -> None:
        """Refuses 16 bits where the CPU would compute in 32 all the same: it looks at what lies between two layers."""
        bits: list[int] = []
        loaded = self.load(_TWO_LAYERS, [16, 8, 8])

        def look(blob: Any, opt: Any) -> int:
            bits.append(blob.elembits())
            return 0

        loaded["stamps"][0].forward_inplace = look
        self.run(loaded)
        del loaded["stamps"][0].forward_inplace
        self.unload(loaded)
        able = self.dtype != "fp16" or getattr(self.ncnn, "cpu_support_arm_asimdhp", int)()
        if bits != [16] or not able:
            raise Refused("engine", f"ncnn cannot compute in {self.dtype} on this CPU; set the board's dtype to fp32")

    def load(self, model: str, shape: list[int]) -> dict[str, Any]:
        """A network with zero weights, run once. The stamps are kept with it: ncnn holds bare pointers to them."""
        loaded = self.empty()
        if loaded["net"].load_param_mem(model) != 0:
            raise Refused("engine", "ncnn cannot read the network")
        loaded["net"].load_model(self.ncnn.DataReaderFromEmpty())
        self.feed(loaded, [shape])
        return loaded

    def load_file(self, path: str, shape: list[int] | None) -> dict[str, Any]:
        """A user's own network, run once."""
        text = read_text(path)
        if not text.startswith("7767517"):
            raise Refused("engine", f"{path} is no ncnn model: give the text .param file")
        loaded = self.empty()
        if loaded["net"].load_param(path) != 0:
            raise Refused("engine", f"ncnn cannot read {path}: has it layers this ncnn does not know, or is it cut?")
        weights = path.removesuffix(".param") + ".bin"
        found = Path(weights).is_file()
        if loaded["net"].load_model(weights if found else self.ncnn.DataReaderFromEmpty()) != 0:
            fault = f"{weights} does not fit it" if found else "it does not load with zero weights; put its .bin beside"
            raise Refused("engine", f"ncnn cannot load {path}: {fault}")
        told = []
        for name in loaded["net"].input_names():
            line = re.search(rf"^Input\s+\S+\s+0\s+1\s+{re.escape(name)}\b(.*)$", text, re.M)
            sizes = dict(re.findall(r"\b([012])=(\d+)", line.group(1) if line else ""))
            told.append([int(sizes[key]) for key in "210" if sizes.get(key, "0") != "0"])
        self.feed(loaded, [shape or told[0], *told[1:]] if told else [])
        return loaded

    def empty(self) -> dict[str, Any]:
        """A network to be read, with our options and our layer."""
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
        return {"net": net, "stamps": stamps}

    def feed(self, loaded: dict[str, Any], shapes: list[list[int]]) -> None:
        """Fills the inputs, c, h, w each, and runs the network once."""
        names = list(loaded["net"].input_names())
        loaded["inputs"], loaded["shapes"] = [], shapes
        for name, shape in zip(names, shapes):  # noqa: B905 - newer than Python 3.9
            if not 1 <= len(shape) <= 4 or min(shape) < 1:
                raise Refused("engine", f"the model does not tell the shape of its input {name}: give it as c,h,w")
            blob = self.ncnn.Mat(*reversed(shape))
            blob.fill(0.0)
            loaded["inputs"].append((name, blob))
        loaded["outputs"] = list(loaded["net"].output_names())
        self.run(loaded)

    def run(self, loaded: dict[str, Any]) -> tuple[int, int]:
        """One inference; its start and end in ns."""
        start = perf_counter_ns()
        extractor = loaded["net"].create_extractor()
        for name, blob in loaded["inputs"]:
            extractor.input(name, blob)
        failed = 0
        for name in loaded["outputs"]:
            status, _ = extractor.extract(name)
            failed = failed or status
        end = perf_counter_ns()
        if failed:
            raise Refused("engine", f"ncnn could not run the network (status {failed})")
        return start, end

    def timed(self, loaded: dict[str, Any]) -> list[int]:
        """One inference of a network with stamps: the intervals in ns, in the order they ran."""
        self.times.clear()
        start, end = self.run(loaded)
        marks = [start, *self.times, end]
        return [b - a for a, b in zip(marks, marks[1:])]  # noqa: B905, RUF007 - newer than Python 3.9

    def visit(self, loaded: dict[str, Any], runs: int, warm: int) -> tuple[list[int], list[list[int]]]:
        """Runs of a network without stamps, whole; or of one with, timed."""
        for _ in range(warm):
            self.run(loaded)
        if loaded["stamps"]:
            return [], [self.timed(loaded) for _ in range(runs)]
        return [end - start for start, end in (self.run(loaded) for _ in range(runs))], []

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


class OnnxRuntimeBackend(Backend):
    """onnxruntime on its CPU provider, through its Python package and numpy.

    Whole networks run in a session that stays, with bound inputs: what a program in any language would pay. Layers are
    told only by a session's own profile, which begins with the session and ends once: a timed visit makes a session of
    its own, and as many runs in it as its making is worth. Profiles count whole microseconds, so what a visit answers
    is the mean of the faster half of those runs, and a tiny layer's time is a mean over visits.

    A timed network's text names, for each op, the stamp that its kernels are charged to; a kernel is called after its
    op. A kernel between two memory layouts is charged to the op that needs it, any other nameless one to the op whose
    result it reads. An interval is the kernel's own time; what is left over is from the call to the first kernel and
    from the last one to the answer. (The profiler's work between kernels is in neither.)
    """

    def __init__(self, threads: int, dtype: str, folder: Path) -> None:
        if dtype != "fp32":
            raise Refused("engine", f"onnxruntime computes in fp32 here, not in {dtype}; set dtype to fp32")
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would write into the account's cache, and to its maker
        self.ort = importlib.import_module("onnxruntime")
        self.numpy = importlib.import_module("numpy")
        self.version = str(self.ort.__version__)
        self.threads, self.folder = threads, folder
        for left in folder.glob("profile-*"):  # by a runner that was killed; we hold the lock
            left.unlink()

    def load(self, model: str, shape: list[int]) -> dict[str, Any]:
        """A network with constant weights, run once; a timed one keeps only its text."""
        text, _, owners = model.partition("\n")
        source = zlib.decompress(base64.b64decode(text))
        loaded: dict[str, Any] = {"source": source, "stamps": [], "shapes": [shape], "inputs": [("input", None)]}
        if owners:
            loaded["owners"] = json.loads(owners)
            loaded["stamps"] = list(range(1 + max(loaded["owners"].values())))
            _, kernels = self.profile(loaded, 0, 0)
            if charge(kernels[0], loaded["owners"])[1] < 0.5:
                raise Refused("engine", f"the profile of onnxruntime {self.version} does not name the layers")
        else:
            self.open(loaded, source, None)
        return loaded

    def load_file(self, path: str, shape: list[int] | None) -> dict[str, Any]:
        """A user's own network, run once."""
        loaded: dict[str, Any] = {"stamps": []}
        self.open(loaded, path, shape)
        return loaded

    def open(self, loaded: dict[str, Any], source: Any, shape: list[int] | None, profile: str = "") -> None:
        """Makes the session and fills its inputs."""
        options = self.ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.execution_mode = self.ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self.ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Threads wait busily for each other within a run, as they do by default, but not after it.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        what = source if isinstance(source, str) else "the network"
        try:
            session = self.ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no class
            raise Refused("engine", f"onnxruntime cannot load {what}: {first_line(error)}") from error
        loaded["session"], loaded["binding"] = session, session.io_binding()
        loaded["inputs"], loaded["shapes"] = [], []
        for told in session.get_inputs():
            sizes = self.sizes(told, shape if not loaded["inputs"] else None)
            kind = _NUMPY_TYPES.get(told.type)
            if kind is None:
                raise Refused("engine", f"{what} reads {told.type} as {told.name}, which cannot be filled with zeros")
            loaded["inputs"].append((told.name, self.numpy.zeros(sizes, kind)))
            loaded["shapes"].append(sizes[1:] if len(sizes) == 4 else sizes)
            loaded["binding"].bind_cpu_input(*loaded["inputs"][-1])
        for told in session.get_outputs():
            loaded["binding"].bind_output(told.name)
        self.run(loaded)

    def sizes(self, told: Any, shape: list[int] | None) -> list[int]:
        """An input's sizes, batch 1: what the model leaves open is taken from `shape`."""
        fixed = [size if isinstance(size, int) and size > 0 else None for size in told.shape]
        wanted: list[int | None] = [None] * len(fixed)
        if shape:
            wanted = [*[1] * (len(fixed) - len(shape)), *shape]
        elif fixed and fixed[0] is None:
            wanted[0] = 1
        sizes = [want if size is None else size for size, want in zip(fixed, wanted)]  # noqa: B905
        if None in sizes:
            raise Refused("engine", f"the model does not tell the shape of its input {told.name}: give it as c,h,w")
        if shape and sizes != wanted:
            raise Refused("engine", f"the model's input {told.name} is {told.shape}, not {shape}")
        return [size for size in sizes if size]

    def run(self, loaded: dict[str, Any]) -> tuple[int, int]:
        """One inference; its start and end in ns."""
        session, binding = loaded["session"], loaded["binding"]
        try:
            start = perf_counter_ns()
            session.run_with_iobinding(binding)
            return start, perf_counter_ns()
        except Exception as error:  # its errors share no class
            raise Refused("engine", f"onnxruntime could not run the network: {first_line(error)}") from error

    def visit(self, loaded: dict[str, Any], runs: int, warm: int) -> tuple[list[int], list[list[int]]]:
        """Runs of a network without stamps, whole; or of one with, timed."""
        if not loaded["stamps"]:
            for _ in range(warm):
                self.run(loaded)
            return [end - start for start, end in (self.run(loaded) for _ in range(runs))], []
        spans, kernels = self.profile(loaded, runs, warm)
        charged, _ = charge(kernels[0], loaded["owners"])
        lines = [
            intervals(run, charged, len(loaded["stamps"]), end - start)
            for run, (start, end) in zip(kernels, spans)  # noqa: B905
        ]
        timed, each = [], len(lines) // runs
        for first in range(0, len(lines), each):
            faster = sorted(lines[first : first + each], key=sum)[: (each + 1) // 2]
            timed.append([round(sum(column) / len(faster)) for column in zip(*faster)])  # noqa: B905
        return [], timed

    def profile(
        self, loaded: dict[str, Any], runs: int, warm: int
    ) -> tuple[list[tuple[int, int]], list[list[dict[str, Any]]]]:
        """As many runs for each wanted one as loading takes, at most 16: their spans, and the kernels of each.

        No run wanted: the kernels of the one that loading makes.
        """
        made: dict[str, Any] = {}
        try:
            start = perf_counter_ns()
            self.open(made, loaded["source"], None, str(self.folder / f"profile-{os.getpid()}"))
            loading = perf_counter_ns() - start
            # Open but nameless, the file goes with us, however we end.
            (path,) = self.folder.glob(f"profile-{os.getpid()}*")
            with path.open(encoding="utf-8") as file:
                path.unlink()
                spans = []
                if runs:
                    # A session's first run finds out which memory it needs; the second one lays it out.
                    spans = [self.run(made) for _ in range(max(warm, 1))]
                    each = min(16, max(1, loading // max(1, spans[-1][1] - spans[-1][0])))
                    spans = [self.run(made) for _ in range(runs * each)]
                made["session"].end_profiling()
                events = json.load(file)
        except (OSError, ValueError) as error:
            raise Refused("request", f"no whole profile in {self.folder}: is the disk full? ({error})") from error
        loaded["shapes"], loaded["inputs"] = made["shapes"], made["inputs"]
        kernels: list[list[dict[str, Any]]] = [[]]
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith(_KERNEL):
                kernels[-1].append(event)
            elif event["name"] == "model_run":
                kernels.append([])
        return spans, kernels[-1 - max(1, len(spans)) : -1]

    def order(self, loaded: dict[str, Any]) -> list[int]:
        """Stamps are told by name, in the order of the text."""
        return list(loaded["stamps"])

    def unload(self, loaded: dict[str, Any]) -> None:
        """Frees the network."""
        loaded.clear()


_KERNEL = "_kernel_time"
_NUMPY_TYPES = {f"tensor({name})": name for name in ("float16", "double", "int64", "int32", "uint8", "int8", "bool")}
_NUMPY_TYPES["tensor(float)"] = "float32"


def first_line(error: Exception) -> str:
    """What an engine says, in one line."""
    return " ".join(str(error).split())[:300]


def charge(kernels: list[dict[str, Any]], owners: dict[str, int]) -> tuple[list[int], float]:
    """For each kernel of a profiled run the stamp it is charged to, or -1; and the share of time of those named."""

    def owner(name: str) -> int:
        path = name[: -len(_KERNEL)].removesuffix("_nchwc")
        while path and path not in owners:
            path = path.rpartition("/")[0]
        return owners.get(path, -1)

    def shapes(at: int, which: str) -> list[list[int]]:
        return [sizes for told in kernels[at]["args"].get(which, []) for sizes in told.values()]

    own = [owner(kernel["name"]) for kernel in kernels]
    named = [i for i, stamp in enumerate(own) if stamp >= 0]
    charged = list(own)
    for i, kernel in enumerate(kernels):
        if own[i] >= 0 or not named:
            continue
        given, made = shapes(i, "input_type_shape")[:1], shapes(i, "output_type_shape")[:1]
        near = [j for j in reversed(named) if j < i] + [j for j in named if j > i]
        fit = [j for j in near if j < i and given and given[0] in shapes(j, "output_type_shape")]
        if kernel["args"].get("op_name") == "ReorderOutput":
            # Wanted by a kernel that cannot read the blocked layout; a blocked one reads the other only if it must.
            later = [j for j in named if j > i and made and made[0] in shapes(j, "input_type_shape")]
            plain = [j for j in later if not kernels[j]["name"].endswith("_nchwc" + _KERNEL) or made[0][1] < 16]
            fit = plain or later or fit
        charged[i] = own[(fit or near)[0]]
    times = [kernel["dur"] for kernel in kernels]
    return charged, sum(t for t, o in zip(times, own) if o >= 0) / max(1, sum(times))  # noqa: B905


def intervals(kernels: list[dict[str, Any]], charged: list[int], stamps: int, whole: int) -> list[int]:
    """A profiled run in ns: the time of each stamp, then what lies before the first and behind the last kernel."""
    out = [0] * stamps + [whole]
    for kernel, stamp in zip(kernels, charged):  # noqa: B905
        out[stamp] += kernel["dur"] * 1000
    out[-1] -= (kernels[-1]["ts"] + kernels[-1]["dur"] - kernels[0]["ts"]) * 1000
    return out


BACKENDS: dict[str, Callable[[int, str, Path], Backend]] = {"ncnn": NcnnBackend, "onnxruntime": OnnxRuntimeBackend}


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
    if shutil.which("vcgencmd") is None:  # starting nothing costs a millisecond too
        return None
    try:
        answer = subprocess.run(
            ["vcgencmd", "get_throttled"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"0x[0-9a-fA-F]+", answer.stdout.decode("ascii", "replace"))
    return found.group(0) if found else None


def find(pattern: str) -> list[str]:
    """The paths below /sys of a pattern, zone2 before zone10."""
    found = map(str, Path(SYS).glob(pattern.lstrip("/")))
    return sorted(found, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)])


def numbers(path: str) -> list[int]:
    """The whole numbers in a small file."""
    return [int(word) for word in re.findall(r"-?\d+", read_text(path))]


def cpu_zones(kinds: list[str]) -> list[int]:
    """Which thermal zones, told by their types, are the CPU's; else the chip's; else whichever may be.

    A board has more: a Jetson Nano's PMIC stands at 100 degrees for ever, a phone's battery stays cool.
    """
    others = r"gpu|npu|vpu|cv\d|pmic|batt|wifi|iwl|nvme|ddr|mem|fan|pll|charger|board|\bao\b"
    names = [kind.lower() for kind in kinds]
    for pattern in (r"cpu|core|x86_pkg", r"soc|pkg|package", "."):
        found = [i for i, name in enumerate(names) if re.search(pattern, name) and not re.search(others, name)]
        if found:
            return found
    return []


def read_heat() -> dict[str, Any]:
    """Every zone's temperature; that of the CPU zone nearest to its limit, and the limit where the kernel tells it."""
    zones = [zone for zone in find("/class/thermal/thermal_zone*") if numbers(zone + "/temp")]
    celsius = [numbers(zone + "/temp")[0] / 1000 for zone in zones]
    candidates = []
    for i in cpu_zones([read_text(zone + "/type") for zone in zones]):
        # At a passive trip point the kernel slows the CPU down. A second one, where there is one, is the target.
        points = [path[: -len("type")] for path in find(zones[i][len(SYS) :] + "/trip_point_*_type")]
        trips = [numbers(point + "temp")[:1] for point in points if read_text(point + "type") == "passive"]
        limit = max((trip[0] / 1000 for trip in trips if trip and trip[0] > 40_000), default=None)
        candidates.append((celsius[i], limit))
    nearest = max(candidates, key=lambda pair: pair[0] - (pair[1] or 80.0), default=(None, None))
    return {"celsius": celsius, "cpu_celsius": nearest[0], "limit_celsius": nearest[1]}


def slows_cpu(kind: str) -> bool:
    """Whether a cooling device of this type slows the CPU down; a fan does not."""
    return re.search(r"cpu|processor|powerclamp", kind, re.I) is not None and "fan" not in kind


def slowed_by() -> dict[str, int]:
    """The cooling devices that slow the CPU down now, and how far."""
    found = {}
    for device in find("/class/thermal/cooling_device*"):
        kind = read_text(device + "/type")
        level = numbers(device + "/cur_state")
        if slows_cpu(kind) and level and level[0] > 0:
            found[kind] = level[0]
    return found


def stopped_s() -> float | None:
    """Seconds for which a CPU quota (of a container, say) has stopped our control group; None where it tells none."""
    group = re.search(r"^0::(\S+)", read_text(PROC + "/self/cgroup"), re.M)
    own = group.group(1).rstrip("/") if group else ""
    for path in (f"/fs/cgroup{own}/cpu.stat", "/fs/cgroup/cpu.stat", "/fs/cgroup/cpu/cpu.stat"):
        text = read_text(SYS + path)
        for label, unit_s in (("throttled_usec", 1e-6), ("throttled_time", 1e-9)):
            told = number_after(label, text)
            if told is not None:
                return told * unit_s
    return None


def read_work(cores: list[int]) -> dict[str, Any]:
    """Counters of which only the difference tells: who had the CPUs, at which frequencies, what was swapped."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    ours = os.times()
    clock_s = monotonic()
    busy: dict[bool, float] = {True: 0.0, False: 0.0}
    for core, text in re.findall(r"^cpu(\d+) (.*)$", read_text(PROC + "/stat"), re.M):
        # user, nice, system, idle, iowait, irq, softirq, and steal: what a virtual machine was not given
        counts = [int(word) for word in text.split()[:8]]
        busy[int(core) in cores] += (sum(counts) - sum(counts[3:5])) * tick_s
    frequencies = {}
    for folder in policy_folders(cores):
        pairs = re.findall(r"^(\d+)\d{3} (\d+)$", read_text(folder + "/stats/time_in_state"), re.M)
        if pairs:
            frequencies[Path(folder).name] = {mhz: int(ticks) for mhz, ticks in pairs}
    memory = read_text(PROC + "/vmstat")
    return {
        "clock_s": clock_s,
        "own_s": ours.user + ours.system + ours.children_user + ours.children_system,
        "used_s": busy[True],
        "other_s": busy[False],
        "cores": len(cores),
        "mhz_ticks": frequencies,  # of 10 ms
        "stopped_s": stopped_s(),
        "swapped_pages": sum(number_after(label, memory) or 0 for label in ("pswpin", "pswpout")),
    }


def policy_folders(cores: list[int]) -> dict[str, int]:
    """The cpufreq folders of the cores, each once, with the first core it is of; cores share their cluster's."""
    found: dict[str, int] = {}
    for core in cores:
        folder = f"{SYS}/devices/system/cpu/cpu{core}/cpufreq"
        if Path(folder).is_dir():
            found.setdefault(os.path.realpath(folder), core)
    return found


def read_state(cores: list[int], *, ask_firmware: bool = True) -> dict[str, Any]:
    """What may change while we measure; None or empty where the board does not tell.

    Asking a Raspberry Pi's firmware starts a process, so it can be left out.
    """
    cpufreq = [f"{SYS}/devices/system/cpu/cpu{core}/cpufreq/" for core in cores]
    governors = {read_text(folder + "scaling_governor") for folder in cpufreq} - {""}
    available = number_after("MemAvailable:", read_text(PROC + "/meminfo"))
    return {
        "governor": sorted(governors),
        "mhz": [khz // 1000 for folder in cpufreq for khz in numbers(folder + "scaling_cur_freq")[:1]],
        "limit_mhz": [khz // 1000 for folder in cpufreq for khz in numbers(folder + "scaling_max_freq")[:1]],
        **read_heat(),
        "slowed_by": slowed_by(),
        "throttled": throttled() if ask_firmware else None,
        "load": [float(word) for word in read_text(PROC + "/loadavg").split()[:3]],
        "free_bytes": available * 1024 if available is not None else None,
        "work": read_work(cores),
    }


def read_facts(cores: list[int]) -> dict[str, Any]:
    """What stays: the machine and its system."""
    cpuinfo = read_text(PROC + "/cpuinfo")
    names = re.findall(r"^(?:model name|Hardware|CPU part)\s*:\s*(.+)$", cpuinfo, re.M)
    told = {word for line in re.findall(r"^(?:Features|flags)\s*:\s*(.+)$", cpuinfo, re.M) for word in line.split()}
    return {
        "model": read_text(PROC + "/device-tree/model") or (names[0] if names else platform.machine()),
        "cpu": sorted(set(names)),
        "features": [feature for feature in FEATURES if feature in told],
        "machine": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "system": platform.platform(),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpus": os.cpu_count(),
        "cores": cores,
        "memory_bytes": (number_after("MemTotal:", read_text(PROC + "/meminfo")) or 0) * 1024,
        "pid": os.getpid(),
    }


def resident_bytes() -> int:
    """Resident memory of this process."""
    fields = read_text("/proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


GUARD = """
trap '' HUP INT TERM
read -r nothing
while [ $# -gt 1 ]; do
  now=
  read -r now <"$1"
  [ "$now" = performance ] && printf %s "$2" >"$1"
  shift 2
done
"""
"""Waits until the runner closes its pipe or is gone; then writes the old governors, unless others were set since."""


class Governor:
    """Holds the cores' frequency with the governor `performance`, until `give_back` or our end, SIGKILL included.

    Args:
        cores: whose policies are set.
        locks: files that stay locked until all is given back, so that the next runner does not meet our setting.

    Attributes:
        was: the governors before.
        why_not: why they are not held, with the mend; None if they are.
    """

    def __init__(self, cores: list[int], locks: list[int]) -> None:
        self.guard: subprocess.Popen[bytes] | None = None
        files = {folder + "/scaling_governor": core for folder, core in policy_folders(cores).items()}
        before = {path: read_text(path) for path in files}
        self.was = sorted(set(before.values()) - {""})
        self.why_not = self.obstacle(before, files)
        changes = {path: name for path, name in before.items() if name != "performance"}
        if self.why_not is not None or not changes:
            return
        # The guard stands before anything is changed. Of a group of its own, it outlives whatever kills our group.
        self.guard = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", *(word for change in changes.items() for word in change)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},  # it is no runner left behind
            start_new_session=True,
            pass_fds=locks,
        )
        try:
            for path in changes:
                Path(path).write_text("performance", encoding="ascii")
        except OSError as error:
            self.why_not = f"it could not be set ({error.strerror}); {self.mend(files)}"
            self.give_back()

    def obstacle(self, before: dict[str, str], files: dict[str, int]) -> str | None:
        """What can be seen to be in the way."""
        if not any(before.values()):
            return "the board tells of no frequency scaling"
        for path in before:
            offered = read_text(str(Path(path).with_name("scaling_available_governors"))).split()
            if "performance" not in offered and before[path] != "performance":
                return f"the kernel offers no governor 'performance', only {', '.join(offered) or 'none'}"
        if not all(os.access(path, os.W_OK) for path, name in before.items() if name != "performance"):
            return f"only root may set it: {self.mend(files)}"
        return None

    @staticmethod
    def mend(files: dict[str, int]) -> str:
        """The command that sets it for good."""
        paths = " ".join(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor" for core in files.values())
        return f"echo performance | sudo tee {paths}"

    def give_back(self) -> None:
        """Has the guard write what was there before, and waits for it."""
        if self.guard is not None and self.guard.stdin is not None:
            self.guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on without us
                self.guard.wait(5)
            self.guard = None


def open_shared(path: str) -> int:
    """Opens a file that any account may lock, and makes it where it is not there; a descriptor.

    It lies in a folder where everybody may put anything: no link is followed, nor a second name of another file. The
    kernel refuses O_CREAT on another account's file there (fs.protected_regular): it is said only where no file is.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC  # opened to read and write, a pipe does not make us wait
    mend = f"remove it: sudo rm -r {path}"
    try:
        try:
            opened = os.open(path, flags)
        except FileNotFoundError:
            try:
                opened = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(opened, 0o666)  # whatever the umask takes away
            except FileExistsError:  # made by another in between
                opened = os.open(path, flags)
    except OSError as error:
        raise Refused("board", f"the board's lock {path} cannot be opened ({error.strerror}); {mend}") from None
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(opened)
        raise Refused("board", f"the board's lock {path} is not a plain file of its own; {mend}")
    return opened


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    found = re.search(r"\) ([A-Za-z])", read_text(f"/proc/{pid}/stat"))
    return found is not None and found.group(1) not in "ZX"


class Runner:
    """Answers requests; see the module for them."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.backend: Backend | None = None
        self.locks: list[int] = []
        self.governor: Governor | None = None
        self.throttled: str | None = None
        self.networks: dict[str, dict[str, Any]] = {}
        self.cores: list[int] = []

    def answer(self, **fields: Any) -> None:
        """Writes one answer."""
        signal.alarm(IDLE_S)
        self.out.write(json.dumps({"ok": True, **fields}, separators=(",", ":")) + "\n")
        self.out.flush()
        signal.alarm(0)

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

    def do_hello(
        self, engine: str, threads: int, cores: list[int], dtype: str, lock: str, owner: str, board_lock: str = ""
    ) -> None:
        """Takes the locks, pins the cores and their frequency, starts the engine."""
        if engine not in BACKENDS:
            raise Refused("engine", f"no engine {engine!r} in this runner; it has {', '.join(sorted(BACKENDS))}")
        self.let_go()
        if board_lock:
            self.take_lock(open_shared(board_lock), owner)
        # The account's own comes second: what stands in it is not touched while another account holds the board.
        self.take_lock(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), owner)
        if cores:
            try:
                os.sched_setaffinity(0, cores)
            except OSError as error:
                raise Refused("request", f"cannot pin to cores {cores}: {error.strerror}") from error
        self.cores = sorted(os.sched_getaffinity(0))
        self.governor = Governor(self.cores, self.locks)
        self.backend = BACKENDS[engine](threads, dtype, Path(lock).parent)
        facts = {**read_facts(self.cores), "engine": engine, "engine_version": self.backend.version}
        # A collection in the middle of a run would be charged to a layer.
        gc.collect()
        gc.disable()
        held = {"set": self.governor.why_not is None, "was": self.governor.was, "why_not": self.governor.why_not}
        self.answer(protocol=PROTOCOL, facts=facts, state=self.state(), governor=held)

    def state(self, *, ask_firmware: bool = True) -> dict[str, Any]:
        """What may have changed; the firmware's bits are the last ones told where it is not asked."""
        state = read_state(self.cores, ask_firmware=ask_firmware)
        self.throttled = state["throttled"] = state["throttled"] if ask_firmware else self.throttled
        return state

    def let_go(self) -> None:
        """Gives back the governor, then the locks."""
        if self.governor is not None:
            self.governor.give_back()
        for held in self.locks:
            os.truncate(held, 0)
            os.close(held)
        self.governor, self.locks = None, []

    def take_lock(self, file: int, owner: str) -> None:
        """flock: the kernel lets go of it when we end, however we end, and our guard with us."""
        deadline = monotonic() + 5
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                # Another account may have written anything.
                told = re.sub(rb"[^\x20-\x7e]", b" ", os.pread(file, 300, 0)).decode("ascii")
                pid = re.search(r"runner pid (\d+)", told)
                # The guard of a runner that was killed still holds the lock while it gives back the governor.
                if pid is None or is_alive(int(pid.group(1))) or monotonic() > deadline:
                    os.close(file)
                    self.let_go()
                    raise Refused("busy", " ".join(told.split()) or "somebody unknown") from None
                sleep(0.02)
        self.locks.append(file)
        try:
            account = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            account = f"user {os.getuid()}"
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, only our name is not in it
            os.truncate(file, 0)
            os.pwrite(file, f"{owner} (runner pid {os.getpid()} of {account} on {socket.gethostname()})\n".encode(), 0)

    def engine(self) -> Backend:
        """The backend, once there was a hello."""
        if self.backend is None:
            raise Refused("request", "say hello first")
        return self.backend

    def do_load(self, name: str, model: str = "", path: str = "", shape: list[int] | None = None) -> None:
        """Loads a network, with or without stamps, or a user's own file."""
        backend, before = self.engine(), resident_bytes()
        if path and not Path(path).is_file():
            raise Refused("engine", f"there is no file {path} on the board")
        if not path and not shape:
            raise Refused("request", "load needs a model and its shape, or a path")
        loaded = backend.load_file(path, shape) if path else backend.load(model, shape or [])
        self.networks[name] = loaded
        order = [] if path else backend.order(loaded)
        inputs = [[name, list(shape)] for (name, _), shape in zip(loaded["inputs"], loaded["shapes"])]  # noqa: B905
        self.answer(order=order, bytes=max(0, resident_bytes() - before), inputs=inputs)

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
        before = self.state(ask_firmware=False)
        for name in names:
            whole, timed = backend.visit(self.networks[name], runs, warm)
            self.answer(name=name, whole=whole, timed=timed)
        after = self.state()
        gc.collect()
        self.answer(before=before, state=after)

    def do_state(self) -> None:
        """What may have changed."""
        self.answer(state=self.state())


def main() -> int:
    """Serves requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the side that started us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, left_alone)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runner = Runner(out)
    try:
        signal.alarm(IDLE_S)
        for line in iter(sys.stdin.readline, ""):
            signal.alarm(0)
            if line.strip():
                runner.handle(line)
            signal.alarm(IDLE_S)
    except BrokenPipeError:
        return 1
    except LeftAlone:
        return IDLE_STATUS
    finally:
        runner.let_go()
        for loaded in runner.networks.values():
            runner.engine().unload(loaded)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # The engine's own clean-up at interpreter exit may crash after a lost link; everything is flushed already.
    os._exit(status)
