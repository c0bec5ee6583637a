"""What a program needs to classify pictures with an exported network, and two programs that do.

`deploy.json` and `labels.txt` describe the network; `run.py` and `cpp/` (shipped in `files/`, copied as they are) use
it without lightnas. `cpp/network_config.h` tells C++ what `deploy.json` tells everybody else.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latency.engines.ncnn import INPUT, OUTPUT
from nas.data import Dataset
from nas.graph import Graph

FORMAT = 1
EXAMPLES = 4
ENGINES: Mapping[str, Mapping[str, str]] = {
    "ncnn": {"param": "network.ncnn.param", "bin": "network.ncnn.bin", "input": INPUT, "output": OUTPUT},
    "onnxruntime": {"model": "network.onnx", "input": "input", "output": "output"},
}
_PROGRAMS = Path(__file__).with_name("files")

_HEADER = """\
// What the network reads and how it is run. Written by lightnas; deploy.json tells the same.
#pragma once

namespace network {{
constexpr int channels = {channels}, height = {height}, width = {width};  // {order}
constexpr float mean[] = {{{mean}}};  // of pixels / 255
constexpr float stddev[] = {{{std}}};
constexpr char param[] = "{param}", bin[] = "{bin}";
constexpr char input[] = "{input}", output[] = "{output}";
constexpr int threads = {threads};
constexpr bool fp16 = {fp16}, bf16 = {bf16};
}}  // namespace network
"""


def deploy_config(graph: Graph, dataset: Dataset, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `deploy.json`.

    Args:
        graph: the network.
        dataset: whose pictures it was trained on, prepared as told under `resize`.
        facts: `engine`, `threads` and `dtype` that the network was measured with; without them ncnn, 1 and fp32.
    """
    c, h, w = graph.input.shape
    engine = facts.get("engine")
    return {
        "format": FORMAT,
        "classes": [re.sub(r"[\r\n]+", " ", name) for name in dataset.classes],  # a line each in labels.txt
        "input": {"channels": c, "height": h, "width": w, "order": "grey" if c == 1 else "RGB", "layout": "CHW"},
        "resize": {
            "jpeg": "decoded at 1/8, 1/4 or 1/2 of its size, at least twice the input's",
            "orientation": "exif",
            "transparency": "white",
            "fit": "cover",
            "crop": "centre",
            "filter": "bicubic",
            "antialias": True,
        },
        "scale": 1 / 255,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "engine": engine if engine in ENGINES else "ncnn",
        "threads": facts.get("threads") or 1,
        "dtype": facts.get("dtype") or "fp32",
        "engines": {name: dict(files) for name, files in ENGINES.items()},
    }


def cpp_header(config: Mapping[str, Any]) -> str:
    """`network_config.h` of a `deploy.json`."""
    return _HEADER.format(
        **{key: config["input"][key] for key in ("channels", "height", "width", "order")},
        **{key: ", ".join(f"{float(value)!r}f" for value in config[key]) for key in ("mean", "std")},
        **config["engines"]["ncnn"],
        threads=config["threads"],
        fp16=str(config["dtype"] == "fp16").lower(),
        bf16=str(config["dtype"] == "bf16").lower(),
    )


def write_programs(folder: Path, config: Mapping[str, Any]) -> None:
    """Write labels, `deploy.json`, `run.py` and the C++ program."""
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in config["classes"]), encoding="utf-8")
    (folder / "deploy.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(_PROGRAMS / "run.py", folder / "run.py")
    (folder / "cpp").mkdir()
    for name in ("CMakeLists.txt", "main.cpp", "picture.h"):
        shutil.copyfile(_PROGRAMS / "cpp" / name, folder / "cpp" / name)
    (folder / "cpp" / "network_config.h").write_text(cpp_header(config), encoding="utf-8")


def write_examples(folder: Path, dataset: Dataset) -> dict[str, int]:
    """Write a test picture each of a few classes, spread over all, as `examples/CLASS-ROW.png`; none is hidden.

    Returns:
        Name inside the folder -> row of the picture in the test part.
    """
    (folder / "examples").mkdir()
    written: dict[str, int] = {}
    for label in _spread(len(dataset.classes), EXAMPLES):
        row = int(np.flatnonzero(dataset.test.y == label)[0])
        x = np.asarray(dataset.test.x[row])
        shown = re.sub(r"[^0-9A-Za-z_.-]+", "_", dataset.classes[label]).lstrip(".")[:60] or "_"
        name = f"examples/{shown}-{row}.png"
        Image.fromarray(x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0))).save(folder / name)
        written[name] = row
    return written


def _spread(count: int, most: int) -> Sequence[int]:
    return sorted({int(i) for i in np.linspace(0, count - 1, most)})
