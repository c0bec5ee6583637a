from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from api.export.deploy import cpp_header, deploy_config, write_examples, write_programs
from api.results.artifacts import _checked
from nas.data import Dataset
from nas.graph import Graph


def test_it_tells_what_the_network_reads(graph: Graph, dataset: Dataset) -> None:
    config = deploy_config(graph, dataset, {})
    assert config["input"] == {"channels": 3, "height": 16, "width": 20, "order": "RGB", "layout": "CHW"}
    assert (config["mean"], config["std"]) == (list(dataset.mean), list(dataset.std))
    assert (config["engine"], config["threads"], config["dtype"]) == ("ncnn", 1, "fp32")
    assert config["resize"]["filter"] == "bicubic"


def test_the_engine_is_set_as_it_was_measured(graph: Graph, dataset: Dataset) -> None:
    config = deploy_config(graph, dataset, {"engine": "onnxruntime", "threads": 4, "dtype": "fp32"})
    assert (config["engine"], config["threads"]) == ("onnxruntime", 4)
    assert deploy_config(graph, dataset, {"engine": "somebody's"})["engine"] == "ncnn"


@pytest.mark.parametrize(
    ("dtype", "fp16", "bf16"), [("fp32", "false", "false"), ("fp16", "true", "false"), ("bf16", "false", "true")]
)
def test_the_header_tells_cpp_the_same(graph: Graph, dataset: Dataset, dtype: str, fp16: str, bf16: str) -> None:
    header = cpp_header(deploy_config(graph, dataset, {"threads": 2, "dtype": dtype}))
    assert "channels = 3, height = 16, width = 20;  // RGB" in header
    assert f"fp16 = {fp16}, bf16 = {bf16};" in header
    assert "threads = 2;" in header
    found = re.search(r"mean\[\] = \{(.*)\};", header)
    assert found is not None
    assert [float(value.removesuffix("f")) for value in found[1].split(", ")] == list(dataset.mean)


def test_labels_have_a_line_each(graph: Graph, dataset: Dataset, tmp_path: Path) -> None:
    odd = dataclasses.replace(dataset, classes=("red\nfox", *dataset.classes[1:]))
    write_programs(tmp_path, deploy_config(graph, odd, {}))
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8").splitlines() == ["red fox", *dataset.classes[1:]]


def test_examples_have_names_that_an_artifact_may_have(dataset: Dataset, tmp_path: Path) -> None:
    odd = dataclasses.replace(dataset, classes=(".net", "...", "/etc/..", "blue", "x" * 200))
    for name, row in (written := write_examples(tmp_path, odd)).items():
        assert _checked(name) == name
        assert (tmp_path / name).is_file()
        assert name.endswith(f"-{row}.png")
    assert {Path(name).name.rpartition("-")[0] for name in written} == {"net", "_", "_etc_..", "x" * 60}
