from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.errors import WeightsError
from nas.fold import fold
from nas.graph import Graph
from nas.network import Network
from nas.op import Op
from nas.space import SearchSpace
from nas.spaces.families import build_mobilenet_v2
from nas.training import checkpoint
from nas.weights import Weights


@pytest.fixture
def network(small: SearchSpace) -> Network:
    return Network(small.graph([0] * len(small.genes)), seed=3).eval()


@pytest.fixture
def export(network: Network, tmp_path: Path) -> Path:
    """A folder as `nas export` writes it."""
    folder = tmp_path / "export"
    folder.mkdir()
    state = {f"{p}.{part}": torch.from_numpy(v) for p, f in fold(network).items() for part, v in f._asdict().items()}
    torch.save(state, folder / "weights.pt")
    data = network.graph.to_dict()

    def folded(key: str) -> str:
        op = Op.parse(key)
        return dataclasses.replace(op, norm=False, bias=True).key if op.norm else key

    nodes = [{**n, "op": folded(n["op"])} for n in data["nodes"]]
    (folder / "graph.json").write_text(json.dumps({**data, "nodes": nodes}))
    return folder


def _answers(network: Network) -> torch.Tensor:
    x = torch.randn((2, *network.graph.input.shape), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return network(x)


@pytest.mark.parametrize("name", ["", "weights.pt"])
def test_an_export_is_its_own_teacher(network: Network, export: Path, name: str) -> None:
    weights = Weights.load(export / name)
    assert weights.layout == "lightnas-folded"
    assert weights.digest == hashlib.sha256((export / "weights.pt").read_bytes()).hexdigest()
    teacher = weights.network((3, 64, 64), 10)
    assert not teacher.training
    assert teacher.graph.input.shape == (3, 32, 32)  # its own size, whatever the pictures'
    torch.testing.assert_close(_answers(teacher), _answers(network), atol=1e-5, rtol=1e-4)
    again = Network(network.graph, seed=5)
    assert weights.fit(again).share == 1
    torch.testing.assert_close(_answers(again.eval()), _answers(network), atol=1e-5, rtol=1e-4)


def test_a_training_checkpoint_fits_but_does_not_tell_its_network(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"identity": "", "network": network.state_dict()})
    weights = Weights.load(path)
    assert (weights.path, weights.layout) == (path, "lightnas")
    assert weights.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    again = Network(network.graph, seed=5)
    weights.fit(again)
    assert torch.equal(_answers(again.eval()), _answers(network))
    with pytest.raises(WeightsError, match=r"checkpoint.pt does not say which network it is of; name an export"):
        weights.network((3, 32, 32), 10)


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
@pytest.mark.parametrize("side", [32, 96, 160])
def test_a_published_mobilenet_v2_is_a_teacher(
    tmp_path: Path, request: pytest.FixtureRequest, layout: str, side: int
) -> None:
    path = tmp_path / "some.pth"
    torch.save(request.getfixturevalue(f"{layout}_state")(0.35, 7), path)
    weights = Weights.load(path)
    assert weights.layout == layout
    teacher = weights.network((3, side, side), 7)
    reduction = {32: 8, 96: 16, 160: 32}[side]
    assert teacher.graph == build_mobilenet_v2((3, side, side), 7, 0.35, reduction)
    answers = _answers(teacher)
    assert answers.shape == (2, 7)
    assert np.isfinite(answers.numpy()).all()


def test_both_libraries_names_give_the_same_network(tmp_path: Path, torchvision_state, timm_state) -> None:
    """Drawn in the same order, the numbers are equal: only the names differ."""
    teachers = []
    for name, state in (("a", torchvision_state), ("b", timm_state)):
        torch.save(state(0.5, 5), tmp_path / name)
        teachers.append(Weights.load(tmp_path / name).network((3, 64, 64), 5))
    assert torch.equal(_answers(teachers[0]), _answers(teachers[1]))


def _message(weights: Weights, *arguments: object) -> str:
    with pytest.raises(WeightsError) as caught:
        weights.network(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_teacher_of_other_classes_or_channels_is_refused(export: Path) -> None:
    weights = Weights.load(export)
    assert "tells 10 classes apart, not 3" in _message(weights, (3, 32, 32), 3)
    assert "reads 3 channels, the pictures have 1" in _message(weights, (1, 32, 32), 10)


def test_a_network_that_is_no_mobilenet_v2_is_no_teacher(tmp_path: Path, timm_state) -> None:
    path = tmp_path / "some.pth"

    def told(changes: dict[str, torch.Tensor], without: str = "-") -> str:
        state = {k: v for k, v in timm_state(0.25, 7).items() if not k.startswith(without)}
        torch.save({**state, **changes}, path)
        return _message(Weights.load(path), (3, 32, 32), 7)

    assert "the weights of classifier are missing" in told({}, "classifier")
    assert "s1.b0 has kernel 5" in told({"blocks.1.0.conv_dw.weight": torch.ones(48, 1, 5, 5)})
    se = {"blocks.1.0.se.conv_reduce.weight": torch.ones(8, 48, 1, 1), "blocks.1.0.se.conv_reduce.bias": torch.ones(8)}
    assert "unused: s1.b0.se.reduce" in told(se)
    assert "unused: aux.weight" in told({"aux.weight": torch.ones(2, 2)})


def test_a_graph_that_is_broken_or_of_other_weights_is_told(export: Path, small: SearchSpace) -> None:
    weights = Weights.load(export)
    other = small.graph([1] * len(small.genes))
    (export / "graph.json").write_text(json.dumps(other.to_dict()))
    assert "does not hold the weights of the network it would be; it has no weights for" in _message(
        weights, (3, 32, 32), 10
    )
    g = Graph((3, 32, 32))
    x = g.conv(g.input, 16, kernel=3, stride=2, path="stem")
    g.linear(g.global_pool(x, path="pool"), 10, path="other")
    (export / "graph.json").write_text(json.dumps(g.to_dict()))
    assert "it has no weights for other" in _message(weights, (3, 32, 32), 10)
    (export / "graph.json").write_text("{")
    assert "graph.json describes no network" in _message(weights, (3, 32, 32), 10)
    (export / "graph.json").unlink()
    assert "does not say which network it is of" in _message(weights, (3, 32, 32), 10)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    torch.save({"conv1.weight": torch.ones(2, 2, 1, 1)}, path)
    with pytest.raises(WeightsError, match=r"some.pth: the names of its tensors are unknown \(conv1.weight\)"):
        Weights.load(path)
