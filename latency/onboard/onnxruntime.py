"""onnxruntime on the board."""

from __future__ import annotations

import base64
import importlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from .backend import Backend
from .errors import Refused
from .kernels import KERNEL, charge, intervals

_NUMPY_TYPES = {f"tensor({name})": name for name in ("float16", "double", "int64", "int32", "uint8", "int8", "bool")}
_NUMPY_TYPES["tensor(float)"] = "float32"


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
            if charge(kernels[0], loaded["owners"])[1] < 0.1:  # of a tiny network most may be copies between layouts
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
        sizes = [want if size is None else size for size, want in zip(fixed, wanted)]
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

    def show(self, loaded: dict[str, Any], pixels: bytes, mean: list[float], std: list[float]) -> None:
        """Binds the normalised picture in place of the zeros."""
        numpy, (name, fed), (c, h, w) = self.numpy, loaded["inputs"][0], loaded["shapes"][0]
        x = numpy.frombuffer(pixels, numpy.uint8).reshape(h, w, c).transpose(2, 0, 1)
        scale, shift = (numpy.array(v, numpy.float32)[:, None, None] for v in (std, mean))
        x = ((x.astype(numpy.float32) / 255 - shift) / scale).astype(fed.dtype)
        loaded["inputs"][0] = (name, numpy.ascontiguousarray(x)[None])
        loaded["binding"].bind_cpu_input(*loaded["inputs"][0])

    def answer(self, loaded: dict[str, Any]) -> bytes:
        """The first output of the last run."""
        return bytes(loaded["binding"].get_outputs()[0].numpy().astype("<f4").tobytes())

    def values(self, loaded: dict[str, Any], names: list[str]) -> Iterator[bytes]:
        """Outputs by name: whoever wants more than the answer sends a model that has them as outputs."""
        try:
            made = loaded["session"].run(names, dict(loaded["inputs"]))
        except Exception as error:  # its errors share no class
            raise Refused("engine", f"onnxruntime could not run the network: {first_line(error)}") from error
        for value in made:
            yield bytes(value.astype("<f4").tobytes())

    def visit(self, loaded: dict[str, Any], runs: int, warm: int) -> tuple[list[int], list[list[int]]]:
        """Runs of a network without stamps, whole; or of one with, timed."""
        if not loaded["stamps"]:
            for _ in range(warm):
                self.run(loaded)
            return [end - start for start, end in (self.run(loaded) for _ in range(runs))], []
        spans, kernels = self.profile(loaded, runs, warm)
        charged, _ = charge(kernels[0], loaded["owners"])
        lines = [
            intervals(run, charged, len(loaded["stamps"]), end - start) for run, (start, end) in zip(kernels, spans)
        ]
        timed, each = [], len(lines) // runs
        for first in range(0, len(lines), each):
            faster = sorted(lines[first : first + each], key=sum)[: (each + 1) // 2]
            timed.append([round(sum(column) / len(faster)) for column in zip(*faster)])
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
            if event["cat"] == "Node" and event["name"].endswith(KERNEL):
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


def first_line(error: Exception) -> str:
    """What an engine says, in one line."""
    return " ".join(str(error).split())[:300]
