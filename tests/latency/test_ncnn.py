from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
import pytest
import torch
from emulated import QemuBoard

from latency.board import Board
from latency.deploy import deploy
from latency.engines import engine_names, get_engine
from latency.errors import UnsupportedOp
from latency.session import RunnerSession
from latency.ssh import SshTransport
from latency.transport import LocalTransport
from nas.blocks.mbconv import mbconv
from nas.blocks.shuffle_v2 import shuffle_v2
from nas.errors import UnknownPlugin
from nas.fold import fold
from nas.graph import ACTIVATIONS, Graph, Tensor
from nas.network import Network

ENGINE = get_engine("ncnn")
Build = Callable[[Graph], Tensor]


def every_kind(g: Graph) -> Tensor:
    """All kinds of op, non-square, with values read twice and ports left unread."""
    x = g.conv(g.input, 12, kernel=(3, 5), stride=(2, 1), act="relu6", path="stem")
    a, b, _ = g.split(x, (4, 6, 2), path="split")
    y = g.concat((b, a, x), path="concat")
    y = g.shuffle(y, 2, path="shuffle")
    y = g.conv(y, 16, kernel=3, groups=2, act="hswish", norm=False, path="grouped")
    p = g.max_pool(y, kernel=3, stride=2, path="max")
    q = g.avg_pool(y, kernel=3, stride=2, path="avg")
    z = g.add(q, p, act="relu", path="sum")
    z = mbconv(g, z, 16, kernel=5, expansion=2, se=True, act="swish", path="block")
    z = shuffle_v2(g, z, 16, path="unit")
    z = shuffle_v2(g, z, 24, stride=2, path="down")
    return g.linear(g.global_pool(z, path="pool"), 7, act="sigmoid", path="fc")


def pixel_ops(g: Graph) -> Tensor:
    """Windows, groups and mixed layouts on what ncnn keeps as a vector."""
    v = g.global_pool(g.input, path="pool")
    v = g.conv(v, 8, act="hsigmoid", path="pointwise")
    w = g.depthwise(v, kernel=3, act="relu", path="dw")
    v = g.shuffle(g.add(v, w, path="add"), 4, path="shuffle")
    one, two = g.split(g.global_pool(v, path="again"), (3, 5), path="split")
    v = g.concat((two, one, w), path="concat")
    return g.conv(g.scale(v, v, path="scale"), 5, kernel=3, norm=False, path="out")


def flat_linear(g: Graph) -> Tensor:
    return g.linear(g.conv(g.input, 5, kernel=3, stride=2, act="relu", path="conv"), 4, path="fc")


def activations(kind: str) -> Build:
    def build(g: Graph) -> Tensor:
        x = g.input
        for act in ACTIVATIONS:
            x = {
                "conv": lambda x, act: g.conv(x, 6, act=act, path=f"conv-{act}"),
                "depthwise": lambda x, act: g.depthwise(x, act=act, path=f"dw-{act}"),
                "linear": lambda x, act: g.linear(x, 6, act=act, path=f"fc-{act}"),
                "add": lambda x, act: g.add(x, x, act=act, path=f"add-{act}"),
            }[kind](x, act)
        return x

    return build


def random_network(g: Graph) -> Network:
    """A torch network with weights and statistics that make every term count."""
    network = Network(g).eval()
    with torch.no_grad():
        for name, value in network.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif name.endswith("running_mean"):
                value.normal_(0.0, 0.3)
        for name, parameter in network.named_parameters():
            if "weight" in name and parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim == 1:
                parameter.normal_(0.0, 0.3)
            else:
                parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5)
    return network


def run_ncnn(param: str, weights: bytes, x: np.ndarray, folder: Path) -> np.ndarray:
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.opt.num_threads = 1
    (folder / "net.bin").write_bytes(weights)
    assert net.load_param_mem(param) == 0
    assert net.load_model(str(folder / "net.bin")) == 0
    extractor = net.create_extractor()
    held = np.ascontiguousarray(x)
    extractor.input("in0", ncnn.Mat(held))
    status, out = extractor.extract("out0")
    assert status == 0
    return np.array(out, copy=True).ravel()


@pytest.mark.parametrize(
    "build",
    [every_kind, pixel_ops, flat_linear, *map(activations, ("conv", "depthwise", "linear", "add"))],
    ids=["every_kind", "pixel_ops", "flat_linear", "acts_conv", "acts_depthwise", "acts_linear", "acts_add"],
)
def test_computes_what_torch_computes(build: Build, tmp_path: Path) -> None:
    torch.manual_seed(1)
    g = Graph((3, 18, 14))
    build(g)
    network = random_network(g)
    x = torch.randn(1, 3, 18, 14)
    with torch.no_grad():
        wanted = network(x).numpy().ravel()
    out = run_ncnn(ENGINE.build(g).model, ENGINE.weights(g, fold(network)), x[0].numpy(), tmp_path)
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(out, wanted, atol=1e-3, rtol=1e-3)


