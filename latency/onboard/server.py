"""Answers requests: the protocol.

Requests (field `do`), and what the answer holds beside ``"ok": true``:
    hello    engine, threads, cores, dtype, lock, owner   -> the board's facts, its state, governor (see below);
                                                             takes the lock and pins the cores
    load     name, model, shape                           -> bytes (added to resident memory), order (see below)
    load     name, path, shape (a list, or null)          -> bytes, order, inputs: [[name, shape], ...] as they are fed
    unload   names                                        -> nothing
    measure  names, runs, warm                            -> a line a network: name, whole or timed; last the state
                                                             before the first run and the one after the last
    classify name, path, count, first, mean, std          -> a line for some pictures: logits, ns, memory_bytes
    activations name, names, path, first, mean, std       -> a line a value: name, values
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

classify and activations show pictures to such a model with one input of 1 or 3 channels. `path` is a file on the board,
the pictures one after the other in bytes: row by row, the channels of a pixel side by side. The model is fed
(x / 255 - mean) / std, per channel. classify runs `count` of them from `first` on, once each, after one run of the
first that does not count; a line tells the `logits` of the next pictures, the `ns` each run took, without what comes
before it, and the peak of resident memory since the model began to be loaded (since the start, where the kernel does
not let us begin anew) beyond what there was then. activations runs one picture, the `first`, and tells the value of
each of `names`: for ncnn a blob's name, for onnxruntime an output's. Logits and values are fp32 in base64, little
endian, in the order (c, h, w), whatever the engine computes in.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

from .backend import Backend
from .errors import Refused
from .facts import read_facts
from .governor import Governor
from .locks import acquire, open_shared, sign
from .ncnn import NcnnBackend
from .onnxruntime import OnnxRuntimeBackend
from .pictures import read_pictures, to_text
from .state import forget_peak, peak_bytes, read_state, resident_bytes

PROTOCOL = 1
IDLE_S = 180
"""Seconds without a request, or with an answer that nobody takes: the other side is gone, though a cut cable or a
switched-off computer gives us no end of input."""
LINE_S, LINE_PICTURES = 5.0, 256
"""A line of `classify` tells no more than this: who waits for it shall know that we live."""
BACKENDS: dict[str, Callable[[int, str, Path], Backend]] = {"ncnn": NcnnBackend, "onnxruntime": OnnxRuntimeBackend}
"""Each imports its engine when it is made: a board has but one."""


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
        """Takes one lock; where it is held by others, lets go of all."""
        try:
            acquire(file)
        except Refused:
            self.let_go()
            raise
        self.locks.append(file)
        sign(file, owner)

    def engine(self) -> Backend:
        """The backend, once there was a hello."""
        if self.backend is None:
            raise Refused("request", "say hello first")
        return self.backend

    def do_load(self, name: str, model: str = "", path: str = "", shape: list[int] | None = None) -> None:
        """Loads a network, with or without stamps, or a user's own file."""
        backend = self.engine()
        if path:
            forget_peak()
        before = resident_bytes()
        if path and not Path(path).is_file():
            raise Refused("engine", f"there is no file {path} on the board")
        if not path and not shape:
            raise Refused("request", "load needs a model and its shape, or a path")
        loaded = backend.load_file(path, shape) if path else backend.load(model, shape or [])
        loaded["before_bytes"] = before
        self.networks[name] = loaded
        order = [] if path else backend.order(loaded)
        inputs = [[name, list(shape)] for (name, _), shape in zip(loaded["inputs"], loaded["shapes"])]
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

    def shown(self, name: str, mean: list[float], std: list[float]) -> tuple[dict[str, Any], int]:
        """A model that pictures can be shown to, and the bytes of one."""
        loaded = self.networks.get(name)
        if loaded is None:
            raise Refused("request", f"no network {name!r} is loaded")
        shapes = loaded["shapes"]
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][0] not in (1, 3):
            raise Refused("engine", f"the model reads {shapes}, not one picture of 1 or 3 channels (c, h, w)")
        c, h, w = shapes[0]
        if len(mean) != c or len(std) != c:
            raise Refused("request", f"{len(mean)} means and {len(std)} deviations for {c} channel(s)")
        return loaded, c * h * w

    def do_classify(self, name: str, path: str, count: int, first: int, mean: list[float], std: list[float]) -> None:
        """Runs each of some pictures once."""
        backend, (loaded, size) = self.engine(), self.shown(name, mean, std)
        for pixels in read_pictures(path, size, first, 1):
            backend.show(loaded, pixels, mean, std)
            backend.run(loaded)
        logits: list[bytes] = []
        times: list[int] = []
        since = monotonic()
        for left, pixels in zip(range(count - 1, -1, -1), read_pictures(path, size, first, count)):
            backend.show(loaded, pixels, mean, std)
            start, end = backend.run(loaded)
            logits.append(backend.answer(loaded))
            times.append(end - start)
            if not left or len(times) == LINE_PICTURES or monotonic() - since > LINE_S:
                memory_bytes = max(0, peak_bytes() - loaded["before_bytes"])
                self.answer(logits=to_text(b"".join(logits)), ns=times, memory_bytes=memory_bytes)
                logits, times, since = [], [], monotonic()

    def do_activations(
        self, name: str, names: list[str], path: str, first: int, mean: list[float], std: list[float]
    ) -> None:
        """Shows one picture and tells what is computed on the way."""
        backend, (loaded, size) = self.engine(), self.shown(name, mean, std)
        for pixels in read_pictures(path, size, first, 1):
            backend.show(loaded, pixels, mean, std)
        for value, values in zip(names, backend.values(loaded, names)):
            self.answer(name=value, values=to_text(values))

    def do_state(self) -> None:
        """What may have changed."""
        self.answer(state=self.state())
