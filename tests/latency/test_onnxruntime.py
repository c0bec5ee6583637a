"""The onnxruntime engine: what is sent, which ops share a kernel, and what the backend on the board tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from latency.board import Board
from latency.deploy import Deployment, deploy
from latency.engines import EngineModel, engine_names, get_engine
from latency.engines.onnx import to_onnx
from latency.errors import UnsupportedOp
from latency.onboard.kernels import charge, intervals
from latency.session import RunnerSession
from latency.ssh import SshTransport
from latency.table import Identity
from latency.transport import LocalTransport
from nas.blocks.mbconv import mbconv
from nas.blocks.shuffle_v2 import shuffle_v2
from nas.graph import Graph, Op
from nas.spaces import build_space

ENGINE = get_engine("onnxruntime")


def zeros(g: Graph) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    def shape(op: Op) -> tuple[int, ...]:
        (c, h, w), (oc, _, _) = op.inputs[0], op.outputs[0]
        return (oc, c * h * w) if op.kind == "linear" else (oc, c // op.groups, *op.kernel)

    weighted = [n for n in g.nodes if n.op.kind in ("conv", "depthwise", "linear")]
    return {n.path: (np.zeros(shape(n.op), np.float32), np.zeros(n.op.outputs[0][0], np.float32)) for n in weighted}


def light(seed: int, resolution: int = 32) -> Graph:
    space = build_space("light-nas", resolution=resolution)
    return space.graph(space.sample(np.random.default_rng(seed), 1)[0])


def squeezing() -> Graph:
    """SE blocks, narrow layers, hard-swish: what is laid out or cut up in another way than the rest."""
    g = Graph((3, 24, 24))
    x = g.conv(g.input, 8, kernel=3, stride=2, act="hswish", path="stem")
    x = mbconv(g, x, 8, se=True, act="hswish", expansion=4, path="b0")
    x = mbconv(g, x, 24, se=True, act="relu", stride=2, expansion=4, path="b1")
    x = mbconv(g, x, 24, act="swish", path="b2")
    g.linear(g.global_pool(x, path="pool"), 7, path="fc")
    return g


def shuffling() -> Graph:
    g = Graph((3, 24, 24))
    x = g.conv(g.input, 24, kernel=3, stride=2, act="relu", path="stem")
    x = shuffle_v2(g, x, 24, path="u1")
    x = shuffle_v2(g, x, 48, stride=2, path="d1")
    g.linear(g.global_pool(x, path="pool"), 7, path="fc")
    return g


def adding() -> Graph:
    """Sums that a convolution does, and those that none can."""
    g = Graph((3, 16, 16))
    stem = g.conv(g.input, 16, kernel=3, act="relu", path="stem")
    x = g.add(stem, g.conv(stem, 16, path="plain"), path="fused")
    x = g.add(g.depthwise(x, path="dw"), x, act="relu", path="fused-relu")
    x = g.add(x, g.conv(x, 16, act="relu", path="acting"), path="after-act")
    y = g.conv(x, 16, path="twice-read")
    x = g.add(y, y, path="doubled")
    y = g.conv(x, 16, path="used-again")
    g.conv(g.add(g.add(x, y, path="outer"), y, path="outermost"), 16, path="end")
    return g


def test_is_built_in() -> None:
    assert {"ncnn", "onnxruntime"} <= set(engine_names())
    assert ENGINE.dtypes == ("fp32",)


def test_the_text_holds_no_weights() -> None:
    g = light(1, 224)
    model = ENGINE.build(g)
    assert g.params > 3_000_000
    assert len(model.timed_model) < 12_000


@pytest.mark.parametrize("graph", [light(1, 64), squeezing()], ids=["light", "squeezing"])
def test_runs_as_with_weights_in_the_file(graph: Graph, tmp_path: Path) -> None:
    """Weights that onnxruntime fills in are folded before it fuses, and no two layers come to share theirs."""
    found = []
    for name, weights in (("given", zeros(graph)), ("filled", None)):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / name)
        model = to_onnx(graph, weights, batch=1).SerializeToString()
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        found.append(onnx.load(tmp_path / name).graph)
    given, filled = ([(n.op_type, n.name.partition("_token_")[0], len(n.input)) for n in nodes.node] for nodes in found)
    assert sorted(given) == sorted(filled)  # where a change of layout stands is onnxruntime's whim
    read = Counter(name for node in found[1].node if node.op_type.endswith("Conv") for name in node.input[1:3])
    assert set(read.values()) == {1}


def test_kernels_of_sums() -> None:
    g = adding()
    keys = dict(zip([n.path for n in g.nodes], ENGINE.kernel_keys(g), strict=True))
    plain, dw = (str(keys[path]) for path in ("plain", "dw"))
    assert plain.endswith("+add")
    assert dw.endswith("+add:relu")
    assert Op.parse(plain.partition("+")[0]).kind == "conv"
    assert {path for path, key in keys.items() if key is None} == {"fused", "fused-relu"}
    assert "+" not in "".join(str(keys[path]) for path in ("acting", "twice-read", "used-again", "end"))
    assert ENGINE.build(g).stamps == tuple(path for path, key in keys.items() if key)


def test_a_norm_and_a_bias_run_as_the_same_kernel() -> None:
    g = Graph((3, 8, 8))
    g.conv(g.input, 4, act="relu", path="norm")
    g.conv(g.input, 4, act="relu", norm=False, path="bias")
    norm, bias = map(ENGINE.engine_key, g.ops)
    assert norm == bias


def test_the_weights_file_is_a_model() -> None:
    g = squeezing()
    assert onnx.load_from_string(ENGINE.weights(g, zeros(g))) == to_onnx(g, zeros(g))


PROFILE = """
import json, os, sys, tempfile
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import base64, zlib
import numpy as np, onnxruntime as ort
for line in sys.stdin:
    model = zlib.decompress(base64.b64decode(line))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, folder + "/p"
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        told = session.get_inputs()[0]
        for _ in range(5):
            session.run(None, {told.name: np.zeros(told.shape, np.float32)})
        with open(session.end_profiling()) as file:
            found = [e for e in json.load(file) if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
        runs = [found[i : i + len(found) // 5] for i in range(0, len(found), len(found) // 5)]
        for same in zip(*runs):
            assert len({e["name"] for e in same}) == 1
            same[0]["dur"] = min(e["dur"] for e in same)
        print(json.dumps(runs[0]))
"""
"""Prints the kernels that onnxruntime runs for each model on standard input: the truth to hold the keys against.

Each with its shortest time of five: another program's turn may be longer than all the kernels together.
"""

NETWORKS = [adding(), squeezing(), shuffling(), *(light(seed) for seed in range(6))]


def check_kernels(models: list[EngineModel], profiles: str) -> None:
    """Every op with a key ran as one kernel at least, named after it; every op without one ran as none."""
    for model, line in zip(models, profiles.splitlines(), strict=True):
        owners = json.loads(model.timed_model.partition("\n")[2])
        kernels = json.loads(line)
        fused = set(owners) - set(model.stamps) - {"output"}
        assert fused.isdisjoint(e["name"].partition("/")[0] for e in kernels)
        charged, share = charge(kernels, owners)
        assert set(charged) == set(range(len(model.stamps)))
        assert share > 0.5


def test_what_is_fused_here(tmp_path: Path) -> None:
    models = [ENGINE.build(g) for g in NETWORKS]
    done = subprocess.run(
        [sys.executable, "-c", PROFILE],
        input="".join(f"{m.model}\n" for m in models),
        capture_output=True,
        text=True,
        check=True,
    )
    check_kernels(models, done.stdout)


@pytest.mark.slow
@pytest.mark.qemu
def test_on_an_arm_board(qemu_board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent with what it needs, it fuses what the keys say, and its times sum up to the whole run."""
    config = tmp_path / "ssh_config"
    board = Board("qemu", qemu_board.write_ssh_config(config), engine="onnxruntime")
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(config))
    models = [ENGINE.build(g) for g in NETWORKS]
    with SshTransport.connect(board) as link:
        deployed = deploy(link, "onnxruntime")
        assert deployed.pythonpath
        argv = ["env", f"PYTHONPATH={deployed.pythonpath}", deployed.python, "-c", PROFILE]
        done = link.run(argv, timeout_s=500, input="".join(f"{m.model}\n" for m in models).encode())
        assert done.exit_status == 0, done.stderr.decode()
        check_kernels(models, done.stdout.decode())
        with RunnerSession(link, deployed, board, ENGINE) as session:
            costs = []
            for i, model in enumerate(models[-3:]):
                session.load(f"whole{i}", model, timed=False)
                session.load(f"timed{i}", model, timed=True)
                (_, whole), (_, timed) = session.measure([f"whole{i}", f"timed{i}"], runs=3, warm=1)
                shortest, summed = min(whole.whole), min(map(sum, timed.timed))
                # What a profiled kernel costs is one number; what is left of the difference is nothing.
                costs.append((summed - shortest) / (len(model.stamps) + 3))
            assert max(costs) - min(costs) < 0.1 * np.mean(costs), costs
        left = link.run(["sh", "-c", "ls ~/.cache ~/.cache/lightnas /tmp /dev/shm"], timeout_s=60).stdout.decode()
        assert "profile" not in left
        assert "Microsoft" not in left


# The backend.


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalTransport, Deployment]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with LocalTransport() as transport:
        yield transport, deploy(transport, "onnxruntime")


@pytest.fixture
def session(deployment: tuple[LocalTransport, Deployment]) -> Iterator[RunnerSession]:
    with RunnerSession(*deployment, Board("here", "local", engine="onnxruntime"), ENGINE) as made:
        yield made


@pytest.mark.parametrize("graph", [light(3), squeezing(), shuffling(), adding()])
def test_times_every_kernel(session: RunnerSession, graph: Graph) -> None:
    model = ENGINE.build(graph)
    session.load("whole", model, timed=False)
    session.load("timed", model, timed=True)
    for _ in range(2):
        (_, whole), (_, timed) = session.measure(["whole", "timed"], runs=3, warm=1)
        assert len(whole.whole) == len(timed.timed) == 3
        assert min(whole.whole) > 0
        assert {len(run) for run in timed.timed} == {len(model.stamps) + 1}
        assert all(interval > 0 for run in timed.timed for interval in run)


def test_leaves_nothing_behind(
    session: RunnerSession, deployment: tuple[LocalTransport, Deployment], tmp_path: Path
) -> None:
    model = ENGINE.build(light(3))
    session.load("timed", model, timed=True)
    list(session.measure(["timed"], runs=2, warm=1))
    session.unload(["timed"])
    files = {str(path) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {deployment[1].lock_path, deployment[1].runner_path}


def test_a_profile_left_by_a_killed_runner_is_removed(
    deployment: tuple[LocalTransport, Deployment], tmp_path: Path
) -> None:
    left = tmp_path / "cache" / "lightnas" / "profile-1_2026.json"
    left.write_text("[")
    with RunnerSession(*deployment, Board("here", "local", engine="onnxruntime"), ENGINE):
        assert not left.exists()


def test_runs_a_users_own_model(session: RunnerSession, tmp_path: Path) -> None:
    g = squeezing()
    fixed, free = tmp_path / "fixed.onnx", tmp_path / "free.onnx"
    fixed.write_bytes(ENGINE.weights(g, zeros(g)))
    model = onnx.load_from_string(fixed.read_bytes())
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    free.write_bytes(model.SerializeToString())
    assert session.load_file("own", str(fixed)).inputs == (("input", (3, 24, 24)),)
    [(_, runs)] = session.measure(["own"], runs=2, warm=1)
    assert len(runs.whole) == 2
    assert session.load_file("own", str(free), (3, 32, 40)).inputs == (("input", (3, 32, 40)),)
    with pytest.raises(UnsupportedOp, match="does not tell the shape of its input input: give it as c,h,w"):
        session.load_file("own", str(free))
    with pytest.raises(UnsupportedOp, match=r"is \['N', 3, 24, 24\], not \[3, 32, 32\]"):
        session.load_file("own", str(fixed), (3, 32, 32))


def test_every_input_is_filled_whatever_its_type(session: RunnerSession, tmp_path: Path) -> None:
    make = onnx.helper
    inputs = [
        make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 8, 8]),
        make.make_tensor_value_info("axes", onnx.TensorProto.INT64, [1]),
    ]
    outputs = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("y", "z")]
    nodes = [make.make_node("ReduceSum", ["x", "axes"], ["y"]), make.make_node("Relu", ["x"], ["z"])]
    graph = make.make_graph(nodes, "two", inputs, outputs)
    path = tmp_path / "two.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), path)
    assert session.load_file("two", str(path)).inputs == (("x", (3, 8, 8)), ("axes", (1,)))


