from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from results import refused

from api.boards.user_models import parse_shape
from api.errors import OptionError
from api.store import Store
from latency.engines import get_engine
from latency.engines.onnx import to_onnx
from latency.predict import predict
from latency.table import LatencyTable
from nas.spaces import build_space

Nas = Callable[..., tuple[int, str, str]]
MakeTable = Callable[..., LatencyTable]
SPACE = build_space("mobilenetv2-small")
GRAPH = SPACE.graph(SPACE.sample(np.random.default_rng(0))[0])


def loaded(result: tuple[int, str, str]) -> Any:
    status, out, err = result
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.fixture
def param(tmp_path: Path) -> Path:
    path = tmp_path / "mine.param"
    path.write_text(get_engine("ncnn").build(GRAPH).model)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = {}
    for node in GRAPH.nodes:
        op = node.op
        if op.kind in ("conv", "depthwise", "linear"):
            (c, h, w), c_out = op.inputs[0], op.outputs[0][0]
            shape = (c_out, c * h * w) if op.kind == "linear" else (c_out, c // op.groups, *op.kernel)
            weights[node.path] = (np.zeros(shape, np.float32), np.zeros(c_out, np.float32))
    onnx.save(to_onnx(GRAPH, weights), tmp_path / "mine.onnx")
    return tmp_path / "mine.onnx"


def store(*tables: LatencyTable) -> None:
    with Store.open() as opened:
        for table in tables:
            opened.tables.add(table)


# Prediction ----------------------------------------------------------------------------------------------------------


def test_a_file_is_priced_as_the_network_of_the_space_is(
    nas: Nas, home: Path, make_table: MakeTable, model: Path, param: Path
) -> None:
    table = make_table(SPACE)
    store(table)
    for option, file in (("--onnx", model), ("--param", param)):
        found = loaded(nas("predict", option, file, "--table", "here", "--json", "--ops"))
        assert (found["flops"], found["params_unfolded"]) == (GRAPH.flops, GRAPH.params)
        assert found["latency_ms"] == pytest.approx(predict(table, GRAPH))
        assert (found["missing"], found["unsupported"], found["table"]) == ([], [], table.digest)
        assert len(found["ops"]) == found["op_count"] == found["known_ops"] == len(GRAPH.nodes)
        status, out, _ = nas("predict", option, file, "--table", table.digest[:8])
        assert status == 0
        assert f"predicted on here: {found['latency_ms']:.4g} ms" in out
    without = loaded(nas("predict", "--onnx", model, "--json"))
    assert "latency_ms" not in without


def test_missing_ops_are_listed_with_what_to_do(nas: Nas, home: Path, make_table: MakeTable, param: Path) -> None:
    table = make_table(SPACE)
    first = next(iter(GRAPH.nodes))
    key = get_engine("ncnn").engine_key(first.op)
    store(replace(table, entries={k: e for k, e in table.entries.items() if k != key}))
    found = loaded(nas("predict", "--param", param, "--table", "here", "--json"))
    assert found["latency_ms"] is None
    assert [(m["path"], m["kernel"]) for m in found["missing"]] == [(first.path, key)]
    assert 0 < found["known_ms"] < predict(table, GRAPH)
    out = nas("predict", "--param", param, "--table", "here", "--ops")[1]
    assert f"{first.path}: {key}" in out
    assert "nas profile here --space" in out
    assert f"nas measure here {param}" in out
    assert "missing" in out


def test_the_table_of_the_board_that_lacks_least_is_taken(
    nas: Nas, home: Path, make_table: MakeTable, param: Path
) -> None:
    whole = make_table(SPACE)
    store(whole, replace(whole, entries=dict(list(whole.entries.items())[:5])))
    assert loaded(nas("predict", "--param", param, "--table", "here", "--json"))["table"] == whole.digest


def test_what_no_op_expresses_is_named(nas: Nas, home: Path, make_table: MakeTable, param: Path) -> None:
    param.write_text(param.read_text().replace("Pooling pool", "Softmax pool"))
    store(make_table(SPACE))
    found = loaded(nas("predict", "--param", param, "--table", "here", "--json"))
    assert (found["unsupported"][0]["node"], found["unsupported"][0]["type"]) == ("pool", "Softmax")
    assert found["latency_ms"] is None
    assert "pool (Softmax): " in nas("predict", "--param", param, "--table", "here")[1]


def test_what_to_price_is_one_thing(nas: Nas, param: Path, model: Path, tmp_path: Path) -> None:
    for arguments in (
        ("--onnx", model, "--param", param),
        ("--onnx", model, "--space", "light-nas"),
        ("--onnx", model, "0,1"),
        ("--onnx", param),
        ("--param", model),
        (),
        ("--space", "light-nas"),
        ("0,1",),
        ("--param", param, "--shape", "3x32"),
        ("--param", param, "--shape", "3x64x64"),
        ("--param", tmp_path / "no.param"),
    ):
        refused(nas("predict", *arguments))
    assert "no latency table" in refused(nas("predict", "--param", param, "--table", "nowhere"))


def test_shapes() -> None:
    assert (parse_shape(None), parse_shape("3x224x192"), parse_shape("1,8,8")) == (None, (3, 224, 192), (1, 8, 8))
    for text in ("3x0x3", "3x224", "axbxc", "3x224x224x1"):
        with pytest.raises(OptionError, match="3x224x224"):
            parse_shape(text)


# Measuring -----------------------------------------------------------------------------------------------------------


def test_measure_beside_the_prediction(nas: Nas, home: Path, make_table: MakeTable, param: Path, model: Path) -> None:
    assert nas("boards", "add", "here", "local")[0] == 0
    before = loaded(nas("measure", "here", param, "--passes", "2", "--runs", "3", "--json"))
    assert (before["runs"], before["passes"], len(before["runs_ms"])) == (6, 2, 6)
    assert 0 < before["min_ms"] <= before["median_ms"] <= before["p95_ms"]
    assert before["prediction"] is None
    assert "nas profile here" in before["no_prediction"]
    store(make_table(SPACE))
    after = loaded(nas("measure", "here", model, "--passes", "1", "--runs", "2", "--json"))
    told = after["prediction"]
    assert after["converted"]
    assert told["error_pct"] == pytest.approx((told["latency_ms"] / after["median_ms"] - 1) * 100)
    assert told["identity_differences"]  # the table is made up, not of this machine
    status, out, _ = nas("measure", "here", param, "--passes", "1", "--runs", "2")
    assert status == 0
    assert "predicted" in out
    assert "of another setting" in out


def test_sustain_prints_a_line_per_interval(nas: Nas, home: Path, param: Path) -> None:
    assert nas("boards", "add", "here", "local")[0] == 0
    found = loaded(nas("measure", "here", param, "--sustain", "1s", "--json"))
    assert found["runs"] == sum(i["runs"] for i in found["intervals"])
    assert not found["stopped"]
    status, out, _ = nas("measure", "here", param, "--sustain", "1s")
    assert status == 0
    assert "median ms" in out.splitlines()[0]
    assert "cold " in out


def test_measure_refuses_in_one_line(nas: Nas, home: Path, param: Path, tmp_path: Path) -> None:
    assert nas("boards", "add", "here", "local")[0] == 0
    for arguments in (
        ("nowhere", param),
        ("here", tmp_path / "no.param"),
        ("here", param, "--sustain", "soon"),
        ("here", param, "--sustain", "5s", "--runs", "3"),
        ("here", param, "--table", "abcdef"),
    ):
        refused(nas("measure", *arguments))


def test_ctrl_c_ends_a_sustained_run_with_what_there_is(
    nas: Nas, home: Path, environment: dict[str, str], param: Path
) -> None:
    assert nas("boards", "add", "here", "local")[0] == 0
    command = [Path(sys.executable).with_name("nas"), "measure", "here", param, "--sustain", "1m"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # the heading
    first = process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=180)
    assert process.returncode == 130
    assert first.split()[1].isdigit()
    assert "cold " in rest
    assert "Traceback" not in err


# Tables --------------------------------------------------------------------------------------------------------------


def test_tables_are_compared(nas: Nas, home: Path, make_table: MakeTable) -> None:
    a = make_table(SPACE)
    first = next(iter(a.entries))
    entries = {k: replace(e, ms=e.ms * (3 if k == first else 1.1)) for k, e in a.entries.items()}
    b = replace(a, entries={**dict(list(entries.items())[:-1]), "new": entries[first]})
    store(a, b)
    found = loaded(nas("tables", "diff", a.digest[:8], b.digest[:8], "--json", "--largest", "2"))
    assert found["comparable"]
    assert found["median"] == pytest.approx(1.1)
    assert (len(found["changes"]), found["changes"][0]["key"]) == (2, first)
    assert (len(found["only_before"]), found["only_after"]) == (1, ["new"])
    assert (found["a"]["digest"], found["b"]["digest"]) == (a.digest, b.digest)
    status, out, _ = nas("tables", "diff", a.digest[:8], "here")
    assert status == 0
    assert "may be compared" in out
    other = replace(a, identity=replace(a.identity, threads=4))
    store(other)
    out = nas("tables", "diff", a.digest[:8], other.digest[:8])[1]
    assert "NOT to be compared" in out
    assert "threads: 1, 4" in out
    refused(nas("tables", "diff", a.digest[:8], "ffff"))


def test_the_schema_is_printed(nas: Nas) -> None:
    status, out, _ = nas("tables", "schema")
    assert status == 0
    assert json.loads(out)["title"] == "lightnas latency table"


TINY = """
name: tiny
input: {channels: 3, resolution: 16}
classes: 5
stem: {width: 8}
stages: [{width: [8, 16], expansion: [1, 2], stride: 2}]
head: {width: 16}
"""


def test_a_real_table_fits_the_schema_and_prices_a_file_as_its_encoding(nas: Nas, home: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert nas("boards", "add", "here", "local")[0] == 0
    profile = loaded(nas("profile", "here", "--space", tmp_path / "tiny.yaml", "--passes", "2", "--json"))
    assert nas("tables", "export", profile["table"], "--to", tmp_path / "table.json")[0] == 0
    schema = json.loads(nas("tables", "schema")[1])
    Draft202012Validator(schema).validate(json.loads((tmp_path / "table.json").read_text()))
    encoding = "1,1"
    (tmp_path / "m.param").write_text(
        get_engine("ncnn").build(build_space(str(tmp_path / "tiny.yaml")).graph([1, 1])).model
    )
    options = ("--table", "here", "--json")
    listed = loaded(nas("predict", "--space", tmp_path / "tiny.yaml", encoding, *options))
    found = loaded(nas("predict", "--param", tmp_path / "m.param", *options))
    assert found["latency_ms"] == pytest.approx(listed["latency_ms"])
    assert found["low_ms"] < found["latency_ms"] < found["high_ms"]
    measured = loaded(nas("measure", "here", tmp_path / "m.param", "--passes", "2", "--json"))
    assert measured["prediction"]["identity_differences"] == []
