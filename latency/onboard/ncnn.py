"""ncnn on the board."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from .backend import Backend
from .errors import Refused
from .procfs import read_text

_TWO_LAYERS = """7767517
4 4
Input in0 0 1 in0
Convolution a 1 1 in0 a 0=16 1=3 4=1 5=1 6=2304
Stamp s 1 1 a b
Convolution c 1 1 b out0 0=16 1=3 4=1 5=1 6=2304
"""


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
        for name, shape in zip(names, shapes):
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
        failed, made = 0, []
        for name in loaded["outputs"]:
            status, blob = extractor.extract(name)
            failed = failed or status
            made.append(blob)
        end = perf_counter_ns()
        loaded["made"] = made
        if failed:
            raise Refused("engine", f"ncnn could not run the network (status {failed})")
        return start, end

    def show(self, loaded: dict[str, Any], pixels: bytes, mean: list[float], std: list[float]) -> None:
        """As the program that is deployed does: ncnn makes a blob of the pixels and normalises it."""
        name, (c, h, w) = loaded["inputs"][0][0], loaded["shapes"][0]
        kinds = self.ncnn.Mat.PixelType
        blob = self.ncnn.Mat.from_pixels(pixels, int(kinds.PIXEL_RGB if c == 3 else kinds.PIXEL_GRAY), w, h)
        blob.substract_mean_normalize([255 * m for m in mean], [1 / (255 * s) for s in std])
        loaded["inputs"][0] = (name, blob)

    def answer(self, loaded: dict[str, Any]) -> bytes:
        """The first output of the last run; ncnn has made it fp32, in the plain layout."""
        return memoryview(loaded["made"][0]).tobytes()

    def values(self, loaded: dict[str, Any], names: list[str]) -> Iterator[bytes]:
        """The blobs of those names, of one run that gives none of them back for others to use."""
        extractor = loaded["net"].create_extractor()
        extractor.set_light_mode(False)
        for name, blob in loaded["inputs"]:
            extractor.input(name, blob)
        for name in names:
            status, blob = extractor.extract(name)
            if status:
                raise Refused("engine", f"ncnn could not compute {name} (status {status}): has the file such a blob?")
            yield memoryview(blob).tobytes()

    def timed(self, loaded: dict[str, Any]) -> list[int]:
        """One inference of a network with stamps: the intervals in ns, in the order they ran."""
        self.times.clear()
        start, end = self.run(loaded)
        marks = [start, *self.times, end]
        return [b - a for a, b in zip(marks, marks[1:])]

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