def test_the_timed_text_is_the_deployed_one_with_stamps_between() -> None:
    g = Graph((3, 18, 14))
    every_kind(g)
    model = ENGINE.build(g)
    layers = [line.split() for line in model.model.splitlines()[2:]]
    timed = [line.split() for line in model.timed_model.splitlines()[2:]]
    stamps = [line for line in timed if line[0] == "Stamp"]
    assert len(stamps) == len(model.stamps)
    assert [line[0] for line in timed if line[0] != "Stamp"] == [line[0] for line in layers]
    assert [line[1] for line in timed if line[0] != "Stamp"] == [line[1] for line in layers]
    assert set(model.stamps) == {node.path for node in g.nodes}
    heads = [text.splitlines()[1].split() for text in (model.model, model.timed_model)]
    assert [int(h[0]) for h in heads] == [len(layers), len(timed)]


def test_a_norm_and_a_bias_run_as_the_same_kernel() -> None:
    g = Graph((3, 8, 8))
    g.conv(g.input, 4, kernel=3, act="relu", path="norm")
    g.conv(g.input, 4, kernel=3, act="relu", norm=False, path="bias")
    g.conv(g.input, 4, kernel=3, act="relu6", path="other")
    norm, bias, other = (ENGINE.engine_key(op) for op in g.ops)
    assert norm == bias != other


def test_says_which_weights_are_missing_or_wrong() -> None:
    g = Graph((3, 8, 8))
    g.conv(g.input, 4, path="first")
    with pytest.raises(UnsupportedOp, match="first: no weights"):
        ENGINE.weights(g, {})
    with pytest.raises(UnsupportedOp, match="first: weights"):
        ENGINE.weights(g, {"first": (np.zeros((4, 3, 3, 3), np.float32), np.zeros(4, np.float32))})


def test_a_path_the_text_cannot_hold_is_refused() -> None:
    g = Graph((3, 8, 8))
    g.conv(g.input, 4, path="my conv")
    with pytest.raises(UnsupportedOp, match="my conv"):
        ENGINE.build(g)


def test_an_unknown_engine_is_told_with_the_known_ones() -> None:
    assert "ncnn" in engine_names()
    with pytest.raises(UnknownPlugin, match=r"no engine is called 'tflite'; known: .*ncnn"):
        get_engine("tflite")


def test_half_precision_is_refused_where_the_cpu_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if (machine := os.uname().machine) != "x86_64":
        pytest.skip(f"only of x86-64 it is known that no CPU has it for ncnn; this is {machine}")
    with LocalTransport() as link, pytest.raises(UnsupportedOp, match="cannot compute in fp16 on this CPU") as caught:
        RunnerSession(link, deploy(link, "ncnn"), Board("here", "local", dtype="fp16"), ENGINE)
    assert "\n" not in str(caught.value)


@pytest.fixture
def a76(qemu_board: QemuBoard, tmp_path: Path) -> Iterator[Path]:
    """A second board, with a CPU that computes in half precision; an SSH configuration that knows it as `a76`."""
    config = tmp_path / "ssh_config"
    with QemuBoard(qemu_board.folder, BOARD_CPU="cortex-a76") as board:
        board.write_ssh_config(config, "a76")
        yield config


@pytest.mark.slow
@pytest.mark.qemu
def test_half_precision_is_used_where_the_cpu_has_it(
    qemu_board: Any, a76: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = Graph((3, 32, 32))
    x = g.conv(g.input, 16, kernel=3, stride=2, act="relu6", path="stem")
    for i in range(4):
        x = mbconv(g, x, 16, path=f"b{i}")
    model = ENGINE.build(g)
    shortest = {}
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(a76))
    for dtype in ENGINE.dtypes:
        board = Board("a76", "a76", dtype=dtype)
        with SshTransport.connect(board) as link, RunnerSession(link, deploy(link, "ncnn"), board, ENGINE) as session:
            session.load("net", model, timed=False)
            [(_, runs)] = session.measure(["net"], runs=3, warm=1)
            shortest[dtype] = min(runs.whole)
    assert shortest["fp16"] < 0.95 * shortest["fp32"]
    assert abs(shortest["bf16"] / shortest["fp32"] - 1) > 0.05
    older = tmp_path / "older"
    board = Board("qemu", qemu_board.write_ssh_config(older), dtype="fp16")
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(older))
    with SshTransport.connect(board) as link, pytest.raises(UnsupportedOp, match="cannot compute in fp16"):
        RunnerSession(link, deploy(link, "ncnn"), board, ENGINE)
