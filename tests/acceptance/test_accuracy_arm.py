"""An export on emulated ARM boards behind a real sshd: its answers there and here, and faults found at their op.

Driven through the `nas` command only. Its milliseconds count instructions: they show that the path works, no more.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from emulated import QemuBoard

from api.export.accuracy import read_export
from api.export.bundle import MARK
from latency.accuracy import board_activations
from latency.agreement import first_difference
from latency.board import Board
from latency.engines import get_engine
from latency.engines.onnx import to_onnx
from latency.link import PatientLink
from latency.ssh import SshTransport
from nas.fold import fold
from nas.graph import Graph
from nas.network import Network

pytestmark = [pytest.mark.slow, pytest.mark.qemu]

Nas = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accuracy")


@pytest.fixture(scope="module")
def a76(qemu_board: QemuBoard) -> Iterator[QemuBoard]:
    """A second board, with a CPU that computes in half precision."""
    with QemuBoard(qemu_board.folder, BOARD_CPU="cortex-a76") as board:
        yield board


@pytest.fixture(scope="module")
def nas(home: Path, qemu_board: QemuBoard) -> Nas:
    """`nas ARGUMENTS` in a process of its own, with a store of its own that knows the Cortex-A72 with each engine."""
    qemu_board.write_ssh_config(home / "ssh_config", "a72")
    env = {**os.environ, "LIGHTNAS_HOME": str(home / "home"), "LIGHTNAS_SSH_CONFIG": str(home / "ssh_config")}
    env.pop("LIGHTNAS_DATABASE_URL", None)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("nas"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=home, check=False, timeout=500)

    assert call("boards", "add", "a72", "a72").returncode == 0
    assert call("boards", "add", "a72-ort", "a72", "--engine", "onnxruntime").returncode == 0
    return call


@pytest.fixture(scope="module")
def winner(nas: Nas, home: Path, write_tiny_space: Callable[..., Path]) -> Path:
    """Searched, trained and exported."""
    write_tiny_space(home, "mbconv", "shuffle_v2")
    for arguments in (
        ("search", "--space", "tiny.yaml", "--data", "digits", "--trials", "1", "--epochs", "1", "--name", "digits"),
        ("export", "digits", "--to", "winner", "--epochs", "4"),
    ):
        done = nas(*arguments)
        assert done.returncode == 0, done.stderr
    return home / "winner"


def verified(nas: Nas, *arguments: str) -> Any:
    done = nas("verify", *arguments, "--accuracy", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("board", ["a72", "a72-ort"])
def test_the_board_answers_as_this_machine_does(board: str, nas: Nas, winner: Path, home: Path) -> None:
    told = verified(nas, "winner", "--board", board)
    assert told["accuracy_here"] == told["accuracy_board"] > 0.5
    assert told["same_answers"] == told["pictures"] > 300
    assert told["relative_difference"] < 1e-4
    assert told["remark"] is None
    assert (told["emulated"], told["identity"]["machine"]) == (True, "aarch64")
    assert 0 < told["median_ms"] <= told["p95_ms"]
    assert 0 < told["peak_memory_mb"] < 200
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNAS_SSH_CONFIG", str(home / "ssh_config"))
        with SshTransport.connect(Board("a72", "a72")) as link:
            listed = link.run(["sh", "-c", "ls ~/.cache/lightnas"], timeout_s=60).stdout.decode().split()
    assert listed
    assert not [name for name in listed if name.startswith("model")]


def rewritten(winner: Path, target: Path, change: Callable[[Network], None], *, reference: bool = False) -> Path:
    """The export with other weights in the engines' files; with `reference`, as if it had been trained to them."""
    shutil.copytree(winner, target)
    network = read_export(winner).network
    with torch.no_grad():
        change(network)
    folded, engine = fold(network), get_engine("ncnn")
    (target / "network.ncnn.bin").write_bytes(engine.weights(network.graph, folded))
    (target / "network.onnx").write_bytes(to_onnx(network.graph, folded).SerializeToString())
    if reference:
        torch.save(network.state_dict(), target / "weights.pt")
        card = json.loads((target / MARK).read_text())
        digests = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in card["files"]}
        (target / MARK).write_text(json.dumps({**card, "files": digests}))
    return target


