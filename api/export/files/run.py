#!/usr/bin/env python3
"""Classify pictures with the network in this folder.

    python3 run.py picture.png [more ...] [--engine ncnn] [--top 3] [--threads N] [--repeat N]

Needs Python 3.9 or newer, numpy, Pillow, and ncnn or onnxruntime. What there is to know about the network stands in
deploy.json beside this file. Pictures are prepared exactly as they were for the training.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

try:
    import numpy as np
    from PIL import Image, ImageOps
except ImportError as error:
    sys.exit(f"run.py: {error.name} is missing; run: python3 -m pip install numpy pillow")

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # of pictures; Pillow gives others to other programs
# before 9.1, Pillow has these names in Image itself
TRANSPOSE, RESAMPLING = getattr(Image, "Transpose", Image), getattr(Image, "Resampling", Image)
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # EXIF orientation -> what sets a picture upright
    2: TRANSPOSE.FLIP_LEFT_RIGHT,
    3: TRANSPOSE.ROTATE_180,
    4: TRANSPOSE.FLIP_TOP_BOTTOM,
    5: TRANSPOSE.TRANSPOSE,
    6: TRANSPOSE.ROTATE_270,
    7: TRANSPOSE.TRANSVERSE,
    8: TRANSPOSE.ROTATE_90,
}


class Failure(Exception):
    """What the user is told in one line."""


class Ncnn:
    """The network in ncnn."""

    def __init__(self, folder: Path, config: dict[str, Any], threads: int) -> None:
        import ncnn

        files, dtype = config["engines"]["ncnn"], config["dtype"]
        self.name, self.version, self.dtype = "ncnn", ncnn.__version__, dtype
        self.ncnn, self.net, self.blobs = ncnn, ncnn.Net(), (files["input"], files["output"])
        self.net.opt.num_threads = threads  # ncnn's default is every core
        # ncnn turns 16 bits on by itself where the CPU has them; the network was judged with what deploy.json tells.
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(self.net.opt, option, dtype == "fp16")
        self.net.opt.use_bf16_storage = dtype == "bf16"
        for load, file in ((self.net.load_param, "param"), (self.net.load_model, "bin")):
            if load(str(folder / files[file])) != 0:
                raise Failure(f"{folder / files[file]}: ncnn {self.version} cannot load it; export the network again")

    def run(self, x: np.ndarray) -> np.ndarray:
        """Logits (classes,) of one prepared picture (c, h, w)."""
        extractor = self.net.create_extractor()
        extractor.input(self.blobs[0], self.ncnn.Mat(x))  # the Mat borrows the memory of x
        status, out = extractor.extract(self.blobs[1])
        if status != 0:
            raise Failure(f"ncnn {self.version} cannot run the network (status {status})")
        return np.array(out, np.float32).reshape(-1)


class OnnxRuntime:
    """The network in onnxruntime, always with 32 bits."""

    def __init__(self, folder: Path, config: dict[str, Any], threads: int) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
        import onnxruntime

        files = config["engines"]["onnxruntime"]
        self.name, self.version, self.dtype = "onnxruntime", onnxruntime.__version__, "fp32"
        self.blobs = (files["input"], files["output"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            path = str(folder / files["model"])
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no class
            raise Failure(f"{path}: onnxruntime {self.version} cannot load it ({first_line(error)})") from error

    def run(self, x: np.ndarray) -> np.ndarray:
        """Logits (classes,) of one prepared picture (c, h, w)."""
        return np.reshape(self.session.run([self.blobs[1]], {self.blobs[0]: x[None]})[0], -1)


ENGINES = {"ncnn": Ncnn, "onnxruntime": OnnxRuntime}


def first_line(error: Exception) -> str:
    """An error's text, which may be long."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_config(folder: Path) -> dict[str, Any]:
    """The content of deploy.json."""
    path = folder / "deploy.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path} cannot be read ({error}); keep run.py in the exported folder") from error
    return config


def open_network(folder: Path, config: dict[str, Any], engine: str | None, threads: int | None) -> Any:
    """The network in the engine asked for, else in the one it was made for, else in the one that is installed."""
    names = [engine] if engine else sorted(ENGINES, key=lambda name: name != config["engine"])
    problems = []
    for name in names:
        try:
            return ENGINES[name](folder, config, threads or config["threads"])
        except ImportError as error:
            problems.append(first_line(error))
    raise Failure(
        f"{' and '.join(names)} cannot be imported ({'; '.join(problems)}); run: python3 -m pip install {names[0]}"
    )


