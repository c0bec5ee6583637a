from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import api.export.bundle
from api.errors import ExportError
from api.export.bundle import MARK, folded_graph, write_bundle
from api.export.deploy import deploy_config
from nas.data import Dataset
from nas.graph import Graph
from nas.network import Network
from nas.training.final import TrainedModel

NAMES = {
    "README.md", MARK, "graph.json", "weights.pt", "network.onnx", "network.ncnn.param", "network.ncnn.bin",
    "network.svg", "training.svg", "labels.txt", "deploy.json", "run.py", "cpp/main.cpp", "cpp/picture.h",
    "cpp/CMakeLists.txt", "cpp/network_config.h",
}  # fmt: skip
Facts = dict[str, Any]


def test_the_bundle_is_complete_and_agrees(
    graph: Graph, dataset: Dataset, model: TrainedModel, facts: Facts, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "winner"
    bundle = write_bundle(folder, graph, model, dataset, facts)
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == set(bundle.files)
    examples = {name for name in found if name.startswith("examples/")}
    assert found == NAMES | examples
    assert {name.rpartition("-")[0] for name in examples} == {
        "examples/red_fox", "examples/gr_n", "examples/a_b", "examples/black"
    }  # fmt: skip
    names = {"torch, folded", "onnxruntime", "ncnn", "run.py, ncnn", "run.py, onnxruntime"}
    assert set(bundle.differences) == names
    assert max(bundle.differences.values()) <= 1e-3
    told = json.loads((folder / MARK).read_text())
    assert told["files"] == {name: bundle.files[name] for name in found - {MARK, "README.md"}}
    assert told["bytes"]["network.ncnn.bin"] == (folder / "network.ncnn.bin").stat().st_size
    assert [p.name for p in folder.parent.iterdir()] == ["winner"]


def test_the_torch_state_can_be_used_as_the_card_says(
    graph: Graph, dataset: Dataset, model: TrainedModel, facts: Facts, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "w", graph, model, dataset, facts)
    network = Network(Graph.from_dict(json.loads((tmp_path / "w" / "graph.json").read_text())))
    network.load_state_dict(torch.load(tmp_path / "w" / "weights.pt"))
    whole = Network(graph)
    whole.load_state_dict(model.state_dict)
    x = torch.randn(4, *graph.input.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(network.eval()(x), whole.eval()(x), atol=1e-4)
    assert not any(op.norm for op in folded_graph(graph).ops)


def test_an_earlier_export_is_replaced_and_a_foreign_folder_is_not(
    graph: Graph, dataset: Dataset, model: TrainedModel, facts: Facts, tmp_path: Path
) -> None:
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
    graph: Graph, dataset: Dataset, model: TrainedModel, facts: Facts, tmp_path: Path
) -> None:
    path, folded = next(iter(model.folded.items()))
    wrong = dataclasses.replace(model, folded={**model.folded, path: folded._replace(weight=folded.weight * 1.5)})
    with pytest.raises(ExportError, match=r"disagrees with torch by .* nothing was written"):
        write_bundle(tmp_path / "w", graph, wrong, dataset, facts)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_when_the_exported_program_answers_otherwise(
    graph: Graph, dataset: Dataset, model: TrainedModel, facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(*args: Any) -> dict[str, Any]:
        config = deploy_config(*args)
        return {**config, "mean": config["mean"][::-1]}

    monkeypatch.setattr(api.export.bundle, "deploy_config", swapped)
    with pytest.raises(ExportError, match=r"^run.py, ncnn disagrees with torch by .* nothing was written"):
        write_bundle(tmp_path / "w", graph, model, dataset, facts)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_when_the_exported_program_cannot_run(
    graph: Graph, dataset: Dataset, model: TrainedModel, facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misnamed(*args: Any) -> dict[str, Any]:
        config = deploy_config(*args)
        config["engines"]["ncnn"]["bin"] = "network.bin"
        return config

    monkeypatch.setattr(api.export.bundle, "deploy_config", misnamed)
    with pytest.raises(ExportError, match=r"the exported run.py fails: .*network.bin: .*nothing was written"):
        write_bundle(tmp_path / "w", graph, model, dataset, facts)
    assert list(tmp_path.iterdir()) == []


def test_what_the_board_told_is_in_the_export(
    graph: Graph, dataset: Dataset, model: TrainedModel, facts: Facts, tmp_path: Path
) -> None:
    op_ms = [0.25] * len(graph.nodes)
    told = {**facts, "predicted_ms": 1.5, "op_ms": op_ms, "engine": "ncnn", "threads": 4, "dtype": "fp16"}
    write_bundle(tmp_path / "w", graph, model, dataset, told)
    config = json.loads((tmp_path / "w" / "deploy.json").read_text())
    assert (config["engine"], config["threads"], config["dtype"]) == ("ncnn", 4, "fp16")
    assert f"{sum(op_ms):.3g} ms predicted" in (tmp_path / "w" / "network.svg").read_text()
    assert "4 thread(s) in fp16" in (tmp_path / "w" / "README.md").read_text()