def test_a_file_that_is_no_model_gives_one_clear_line(session: RunnerSession, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a model\n" * 10)
    with pytest.raises(UnsupportedOp, match=f"cannot load {path}") as caught:
        session.load_file("bad", str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedOp, match="there is no file"):
        session.load_file("bad", str(tmp_path / "absent.onnx"))
    session.load("still alive", ENGINE.build(adding()), timed=False)


def test_other_arithmetic_is_refused(deployment: tuple[LocalTransport, Deployment]) -> None:
    board = Board("here", "local", engine="onnxruntime", dtype="fp16")
    with pytest.raises(UnsupportedOp, match="not in fp16; set dtype to fp32"):
        RunnerSession(*deployment, board, ENGINE)


def test_a_table_of_another_engine_is_told_by_its_identity() -> None:
    ncnn = Identity("pi4", "Pi", "aarch64", "ncnn", "1.0", "fp32", 1, (0,), "")
    here = Identity("pi4", "Pi", "aarch64", "onnxruntime", "1.31.1", "fp32", 1, (0,), "")
    assert ncnn.differences(here)[0] == "engine: 'ncnn', 'onnxruntime'"


# Charging kernels to ops.


def kernel(name: str, kind: str, reads: list[list[int]], makes: list[int], dur: int = 10) -> dict[str, Any]:
    shapes = {"input_type_shape": [{"float": s} for s in reads], "output_type_shape": [{"float": makes}]}
    return {"name": f"{name}_kernel_time", "dur": dur, "ts": 0, "args": {"op_name": kind, **shapes}}


WIDE, PIXEL = [1, 64, 8, 8], [1, 64, 1, 1]


def test_a_reorder_is_charged_to_the_op_that_needs_it() -> None:
    """Whenever it runs: the excitation reads the plain layout, the pooling before it does not."""
    kernels = [
        kernel("dw/0_nchwc", "Conv", [WIDE], WIDE),
        kernel("ReorderOutput_7", "ReorderOutput", [WIDE], WIDE),
        kernel("pool/0_nchwc", "GlobalAveragePool", [WIDE], PIXEL),
        kernel("ReorderOutput", "ReorderOutput", [PIXEL], PIXEL),
        kernel("scale/0", "Mul", [WIDE, PIXEL], WIDE),
        kernel("ReorderInput", "ReorderInput", [WIDE], WIDE),
        kernel("project/0_nchwc", "Conv", [WIDE], WIDE),
    ]
    owners = {"dw": 0, "pool": 1, "scale": 2, "project": 3}
    charged, share = charge(kernels, owners)
    assert charged == [0, 2, 1, 2, 2, 2, 3]
    assert share == pytest.approx(4 / 7)


def test_a_nameless_kernel_is_charged_to_the_op_whose_result_it_reads() -> None:
    kernels = [
        kernel("a/linear", "Conv", [WIDE], WIDE),
        kernel("b/0", "Conv", [WIDE], PIXEL),
        kernel("HardSigmoid_73", "HardSigmoid", [WIDE], WIDE),
        kernel("Mul_74", "Mul", [WIDE, WIDE], WIDE),
    ]
    assert charge(kernels, {"a": 0, "b": 1})[0] == [0, 1, 0, 0]


def test_nameless_kernels_at_the_ends() -> None:
    kernels = [
        kernel("ReorderInput", "ReorderInput", [WIDE], WIDE),
        kernel("a/0_nchwc", "Conv", [WIDE], PIXEL),
        kernel("ReorderOutput", "ReorderOutput", [PIXEL], PIXEL),
    ]
    assert charge(kernels, {"a": 0})[0] == [0, 0, 0]
    assert charge(kernels[:1], {"a": 0}) == ([-1], 0.0)


def test_a_path_may_hold_slashes_and_be_the_beginning_of_another() -> None:
    kernels = [kernel(name, "Conv", [WIDE], WIDE) for name in ("a/0", "a/b/linear_nchwc", "a/b/c/0/Fusion/")]
    assert charge(kernels, {"a": 0, "a/b": 1, "a/b/c": 2})[0] == [0, 1, 2]


def test_intervals_sum_up_to_the_run_without_the_profilers_gaps() -> None:
    kernels = [kernel("a/0", "Conv", [], []), kernel("b/0", "Conv", [], [])]
    kernels[0]["ts"], kernels[1]["ts"] = 100, 115  # 5 us of the profiler's own between them
    assert intervals(kernels, [0, 1], 2, 32_000) == [10_000, 10_000, 7_000]


def test_phones_nobody(tmp_path: Path) -> None:
    """Its telemetry would leave an identifier in the account's cache as soon as it is imported."""
    script = "import latency.onboard.onnxruntime as o, pathlib; o.OnnxRuntimeBackend(1, 'fp32', pathlib.Path('.'))"
    env = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    env.pop("CI", None)
    subprocess.run([sys.executable, "-c", script], env=env, check=True, cwd=tmp_path)
    assert list(tmp_path.rglob("*")) == []
