"""A network to export: not trained, but its norms have seen pictures, so that folding matters."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import api.export.deploy
from api.export.bundle import write_bundle
from nas.data import Dataset, Part
from nas.fold import fold
from nas.graph import Graph
from nas.network import Network
from nas.training.final import TrainedModel

CLASSES = ("red fox", "grün", "a/b", "blue", "black")


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """Coloured pictures (3, 16, 20), each class of a tint: channels and sides cannot be mistaken for each other."""
    rng = np.random.default_rng(0)

    def part(n: int) -> Part:
        y = np.arange(n) % len(CLASSES)
        tint = np.array([[200, 60, 30], [40, 180, 60], [160, 150, 20], [30, 60, 220], [20, 20, 20]])[y]
        x = tint[:, :, None, None] + rng.normal(0, 40, (n, 3, 16, 20))
        return Part(x.clip(0, 255).astype(np.uint8), y.astype(np.int64))

    return Dataset.build("tints", CLASSES, {"train": part(100), "val": part(20), "test": part(60)}, flip=False)


@pytest.fixture(scope="session")
def graph(dataset: Dataset) -> Graph:
    graph = Graph(dataset.input)
    x = graph.conv(graph.input, 8, kernel=3, stride=2, act="relu6", path="stem")
    x = graph.depthwise(x, kernel=3, act="relu6", path="s0.b0.dw")
    y = graph.conv(x, 8, path="s0.b0.project")
    x = graph.add(x, y, path="s0.b0.add")
    graph.linear(graph.global_pool(x, path="pool"), len(CLASSES), path="classifier")
    return graph


@pytest.fixture(scope="session")
def model(graph: Graph, dataset: Dataset) -> TrainedModel:
    network = Network(graph, seed=1).train()
    with torch.no_grad():
        network.weighted()["classifier"].weight.mul_(50)  # answers that differ from class to class
        for start in range(0, 96, 32):
            network(torch.from_numpy(dataset.train.x[start : start + 32].astype(np.float32) / 255))
    network.eval()
    recall = dict.fromkeys(dataset.classes, 0.5)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    return TrainedModel(state, fold(network), 0.5, 0.5, recall, len(dataset.train), [])


@pytest.fixture
def facts(graph: Graph, dataset: Dataset, model: TrainedModel) -> dict[str, Any]:
    """What every export knows; a board and its times are known to some only."""
    return copy.deepcopy({
        "search": "mine", "space": "tiny", "encoding": "1,0", "license": "MIT", "genes": {"s1.width": 8},
        "test_accuracy": 0.5, "val_accuracy": None, "search_accuracy": 0.4, "recall": model.recall,
        "flops": graph.flops, "params": graph.params, "predicted_ms": None, "measured_ms": None,
        "measured_p95_ms": None, "board": None, "budgets": {"latency_ms": 2.0}, "data": "tints",
        "data_digest": dataset.digest, "classes": list(dataset.classes), "mean": list(dataset.mean),
        "std": list(dataset.std), "input": list(graph.input.shape), "pictures": 100, "epochs": 2, "seed": 7,
        "trials": 5, "strategy": "annealing", "history": [],
    })  # fmt: skip


@pytest.fixture
def exported(tmp_path: Path, graph: Graph, model: TrainedModel, dataset: Dataset, facts: dict[str, Any]) -> Path:
    """An exported folder."""
    write_bundle(tmp_path / "exported", graph, model, dataset, facts)
    return tmp_path / "exported"


@pytest.fixture(scope="session")
def program() -> ModuleType:
    """The functions of run.py."""
    path = Path(api.export.deploy.__file__).with_name("files") / "run.py"
    module = ModuleType("run")
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module