def prepare(path: Path, config: dict[str, Any]) -> np.ndarray:
    """A picture file as the network reads it: float32 (c, h, w)."""
    shape, mean, std = config["input"], config["mean"], config["std"]
    size = (shape["width"], shape["height"])
    try:
        with Image.open(path, formats=FORMATS) as file:
            # JPEG: decode at a fraction of the size where that is enough
            file.draft(None, (2 * size[0], 2 * size[1]))
            picture = eight_bits(upright(file)).convert("L" if shape["order"] == "grey" else "RGB")
            if picture.size != size:
                picture = ImageOps.fit(picture, size, RESAMPLING.BICUBIC)
    except Exception as error:  # a damaged file can raise nearly anything
        raise Failure(f"{path}: cannot be read as a picture ({first_line(error)})") from error
    x = np.asarray(picture, np.float32).reshape(size[1], size[0], -1).transpose(2, 0, 1) / np.float32(255)
    x = (x - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None]
    return np.ascontiguousarray(x, np.float32)


def upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says; left as it lies where that cannot be read.

    `ImageOps.exif_transpose` writes the EXIF anew, and fails if any tag in it has a strange type.
    """
    picture.load()  # some formats tell it behind the pixels
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF can raise nearly anything; the pixels are sound
        turn = None
    return picture if turn is None else picture.transpose(turn)


def eight_bits(picture: Image.Image) -> Image.Image:
    """Grey or RGB of 8 bits: 16-bit grey scaled, transparency laid on white, palettes and CMYK converted."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.int64).clip(0, 65535)
        return Image.fromarray((levels // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    palette = picture.palette.mode if picture.mode == "P" and picture.palette else ""
    if "transparency" in picture.info or picture.mode.upper().endswith("A") or palette.endswith("A"):
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode == "1" else "RGB")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits (classes,)."""
    powers: np.ndarray = np.exp(logits.astype(np.float64) - logits.max())
    powers /= powers.sum()
    return powers


def classify(network: Any, path: Path, config: dict[str, Any], args: argparse.Namespace) -> None:
    """Print what a picture shows and, if asked, how long the network takes for it."""
    x = prepare(path, config)
    logits = network.run(x)
    if not np.isfinite(logits).all():
        raise Failure(f"{path}: {network.name} {network.version} answers NaN or infinity in {network.dtype}; use fp32")
    values = logits if args.logits else softmax(logits)
    best = np.argsort(-logits, kind="stable")[: args.top]
    width = max(len(config["classes"][i]) for i in best)
    print(path)
    for i in best:
        print(f"  {config['classes'][i]:<{width}} {values[i]:.6f}")
    if args.repeat:
        times_ms = np.empty(args.repeat)
        for i in range(args.repeat):
            start = time.perf_counter()
            network.run(x)
            times_ms[i] = (time.perf_counter() - start) * 1e3
        print(f"  median {np.median(times_ms):.3f} ms, p95 {np.percentile(times_ms, 95):.3f} ms of {args.repeat} runs")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main() -> int:
    """Classify what the command line names; 1 if a picture could not be read, 2 if the network cannot run."""
    folder = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(prog="run.py", description="Classify pictures with the network in this folder.")
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    parser.add_argument("--engine", choices=ENGINES, help="default: what the network was made for, if installed")
    parser.add_argument("--top", type=positive, default=3, metavar="N", help="classes to print (default 3)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of the engine (default: as deploy.json tells)")
    parser.add_argument("--repeat", type=positive, metavar="N", help="time N more runs of the network alone")
    parser.add_argument("--logits", action="store_true", help="print logits instead of probabilities")
    args = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # files may have names that are no text
    try:
        config = load_config(folder)
        network = open_network(folder, config, args.engine, args.threads)
    except Failure as failure:
        print(f"run.py: {failure}", file=sys.stderr)
        return 2
    status = 0
    for path in args.pictures:
        try:
            classify(network, path, config, args)
        except Failure as failure:
            print(f"run.py: {failure}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
