from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from api.errors import ExportError
from api.export import MARK, folded_graph, write_bundle
from nas.data import Dataset, load_data
from nas.evaluators.training import TrainedModel
from nas.fold import fold
from nas.graph import Graph
from nas.network import Network
from nas.spaces import build_space

ENCODING = (1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_data("digits", resolution=16)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_space("mobilenetv2-small", resolution=16).graph(ENCODING)


@pytest.fixture(scope="module")
def model(graph: Graph, dataset: Dataset) -> TrainedModel:
    """Not trained, but its norms have seen data, so that folding matters."""
    network = Network(graph, seed=1).train()
    with torch.no_grad():
        for start in range(0, 96, 32):
            network(torch.from_numpy(dataset.train.x[start : start + 32].astype(np.float32) / 255))
    network.eval()
    recall = dict.fromkeys(dataset.classes, 0.5)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    return TrainedModel(state, fold(network), 0.5, 0.5, recall, len(dataset.train), [])


def _facts(graph: Graph, dataset: Dataset, model: TrainedModel) -> dict[str, Any]:
    space = build_space("mobilenetv2-small", resolution=16)
    return {
        "search": "mine", "space": space.name, "encoding": ",".join(map(str, ENCODING)), "license": "MIT",
        "genes": space.decode(ENCODING), "test_accuracy": 0.5, "val_accuracy": None, "search_accuracy": 0.4,
        "recall": model.recall, "flops": graph.flops, "params": graph.params, "predicted_ms": 1.5, "measured_ms": None,
        "measured_p95_ms": None, "board": {"board": "pi4", "cores": [0, 1]}, "budgets": {"latency_ms": 2.0},
        "data": "digits", "data_digest": dataset.digest, "classes": list(dataset.classes), "mean": list(dataset.mean),
        "std": list(dataset.std), "input": list(graph.input.shape), "pictures": 3, "epochs": 2, "seed": 7, "trials": 5,
        "strategy": "annealing", "history": [],
    }  # fmt: skip


def test_the_bundle_is_complete_and_agrees(graph: Graph, dataset: Dataset, model: TrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "winner"
    bundle = write_bundle(folder, graph, model, dataset, _facts(graph, dataset, model))
    names = {"README.md", MARK, "graph.json", "weights.pt", "network.onnx", "network.ncnn.param", "network.ncnn.bin"}
    assert {p.name for p in folder.iterdir()} == names == set(bundle.files)
    assert set(bundle.differences) == {"torch, folded", "onnxruntime", "ncnn"}
    assert max(bundle.differences.values()) <= 1e-3
    card = (folder / "README.md").read_text()
    for text in (
        "license: MIT",
        "`s1.width`"[1:-1],
        dataset.digest,
        "pi4",
        "### Recall per class",
        bundle.files["network.onnx"],
    ):
        assert text in card
    assert [p.name for p in folder.parent.iterdir()] == ["winner"]


def test_the_torch_state_can_be_used_as_the_card_says(
    graph: Graph, dataset: Dataset, model: TrainedModel, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "w", graph, model, dataset, _facts(graph, dataset, model))
    network = Network(Graph.from_dict(json.loads((tmp_path / "w" / "graph.json").read_text())))
    network.load_state_dict(torch.load(tmp_path / "w" / "weights.pt"))
    whole = Network(graph)
    whole.load_state_dict(model.state_dict)
    x = torch.randn(4, *graph.input.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(network.eval()(x), whole.eval()(x), atol=1e-4)
    assert not any(op.norm for op in folded_graph(graph).ops)


def test_an_earlier_export_is_replaced_and_a_foreign_folder_is_not(
    graph: Graph, dataset: Dataset, model: TrainedModel, tmp_path: Path
) -> None:
    facts = _facts(graph, dataset, model)
    write_bundle(tmp_path / "w", graph, model, dataset, facts)
    write_bundle(tmp_path / "w", graph, model, dataset, {**facts, "license": "BSD"})
    assert "license: BSD" in (tmp_path / "w" / "README.md").read_text()
    foreign = tmp_path / "theirs"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(ExportError, match="is not empty and no export of lightnas"):
        write_bundle(foreign, graph, model, dataset, facts)
    with pytest.raises(ExportError, match="is a file"):
        write_bundle(foreign / "thesis.tex", graph, model, dataset, facts)
    assert [p.name for p in foreign.iterdir()] == ["thesis.tex"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["theirs", "w"]


def test_nothing_is_written_when_an_engine_disagrees(
    graph: Graph, dataset: Dataset, model: TrainedModel, tmp_path: Path
) -> None:
    path, folded = next(iter(model.folded.items()))
    wrong = dataclasses.replace(model, folded={**model.folded, path: folded._replace(weight=folded.weight * 1.5)})
    with pytest.raises(ExportError, match=r"disagrees with torch by .* nothing was written"):
        write_bundle(tmp_path / "w", graph, wrong, dataset, _facts(graph, dataset, model))
    assert list(tmp_path.iterdir()) == []
