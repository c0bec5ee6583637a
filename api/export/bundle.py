"""The bundle a user takes home: weights for three engines, programs that use them, a drawing and a model card.

Nothing is written unless onnxruntime, ncnn and the exported `run.py` compute, on real pictures, what torch computes.
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

from api.errors import ExportError
from api.export.card import model_card
from api.export.check import (
    TOLERANCE,
    check_pictures,
    compare,
    normalised,
    run_ncnn,
    run_onnx,
    run_program,
    run_torch,
)
from api.export.curves import draw_curves
from api.export.deploy import ENGINES, deploy_config, write_examples, write_programs
from api.export.drawing import draw_network
from latency.engines import get_engine
from latency.engines.onnx import to_onnx
from nas.data import Dataset
from nas.durable import to_disk
from nas.fold import Folded
from nas.graph import Graph, Op
from nas.training.final import TrainedModel

MARK = "lightnas-export.json"
"""The file by which a folder is known to be an export of ours, and may be replaced by a newer one."""


@dataclass(frozen=True)
class Bundle:
    """What was written.

    Attributes:
        folder: where.
        files: name, with its folder in the bundle -> sha256 (hex).
        differences: engine or program -> largest absolute difference of a logit from torch, on real pictures.
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
        dataset: what it was trained on; its test pictures serve the check, and a few go along.
        facts: what the model card tells besides (`api.export.card`); `engine`, `threads` and `dtype` become the
            options of `deploy.json`, `op_ms` (per op of the graph, or None) the times in the drawing.

    Raises:
        ExportError: an engine disagrees with torch, or the folder cannot be written.
    """
    check_target(folder)
    differences: dict[str, float] = {}
    files: dict[str, str] = {}

    def fill(temporary: Path) -> None:
        write_torch(temporary, graph, model.folded)
        _write_engines(temporary, graph, model.folded)
        write_programs(temporary, deploy_config(graph, dataset, facts))
        examples = write_examples(temporary, dataset)
        (temporary / "network.svg").write_text(draw_network(graph, facts.get("op_ms")), encoding="utf-8")
        (temporary / "training.svg").write_text(draw_curves([("", model.history)]), encoding="utf-8")
        differences.update(_check(temporary, graph, model, dataset, examples))
        files.update(_digests(temporary))
        card = {
            **facts,
            "files": dict(files),
            "bytes": {name: (temporary / name).stat().st_size for name in files},
            "differences": differences,
            "checked_pictures": len(check_pictures(dataset)),
            "tolerance": TOLERANCE,
            "lightnas": version("lightnas"),
        }
        (temporary / MARK).write_text(json.dumps(card, indent=1, default=str) + "\n")
        (temporary / "README.md").write_text(model_card(card), encoding="utf-8")
        files.update(_digests(temporary))

    write_atomically(folder, fill)
    return Bundle(folder, files, differences)


def write_torch(folder: Path, graph: Graph, folded: Mapping[str, Folded]) -> None:
    """Write `graph.json` and `weights.pt`: the inference form, which `Network(Graph.from_dict(…))` loads."""
    state = {
        f"{path}.{part}": torch.from_numpy(array)
        for path, weights in folded.items()
        for part, array in weights._asdict().items()
    }
    torch.save(state, folder / "weights.pt")
    (folder / "graph.json").write_text(json.dumps(folded_graph(graph).to_dict(), indent=1) + "\n")


def _write_engines(folder: Path, graph: Graph, folded: Mapping[str, Folded]) -> None:
    (folder / "network.onnx").write_bytes(to_onnx(graph, folded).SerializeToString())
    engine = get_engine("ncnn")
    (folder / "network.ncnn.param").write_text(engine.build(graph).model)
    (folder / "network.ncnn.bin").write_bytes(engine.weights(graph, folded))


def _check(
    folder: Path, graph: Graph, model: TrainedModel, dataset: Dataset, examples: Mapping[str, int]
) -> dict[str, float]:
    """Engine or program -> its largest difference from torch."""
    x = check_pictures(dataset)
    want = run_torch(graph, model.state_dict, x)
    answers = {
        "torch, folded": run_torch(folded_graph(graph), torch.load(folder / "weights.pt"), x),
        "onnxruntime": run_onnx(folder / "network.onnx", x),
        "ncnn": run_ncnn(folder / "network.ncnn.param", folder / "network.ncnn.bin", x),
    }
    differences = {name: compare(name, got, want) for name, got in answers.items()}
    want = run_torch(graph, model.state_dict, normalised(dataset, np.array(list(examples.values()))))
    programs = {f"run.py, {name}": run_program(folder, list(examples), name) for name in ENGINES}
    return differences | {name: compare(name, got, want) for name, got in programs.items()}


def _digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def write_atomically(folder: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder whole or not at all.

    Args:
        folder: a new or empty one, or an earlier export, which is replaced.
        fill: writes into the folder it is given.

    Raises:
        ExportError: it cannot be written, or is somebody else's.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link given as the target
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        fill(temporary)
        for path in (*temporary.rglob("*"), temporary):
            to_disk(path)
        check_target(folder)
        if folder.is_dir() and any(folder.iterdir()):
            folder.rename(old)
        temporary.rename(folder)
        to_disk(folder.parent)
    except OSError as e:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise ExportError(f"cannot write {folder}: {e.strerror or e}; name another folder with --to") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
