from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from latency.board import Board
from latency.deploy import Deployment, deploy
from latency.engines import get_engine
from latency.engines.onnx import to_onnx
from latency.errors import LatencyError, UnsupportedOp
from latency.importers import Imported
from latency.measure import LoadedModel, _Read, load_model
from latency.session import Runs
from latency.sustained import Interval
from latency.transport import LocalTransport, Transport
from nas.graph import Graph

NCNN, ORT = Board("here", "local"), Board("here", "local", engine="onnxruntime")


def small() -> Graph:
    g = Graph((3, 16, 16))
    x = g.conv(g.input, 8, kernel=3, stride=2, act="relu6", norm=False, path="stem")
    x = g.depthwise(x, kernel=3, act="hswish", norm=False, path="dw")
    g.linear(g.global_pool(x, path="pool"), 5, path="classifier")
    return g


WEIGHTS = {
    "stem": (np.zeros((8, 3, 3, 3), np.float32), np.zeros(8, np.float32)),
    "dw": (np.zeros((8, 1, 3, 3), np.float32), np.zeros(8, np.float32)),
    "classifier": (np.zeros((5, 8), np.float32), np.zeros(5, np.float32)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def deployed(folder: Path) -> dict[str, Deployment]:
    """On this machine, which is also what the test's sshd leads to."""
    with pytest.MonkeyPatch.context() as patch, LocalTransport() as local:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        return {engine: deploy(local, engine) for engine in ("ncnn", "onnxruntime")}


@pytest.fixture
def param(tmp_path: Path) -> Path:
    path = tmp_path / "my model.param"
    path.write_text(get_engine("ncnn").build(small()).model)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "my model.onnx"
    onnx.save(to_onnx(small(), WEIGHTS), path)
    return path


def left(folder: Path) -> list[str]:
    return [p.name for p in (folder / "lightnas").iterdir() if p.name.startswith("model")]


def test_an_ncnn_text_and_its_weights_are_sent_as_they_are(
    transport: Transport, deployed: dict[str, Deployment], folder: Path, param: Path
) -> None:
    weights = get_engine("ncnn").weights(small(), WEIGHTS)
    param.with_suffix(".bin").write_bytes(weights)
    progress: list[tuple[int, int]] = []
    with load_model(NCNN, transport, deployed["ncnn"], param) as loaded:
        names = sorted(left(folder))
        assert [Path(name).suffix for name in names] == [".bin", ".param"]
        assert (folder / "lightnas" / names[0]).read_bytes() == weights
        result = loaded.measure(passes=3, runs=4, on_progress=lambda *told: progress.append(told))
    assert left(folder) == []
    assert not loaded.converted
    assert loaded.imported is not None
    assert loaded.imported.graph == small()
    assert (len(result.runs_ms), result.passes, progress) == (12, 3, [(1, 3), (2, 3), (3, 3)])
    assert 0 < result.min_ms <= result.median_ms <= result.p95_ms
    assert result.median_ms == pytest.approx(np.median(result.runs_ms))
    assert loaded.identity.engine == "ncnn"


def test_weights_that_do_not_fit_are_refused_and_nothing_is_left(
    deployed: dict[str, Deployment], folder: Path, param: Path
) -> None:
    param.with_suffix(".bin").write_bytes(b"short")
    with (
        LocalTransport() as local,
        pytest.raises(UnsupportedOp, match=r"\.bin does not fit"),
        load_model(NCNN, local, deployed["ncnn"], param),
    ):
        pass
    assert left(folder) == []


def test_an_onnx_file_is_sent_to_onnxruntime_as_it_is(
    transport: Transport, deployed: dict[str, Deployment], folder: Path, model: Path
) -> None:
    with load_model(ORT, transport, deployed["onnxruntime"], model) as loaded:
        (name,) = left(folder)
        assert (folder / "lightnas" / name).read_bytes() == model.read_bytes()
        assert len(loaded.measure(passes=2, runs=3).runs_ms) == 6
    assert left(folder) == []
    assert (loaded.converted, loaded.identity.engine) == (False, "onnxruntime")


@pytest.mark.parametrize(("board", "kind"), [(NCNN, ".onnx"), (ORT, ".param")])
def test_a_file_of_another_engine_is_converted(
    board: Board, kind: str, deployed: dict[str, Deployment], folder: Path, model: Path, param: Path
) -> None:
    file = model if kind == ".onnx" else param
    with LocalTransport() as local, load_model(board, local, deployed[board.engine], file) as loaded:
        assert left(folder) == []
        assert loaded.converted
        assert loaded.imported is not None
        assert loaded.imported.graph == small()
        assert len(loaded.measure(passes=1, runs=2).runs_ms) == 2


def saved(tmp_path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    model = to_onnx(small(), WEIGHTS)
    change(model)
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def leaky(model: onnx.ModelProto) -> None:
    (node,) = [n for n in model.graph.node if n.op_type == "HardSwish"]
    node.op_type = "LeakyRelu"


def test_what_cannot_be_converted_is_refused_in_one_line_and_run_as_it_is_elsewhere(
    deployed: dict[str, Deployment], tmp_path: Path
) -> None:
    path = saved(tmp_path, leaky)
    with LocalTransport() as local:
        with (
            pytest.raises(UnsupportedOp, match=r"dw/0 \(LeakyRelu\)") as caught,
            load_model(NCNN, local, deployed["ncnn"], path),
        ):
            pass
        assert "\n" not in str(caught.value)
        with load_model(ORT, local, deployed["onnxruntime"], path) as loaded:
            assert loaded.imported is not None
            assert not loaded.imported.complete
            assert loaded.measure(passes=1, runs=1).min_ms > 0


def test_what_we_cannot_read_at_all_may_still_run(deployed: dict[str, Deployment], tmp_path: Path) -> None:
    def second_input(model: onnx.ModelProto) -> None:
        shape = onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1, 5])
        model.graph.input.append(shape)
        model.graph.node[-1].input[0] = "sum"
        made = onnx.helper.make_node("Add", [model.graph.node[-2].output[0], "wide"], ["sum"])
        wide = onnx.helper.make_node("Unsqueeze", ["more", "i64.2_3"], ["wide"])
        for node in (wide, made):
            model.graph.node.insert(len(model.graph.node) - 1, node)

    path = saved(tmp_path, second_input)
    with LocalTransport() as local, load_model(ORT, local, deployed["onnxruntime"], path) as loaded:
        assert loaded.imported is None
        assert "has 2 inputs" in loaded.obstacle
        assert loaded.measure(passes=1, runs=1).min_ms > 0


def test_weights_in_other_files_are_refused(deployed: dict[str, Deployment], tmp_path: Path) -> None:
    model = to_onnx(small(), WEIGHTS)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    with (
        LocalTransport() as local,
        pytest.raises(LatencyError, match=r"keeps its weights in m\.data"),
        load_model(ORT, local, deployed["onnxruntime"], tmp_path / "m.onnx"),
    ):
        pass


def test_an_open_size_has_to_be_given(deployed: dict[str, Deployment], tmp_path: Path) -> None:
    def open_size(model: onnx.ModelProto) -> None:
        for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
            dim.dim_param = "side"

    path = saved(tmp_path, open_size)
    with LocalTransport() as local:
        with pytest.raises(LatencyError, match="--shape"), load_model(NCNN, local, deployed["ncnn"], path):
            pass
        for board in (NCNN, ORT):
            with load_model(board, local, deployed[board.engine], path, (3, 16, 16)) as loaded:
                assert loaded.measure(passes=1, runs=1).min_ms > 0


def test_a_missing_file(deployed: dict[str, Deployment], tmp_path: Path) -> None:
    with LocalTransport() as local:
        for name in ("m.onnx", "m.param", "m.pt"):
            with (
                pytest.raises(LatencyError, match=rf"m\.{name[2:]}"),
                load_model(NCNN, local, deployed["ncnn"], tmp_path / name),
            ):
                pass


# Sustained -----------------------------------------------------------------------------------------------------------


def test_sustained_on_a_real_board(deployed: dict[str, Deployment], param: Path) -> None:
    told: list[Interval] = []
    with LocalTransport() as local, load_model(NCNN, local, deployed["ncnn"], param) as loaded:
        result = loaded.sustain(2, on_interval=told.append)
    assert result.seconds >= 1.5
    assert not result.stopped
    assert list(result.intervals) == told
    assert sum(i.runs for i in told) == result.runs
    assert [a.end_s for a in told[:-1]] == [b.start_s for b in told[1:]]
    assert result.cold_ms > 0
    assert result.hot_ms > 0


class Slowing:
    """Stands in for a session with a board that gets slower, as none of ours does, on a clock of its own."""

    facts: dict[str, Any] = {  # noqa: RUF012
        "model": "m", "machine": "aarch64", "engine": "ncnn", "engine_version": "1", "cores": [0],
    }  # fmt: skip

    def __init__(self, run_ms: Callable[[float], float], state: Callable[[float], dict[str, Any]]) -> None:
        self._run_ms, self._state, self.now_s = run_ms, state, 100.0
        self.before = self.state = {"governor": ["ondemand"], **state(0.0)}

    def measure(self, names: Sequence[str], *, runs: int, warm: int) -> Iterator[tuple[str, Runs]]:
        self.before, whole = self.state, []
        for _ in range(warm + runs):
            ms = self._run_ms(self.now_s - 100.0)
            whole.append(round(ms * 1e6))
            self.now_s += ms / 1e3
        self.state = {"governor": ["ondemand"], **self._state(self.now_s - 100.0)}
        yield names[0], Runs(tuple(whole[warm:]), ())

    def loaded(self) -> LoadedModel:
        read = _Read(Imported(small(), (), 1))
        return LoadedModel(self, NCNN, read, 1, converted=False)  # type: ignore[arg-type]


def test_a_board_that_throttles_is_told_as_it_happens() -> None:
    board = Slowing(
        lambda t: 10.0 if t < 300 else 20.0,
        lambda t: {
            "mhz": [1800 if t < 300 else 900],
            "cpu_celsius": 50 + t / 20,
            "throttled": "0x0" if t < 300 else "0x40004",
        },
    )
    result = board.loaded().sustain(600, clock=lambda: board.now_s)
    assert (result.cold_ms, result.hot_ms) == (10.0, 20.0)
    assert result.slower_pct == pytest.approx(100)
    assert len(result.intervals) == 60
    assert result.seconds == pytest.approx(600, abs=1)
    slow = [i for i in result.intervals if i.marks]
    assert [i.end_s >= 300 for i in result.intervals] == [bool(i.marks) for i in result.intervals]
    assert "throttling" in slow[0].marks[0]
    assert "the frequency fell from 1800 to 900 MHz" in " ".join(slow[0].marks + slow[-1].marks)
    assert (slow[-1].mhz, slow[-1].throttled) == (900, 0x40004)
    assert result.intervals[0].celsius < result.intervals[-1].celsius


def test_a_short_fall_between_two_looks_shows_in_the_kernels_counts() -> None:
    ticks = itertools.count()

    def state(t: float) -> dict[str, Any]:
        slow = 30 * max(0, next(ticks) - 8)
        work = {"mhz_ticks": {"policy0": {"1800": 1000 + round(100 * t) - slow, "600": slow}}}
        return {"mhz": [1800], "work": work}

    board = Slowing(lambda t: 10.0, state)
    result = board.loaded().sustain(20, clock=lambda: board.now_s)
    assert result.intervals[0].mhz == 1800
    assert result.intervals[-1].mhz < 1800
    assert any("frequency" in mark for mark in result.intervals[-1].marks)
    assert not result.intervals[0].marks


def test_a_quiet_board_has_no_marks_and_cold_is_hot() -> None:
    board = Slowing(lambda t: 5.0, lambda t: {"mhz": [1800], "cpu_celsius": 40.0, "throttled": "0x50000"})
    result = board.loaded().sustain(30, clock=lambda: board.now_s)
    assert not any(i.marks for i in result.intervals)  # what the firmware remembers of the time before is no news
    assert result.slower_pct == 0


@pytest.mark.parametrize("run_ms", [4.0, 700.0, 30_000.0])
def test_every_run_is_in_one_interval_however_long_it_takes(run_ms: float) -> None:
    board = Slowing(lambda t: run_ms, lambda t: {})
    result = board.loaded().sustain(120, clock=lambda: board.now_s)
    assert sum(i.runs for i in result.intervals) == result.runs
    assert result.runs == pytest.approx(120e3 / run_ms, abs=2)
    assert (result.cold_ms, result.hot_ms) == (run_ms, run_ms)


def test_ctrl_c_ends_it_with_what_there_is() -> None:
    board = Slowing(lambda t: 10.0, lambda t: {})
    seen: list[Interval] = []

    def third(interval: Interval) -> None:
        seen.append(interval)
        if len(seen) == 3:
            raise KeyboardInterrupt

    result = board.loaded().sustain(600, on_interval=third, clock=lambda: board.now_s)
    assert result.stopped
    assert len(result.intervals) == 3
    assert 29 < result.seconds < 32


def test_ctrl_c_before_anything_was_run_is_no_result() -> None:
    board = Slowing(lambda t: 10.0, lambda t: {})

    def clock() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        board.loaded().sustain(600, clock=clock)


def test_how_many_runs_there_are_follows_from_how_long_one_takes() -> None:
    for run_ms, passes in ((0.1, 100), (100.0, 50), (700.0, 7), (30_000.0, 5)):
        board = Slowing(lambda t, ms=run_ms: ms, lambda t: {})
        result = board.loaded().measure()
        assert (len(result.runs_ms), result.passes) == (passes, passes)


def test_disturbed_passes_are_told() -> None:
    board = Slowing(lambda t: 10.0, lambda t: {"throttled": "0x1" if t > 0.1 else "0x0"})
    result = board.loaded().measure(passes=4, runs=5)
    assert len(result.disturbed) == 3
    assert "under-voltage" in result.disturbed[-1]
    assert dataclasses.asdict(result)["median_ms"] == 10.0
