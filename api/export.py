"""The bundle a user takes home: folded weights as torch state, ONNX and ncnn, checked against each other; a model card.

Nothing is written unless onnxruntime and ncnn compute, on real pictures, what torch computes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from api.card import model_card
from api.errors import ExportError
from latency.engines import get_engine
from latency.engines.onnx import to_onnx
from nas.data import Dataset
from nas.evaluators.training import TrainedModel, intra_op_threads
from nas.graph import Graph, Op
from nas.network import Network

TOLERANCE = 1e-3
PICTURES = 32
MARK = "lightnas-export.json"
"""The file by which a folder is known to be an export of ours, and may be replaced by a newer one."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Bundle:
    """What was written.

    Attributes:
        folder: where.
        files: name -> sha256 (hex).
        differences: engine -> largest absolute difference of a logit from torch, on real pictures.
    """

    folder: Path
    files: dict[str, str]
    differences: dict[str, float]


def folded_graph(graph: Graph) -> Graph:
    """The inference form: norms folded into weights that now have a bias."""

    def fold(key: str) -> str:
        op = Op.parse(key)
        return replace(op, norm=False, bias=True).key if op.norm else key

    data = graph.to_dict()
    return Graph.from_dict({**data, "nodes": [{**n, "op": fold(n["op"])} for n in data["nodes"]]})


def check_target(folder: Path) -> None:
    """Raises ExportError if writing there would overwrite somebody else's files, or cannot succeed."""
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / MARK).is_file():
            raise ExportError(f"{folder} is not empty and no export of lightnas; name a new folder with --to")
    elif folder.exists() or folder.is_symlink():
        raise ExportError(f"{folder} is a file; name a new folder with --to")


def write_bundle(folder: Path, graph: Graph, model: TrainedModel, dataset: Dataset, facts: Mapping[str, Any]) -> Bundle:
    """Write everything, or nothing.

    Args:
        folder: a new or empty one, or an earlier export, which is replaced.
        graph: the network as trained.
        model: its weights and accuracies.
        dataset: what it was trained on; its test pictures serve the check.
        facts: what the model card tells besides (`api.card`).

    Raises:
        ExportError: an engine disagrees with torch, or the folder cannot be written.
    """
    check_target(folder)
    x = _pictures(dataset)
    want = _run_torch(graph, model, x)
    engine = get_engine("ncnn")
    onnx_bytes = to_onnx(graph, model.folded).SerializeToString()
    param, weights = engine.build(graph).model, engine.weights(graph, model.folded)
    inference = folded_graph(graph)
    state = {
        f"{path}.{part}": torch.from_numpy(array)
        for path, folded in model.folded.items()
        for part, array in folded._asdict().items()
    }
    network = Network(inference)
    network.load_state_dict(state)
    network.eval()
    differences: dict[str, float] = {}

    def fill(temporary: Path) -> None:
        torch.save(state, temporary / "weights.pt")
        (temporary / "graph.json").write_text(json.dumps(inference.to_dict(), indent=1) + "\n")
        (temporary / "network.onnx").write_bytes(onnx_bytes)
        (temporary / "network.ncnn.param").write_text(param)
        (temporary / "network.ncnn.bin").write_bytes(weights)
        with torch.inference_mode(), intra_op_threads(1):
            folded_answer = network(torch.from_numpy(x)).numpy()
        answers = {
            "torch, folded": folded_answer,
            "onnxruntime": _run_onnx(temporary / "network.onnx", x),
            "ncnn": _run_ncnn(temporary / "network.ncnn.param", temporary / "network.ncnn.bin", x),
        }
        for name, got in answers.items():
            differences[name] = _compare(name, got, want)
        files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(temporary.iterdir())}
        card = {
            **facts,
            "files": files,
            "differences": differences,
            "checked_pictures": len(x),
            "tolerance": TOLERANCE,
            "lightnas": version("lightnas"),
        }
        (temporary / MARK).write_text(json.dumps(card, indent=1, default=str) + "\n")
        (temporary / "README.md").write_text(model_card(card))

    _write_atomically(folder, fill)
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
    return Bundle(folder, files, differences)


def _pictures(dataset: Dataset) -> Floats:
    """(n, c, h, w) normalised test pictures, spread over the whole part."""
    rows = np.unique(np.linspace(0, len(dataset.test) - 1, PICTURES).astype(int))
    mean, std = (np.array(v, np.float32)[None, :, None, None] for v in (dataset.mean, dataset.std))
    return np.ascontiguousarray((dataset.test.x[rows].astype(np.float32) / 255 - mean) / std, np.float32)


def _run_torch(graph: Graph, model: TrainedModel, x: Floats) -> Floats:
    network = Network(graph)
    network.load_state_dict(model.state_dict)
    network.eval()
    with torch.inference_mode(), intra_op_threads(1):
        return np.asarray(network(torch.from_numpy(x)).numpy(), np.float32)


def _run_onnx(path: Path, x: Floats) -> Floats:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0], np.float32)


def _run_ncnn(param: Path, weights: Path, x: Floats) -> Floats:
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


def _compare(name: str, got: Floats, want: Floats) -> float:
    difference = float(np.abs(got.reshape(want.shape) - want).max()) if got.size == want.size else float("inf")
    if not difference <= TOLERANCE:  # a NaN is a disagreement, too
        raise ExportError(
            f"{name} disagrees with torch by {difference:g} on real pictures (allowed {TOLERANCE:g}); "
            "nothing was written"
        )
    return difference


def _write_atomically(folder: Path, fill: Callable[[Path], None]) -> None:
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link given as the target
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        fill(temporary)
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        check_target(folder)
        if folder.is_dir() and any(folder.iterdir()):
            folder.rename(old)
        temporary.rename(folder)
        _sync(folder.parent)
    except OSError as e:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise ExportError(f"cannot write {folder}: {e.strerror or e}; name another folder with --to") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
