from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latency.onboard
from latency.engines import get_engine
from latency.onboard.procfs import number_after, read_text
from latency.onboard.server import PROTOCOL
from latency.onboard.state import read_state
from nas.blocks.mbconv import mbconv
from nas.blocks.shuffle_v2 import shuffle_v2
from nas.graph import Graph, Op

ENGINE = get_engine("ncnn")


class Talk:
    """A real runner process, spoken to without any of our own client code."""

    def __init__(self, runner_file: Path, lock: Path) -> None:
        self.lock = str(lock)
        self.process = subprocess.Popen(
            [sys.executable, "-u", runner_file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout
        return dict(json.loads(self.process.stdout.readline()))

    def hello(self, **changed: Any) -> dict[str, Any]:
        settings = {"engine": "ncnn", "threads": 1, "cores": [], "dtype": "fp32", "lock": self.lock, "owner": "tester"}
        return self.ask(do="hello", **{**settings, **changed})

    def close(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        status = self.process.wait(60)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        return status


@pytest.fixture
def talk(runner_file: Path, tmp_path: Path) -> Iterator[Talk]:
    made = Talk(runner_file, tmp_path / "lock")
    yield made
    if made.process.poll() is None:
        made.close()


def branching() -> Graph:
    g = Graph((3, 16, 16))
    x = g.conv(g.input, 8, kernel=3, act="relu6", path="stem")
    x = mbconv(g, x, 8, se=True, path="block")
    x = shuffle_v2(g, x, 8, path="unit")
    g.linear(g.global_pool(x, path="pool"), 4, path="fc")
    return g


def test_tells_the_board_and_pins_the_cores(talk: Talk) -> None:
    core = min(os.sched_getaffinity(0))
    answer = talk.hello(cores=[core])
    assert answer["ok"]
    assert answer["protocol"] == PROTOCOL
    assert answer["facts"]["cores"] == [core]
    assert os.sched_getaffinity(talk.process.pid) == {core}
    assert answer["facts"]["engine_version"]
    assert answer["state"]["free_bytes"] > 0
    assert talk.close() == 0


def test_times_every_op_of_a_branching_network(talk: Talk) -> None:
    model = ENGINE.build(branching())
    talk.hello()
    plain = talk.ask(do="load", name="plain", model=model.model, shape=model.input_shape)
    stamped = talk.ask(do="load", name="timed", model=model.timed_model, shape=model.input_shape)
    assert plain["ok"]
    assert plain["order"] == []
    assert sorted(stamped["order"]) == list(range(len(model.stamps)))
    first = talk.ask(do="measure", names=["timed", "plain"], runs=3, warm=1)
    second = talk.read()
    assert (first["name"], second["name"]) == ("timed", "plain")
    assert [len(run) for run in first["timed"]] == [len(model.stamps) + 1] * 3
    assert all(interval > 0 for run in first["timed"] for interval in run)
    assert len(second["whole"]) == 3
    assert first["whole"] == second["timed"] == []
    assert "load" in talk.read()["state"]


def test_networks_come_and_go(talk: Talk) -> None:
    model = ENGINE.build(branching())
    talk.hello()
    for _ in range(5):
        talk.ask(do="load", name="n", model=model.timed_model, shape=model.input_shape)
        assert talk.ask(do="measure", names=["n"], runs=1, warm=1)["ok"]
        talk.read()
        assert talk.ask(do="unload", names=["n", "never loaded"])["ok"]
    refused = talk.ask(do="measure", names=["n"], runs=1, warm=0)
    assert not refused["ok"]
    assert "'n'" in refused["message"]


def test_lives_on_after_a_bad_request(talk: Talk) -> None:
    assert talk.ask(do="load", name="x", model="", shape=[3, 8, 8])["kind"] == "request"
    assert talk.ask(do="dance")["kind"] == "request"
    assert talk.hello(engine="tflite")["kind"] == "engine"
    assert talk.hello()["ok"]
    assert talk.ask(do="load", name="x", model="nonsense", shape=[3, 8, 8])["kind"] == "engine"
    assert talk.ask(do="measure")["kind"] == "request"
    assert talk.ask(do="state")["ok"]


def test_the_lock_names_its_holder_and_goes_with_it(talk: Talk, runner_file: Path) -> None:
    talk.hello(owner="ada on host one")
    other = Talk(runner_file, Path(talk.lock))
    refused = other.hello()
    assert refused["kind"] == "busy"
    assert "ada on host one" in refused["message"]
    assert str(talk.process.pid) in refused["message"]
    talk.process.send_signal(signal.SIGKILL)
    talk.process.wait(60)
    assert other.hello()["ok"]
    assert other.close() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_on_sigterm_but_not_on_ctrl_c(talk: Talk, number: signal.Signals) -> None:
    talk.hello()
    talk.process.send_signal(number)
    if number is signal.SIGTERM:
        assert talk.process.wait(60) == -signal.SIGTERM
    else:
        assert talk.ask(do="state")["ok"]
        assert talk.close() == 0


def test_reads_what_a_board_says_of_itself(tmp_path: Path) -> None:
    recorded = tmp_path / "meminfo"
    recorded.write_text("MemTotal:        3884368 kB\nMemAvailable:    3201234 kB\n")
    text = read_text(str(recorded))
    assert number_after("MemAvailable:", text) == 3201234
    assert number_after("SwapTotal:", text) is None
    assert read_text(str(tmp_path / "absent")) == ""
    state = read_state([0])
    assert set(state) >= {"governor", "mhz", "celsius", "throttled", "load", "free_bytes"}


MODULES = sorted(Path(latency.onboard.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_runs_on_an_old_python(path: Path) -> None:
    """The board's Python may be 3.9: no newer syntax, nothing but the standard library and its own at import."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            own = [node.module] if node.module else [alias.name for alias in node.names]
            assert node.level == 1
            assert {f"{name}.py" for name in own} <= {module.name for module in MODULES}
    assert names <= set(sys.stdlib_module_names)


def test_runs_a_model_file_with_its_weights_or_with_none(talk: Talk, tmp_path: Path) -> None:
    g = branching()
    model = ENGINE.build(g).model.replace("in0", "data").replace("out0", "prob")
    path = tmp_path / "net.param"
    path.write_text(model)
    talk.hello()
    answer = talk.ask(do="load", name="own", path=str(path))
    assert answer["inputs"] == [["data", [3, 16, 16]]]
    assert answer["order"] == []
    assert len(talk.ask(do="measure", names=["own"], runs=2, warm=1)["whole"]) == 2
    talk.read()
    larger = talk.ask(do="load", name="own", path=str(path), shape=[3, 20, 24])
    assert larger["inputs"] == [["data", [3, 20, 24]]]
    weights = {
        node.path: (np.zeros(op_weight_shape(node.op), np.float32), np.zeros(node.op.outputs[0][0], np.float32))
        for node in g.nodes
        if node.op.kind in ("conv", "depthwise", "linear")
    }
    (tmp_path / "net.bin").write_bytes(ENGINE.weights(g, weights))
    assert talk.ask(do="load", name="own", path=str(path))["ok"]
    (tmp_path / "net.bin").write_bytes(ENGINE.weights(g, weights)[:100])
    cut = talk.ask(do="load", name="own", path=str(path))
    assert cut["kind"] == "engine"
    assert "net.bin does not fit" in cut["message"]


def op_weight_shape(op: Op) -> tuple[int, ...]:
    (c, h, w), (oc, _, _) = op.inputs[0], op.outputs[0]
    return (oc, c * h * w) if op.kind == "linear" else (oc, c // op.groups, *op.kernel)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file"),
        ("\x08\x07not ncnn", "is no ncnn model"),
        ("7767517\n1 1\nWhatever x 0 1 x\n", "ncnn cannot read"),
        ("7767517\n2 2\nInput a 0 1 a\nReLU b 1 1 a b\n", "does not tell the shape of its input a"),
    ],
)
def test_a_model_file_that_cannot_run_gives_one_clear_error(
    talk: Talk, tmp_path: Path, text: str | None, said: str
) -> None:
    path = tmp_path / "net.param"
    if text is not None:
        path.write_text(text)
    talk.hello()
    refused = talk.ask(do="load", name="own", path=str(path))
    assert refused["kind"] == "engine"
    assert said in refused["message"]
    assert "\n" not in refused["message"]
    assert talk.ask(do="state")["ok"]


def test_every_input_is_fed_and_every_output_asked_for(talk: Talk, tmp_path: Path) -> None:
    path = tmp_path / "two.param"
    path.write_text(
        "7767517\n5 6\nInput left 0 1 left 0=8 1=6 2=4\nInput right 0 1 right 0=8 1=6 2=4\n"
        "BinaryOp sum 2 1 left right sum 0=0\nSplit s 1 2 sum p q\nReLU r 1 1 p r\n"
    )
    talk.hello()
    answer = talk.ask(do="load", name="two", path=str(path), shape=None)
    assert answer["inputs"] == [["left", [4, 6, 8]], ["right", [4, 6, 8]]]
    assert talk.ask(do="measure", names=["two"], runs=1, warm=1)["whole"][0] > 0