@pytest.mark.parametrize("board", ["a72", "a72-ort"])
def test_a_changed_weight_is_found_at_its_op(board: str, nas: Nas, winner: Path, home: Path) -> None:
    paths = list(read_export(winner).network.weighted())
    path = paths[len(paths) // 2]
    folder = rewritten(winner, home / f"changed-{board}", lambda network: network.weighted()[path].weight[0].mul_(-3))
    done = nas("verify", folder.name, "--accuracy", "--board", board, "--pictures", "40")
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert f"the first op that differs is {path} (" in said
    assert "changed since the export: export again" in said


def test_half_precision_agrees_or_is_told_with_the_op_that_overflows(
    nas: Nas, a76: QemuBoard, winner: Path, home: Path
) -> None:
    """As in ncnn#6932: the host is clean, fp16 on the board is not. fp32 on the same board is."""
    with (home / "ssh_config").open("a") as file:
        a76.write_ssh_config(home / "a76_config", "a76")
        file.write((home / "a76_config").read_text())
    assert nas("boards", "add", "half", "a76", "--dtype", "fp16").returncode == 0
    assert nas("boards", "add", "whole", "a76").returncode == 0
    told = verified(nas, "winner", "--board", "half", "--pictures", "60")
    assert (told["dtype"], told["emulated"]) == ("fp16", True)
    assert 1e-5 < told["relative_difference"] < 1e-2  # other arithmetic, and good enough
    assert told["same_answers"] >= 59
    assert told["remark"] is None

    path = next(path for path in read_export(winner).network.weighted() if path.endswith("project"))
    rewritten(winner, home / "large", lambda network: network.weighted()[path].weight.mul_(1e6), reference=True)
    done = nas("verify", "large", "--accuracy", "--board", "half", "--pictures", "20")
    said = " ".join(done.stderr.split())
    assert done.returncode == 2
    assert re.search(rf"the first op that differs is {re.escape(path)} \(conv\), by (infinity|NaN) where", said), said
    assert "set the board's dtype to fp32" in said
    told = verified(nas, "large", "--board", "whole", "--pictures", "20")
    assert told["accuracy_here"] == told["accuracy_board"]
    assert np.isfinite(told["largest_difference"])


def test_a_kernel_that_is_wrong_in_half_precision_is_found(
    a76: QemuBoard, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ncnn 1.0.20261020 reads the wrong rows in its 3x3 stride-2 depthwise kernel of 8 channels, where two columns
    are left (convdw3x3s2_pack8_fp16sa_neon loads r14 and r24 through the pointer of row 0). fp32 is right.
    """
    a76.write_ssh_config(home / "a76_only", "a76")
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(home / "a76_only"))
    g = Graph((3, 12, 12))
    x = g.conv(g.input, 16, act="relu6", norm=False, path="before")
    x = g.depthwise(x, kernel=3, stride=2, norm=False, path="dw")
    g.linear(g.global_pool(x, path="pool"), 5, path="classifier")
    network = Network(g, seed=3).eval()
    folded, engine = fold(network), get_engine("ncnn")
    files = {".param": engine.build(g).model.encode(), ".bin": engine.weights(g, folded)}
    picture = np.random.default_rng(0).integers(0, 256, g.input.shape, np.uint8)
    mean, std = (0.5,) * 3, (0.25,) * 3
    here = network.activations(torch.from_numpy((picture.astype(np.float32)[None] / 255 - 0.5) / 0.25))
    found = {}
    for dtype in ("fp16", "fp32"):
        with PatientLink(Board("a76", "a76", dtype=dtype)) as link:
            if link.deployment.engine_version != "1.0.20261020":
                pytest.skip(f"ncnn {link.deployment.engine_version} may have mended it")
            there = board_activations(link, files, picture, mean, std, g)
        found[dtype] = first_difference(there, here, list(here), dtype)
    assert found["fp32"] is None
    assert found["fp16"] is not None
    assert found["fp16"].path == "dw"
    assert found["fp16"].relative > 0.1
