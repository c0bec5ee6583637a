"""A user's own model on an emulated Cortex-A72 behind a real sshd: sent, run, run for longer, removed.

Its milliseconds count instructions: they show that the path works, no more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from latency.board import Board
from latency.engines import get_engine
from latency.engines.onnx import to_onnx
from latency.ssh import SshTransport
from nas.graph import Graph

pytestmark = [pytest.mark.slow, pytest.mark.qemu]


def network() -> Graph:
    g = Graph((3, 32, 32))
    x = g.conv(g.input, 8, kernel=3, stride=2, act="relu6", norm=False, path="stem")
    for i in range(3):
        x = g.depthwise(x, kernel=3, stride=2 if i else 1, act="relu6", norm=False, path=f"b{i}.dw")
        x = g.conv(x, 16, act="hswish", norm=False, path=f"b{i}.pw")
    g.linear(g.global_pool(x, path="pool"), 10, path="classifier")
    return g


def weights(graph: Graph) -> dict[str, tuple[Any, Any]]:
    made = {}
    for node in graph.nodes:
        op = node.op
        if op.kind == "globalpool":
            continue
        c_out, c = op.outputs[0][0], op.inputs[0][0]
        shape = (c_out, c) if op.kind == "linear" else (c_out, c // op.groups, *op.kernel)
        made[node.path] = (np.full(shape, 0.1, np.float32), np.zeros(c_out, np.float32))
    return made


def test_a_users_model_on_an_arm_board(qemu_board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alias = qemu_board.write_ssh_config(tmp_path / "ssh_config")
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(tmp_path / "ssh_config"))
    env = {**os.environ, "LIGHTNAS_HOME": str(tmp_path / "home")}
    env.pop("LIGHTNAS_DATABASE_URL", None)
    graph, engine = network(), get_engine("ncnn")
    (tmp_path / "m.param").write_text(engine.build(graph).model)
    (tmp_path / "m.bin").write_bytes(engine.weights(graph, weights(graph)))
    onnx.save(to_onnx(graph, weights(graph)), tmp_path / "m.onnx")

    def run(*arguments: str) -> Any:
        command = [Path(sys.executable).with_name("nas"), *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False, timeout=500)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run("boards", "add", "a72", alias)
    sent = run("measure", "a72", "m.param", "--passes", "3", "--runs", "2")
    written = run("measure", "a72", "m.onnx", "--passes", "3", "--runs", "2")
    assert (sent["converted"], written["converted"]) == (False, True)
    assert (sent["identity"]["machine"], sent["emulated"], sent["runs"]) == ("aarch64", True, 6)
    # The same network either way: with its weights, or with zero weights written anew.
    assert written["min_ms"] == pytest.approx(sent["min_ms"], rel=0.1)
    long = run("measure", "a72", "m.param", "--sustain", "20s")
    assert long["seconds"] > 15
    assert sum(i["runs"] for i in long["intervals"]) == long["runs"] > 10
    assert long["hot_ms"] == pytest.approx(long["cold_ms"], rel=0.1)
    with SshTransport.connect(Board("a72", alias)) as link:
        listed = link.run(["sh", "-c", "ls ~/.cache/lightnas"], timeout_s=60).stdout.decode().split()
    assert listed
    assert not [name for name in listed if name.startswith("model")]
