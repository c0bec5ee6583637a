"""Whether the exported files compute what torch computes, on real pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from api.errors import ExportError
from nas.data import Dataset
from nas.graph import Graph
from nas.network import Network
from nas.training.threads import intra_op_threads

TOLERANCE = 1e-3
PICTURES = 32

Floats = NDArray[np.float32]


def check_pictures(dataset: Dataset) -> Floats:
    """(n, c, h, w) normalised test pictures, spread over the whole part."""
    rows = np.unique(np.linspace(0, len(dataset.test) - 1, PICTURES).astype(int))
    return normalised(dataset, rows)


def normalised(dataset: Dataset, rows: NDArray[np.int_]) -> Floats:
    """(n, c, h, w) test pictures as the network reads them."""
    mean, std = (np.array(v, np.float32)[None, :, None, None] for v in (dataset.mean, dataset.std))
    return np.ascontiguousarray((dataset.test.x[rows].astype(np.float32) / 255 - mean) / std, np.float32)


def run_torch(graph: Graph, state: Mapping[str, torch.Tensor], x: Floats) -> Floats:
    """Logits (n, classes) of the torch network with these weights."""
    network = Network(graph)
    network.load_state_dict(dict(state))
    network.eval()
    with torch.inference_mode(), intra_op_threads(1):
        return np.asarray(network(torch.from_numpy(x)).numpy(), np.float32)


def run_onnx(path: Path, x: Floats) -> Floats:
    """Logits (n, classes) of an ONNX file in onnxruntime."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0], np.float32)


def run_ncnn(param: Path, weights: Path, x: Floats) -> Floats:
    """Logits (n, classes) of ncnn files, computed in fp32.

    Raises:
        ExportError: ncnn cannot load or run them.
    """
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    # Half precision is ncnn's default where the CPU has it; the files are fp32 and are judged as such.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(param)) or net.load_model(str(weights)):
        raise ExportError("ncnn cannot load the network it was given")
    out = []
    for picture in x:
        held = np.ascontiguousarray(picture)  # ncnn's Mat borrows the memory
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], ncnn.Mat(held))
        status, mat = extractor.extract(net.output_names()[0])
        if status:
            raise ExportError(f"ncnn cannot run the network (status {status})")
        out.append(np.array(mat, np.float32).reshape(-1))
    return np.stack(out)


def run_program(folder: Path, pictures: list[str], engine: str) -> Floats:
    """Logits (n, classes) that the exported `run.py` gets for picture files, in fp32.

    Its functions are called in this process: what is judged is how it reads `deploy.json` and pictures and feeds the
    engine. The arithmetic of the user's board is judged there (`nas verify`).

    Raises:
        ExportError: it cannot run.
    """
    path = folder / "run.py"
    program = ModuleType("run")
    # Imported by its path it would leave its byte code in the folder.
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), program.__dict__)
    try:
        config: dict[str, Any] = {**program.load_config(folder), "dtype": "fp32"}
        network = program.open_network(folder, config, engine, 1)
        return np.stack([network.run(program.prepare(folder / name, config)) for name in pictures])
    except program.Failure as e:
        raise ExportError(f"the exported run.py fails: {e}; nothing was written") from e


def compare(name: str, got: Floats, want: Floats) -> float:
    """The largest difference of a logit.

    Raises:
        ExportError: it is more than `TOLERANCE`, or not a number.
    """
    difference = float(np.abs(got.reshape(want.shape) - want).max()) if got.size == want.size else float("inf")
    if not difference <= TOLERANCE:  # a NaN is a disagreement, too
        raise ExportError(
            f"{name} disagrees with torch by {difference:g} on real pictures (allowed {TOLERANCE:g}); "
            "nothing was written"
        )
    return difference
