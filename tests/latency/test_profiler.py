from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from latency.board import Board
from latency.deploy import Deployment, deploy
from latency.engines import get_engine
from latency.errors import BoardBusy, ConnectionLost, InvalidTable, LatencyError, RunnerCrashed, UnsupportedOp
from latency.passes import Pass, Progress
from latency.predict import latency_model
from latency.profiler import Profile, Profiler
from latency.session import IDLE_STATUS, RunnerSession, opener
from latency.transport import LocalTransport
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space

BOARD = Board("here", "local")
ENGINE = get_engine("ncnn")
Bend = Callable[[str], Deployment]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    stages = [
        Stage(width=(8, 16), expansion=(1, 2), repeats=(1, 2)),
        Stage(width=(16, 24), expansion=(2,), kernel=(3, 5), stride=(2,), se=(False, True)),
    ]
    return staged_space("tiny", inputs=[(3, 16, 16)], stem=Stem(8), stages=stages, head=Head(5, width=32))


@pytest.fixture
def transport() -> Iterator[LocalTransport]:
    with LocalTransport() as made:
        yield made


@pytest.fixture
def deployment(transport: LocalTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return deploy(transport, "ncnn")


@pytest.fixture
def bend(deployment: Deployment, tmp_path: Path) -> Bend:
    """A runner whose methods some extra lines replace: a board that misbehaves."""

    def bent(lines: str) -> Deployment:
        path = tmp_path / "bent.py"
        start = (
            f"import os, signal, sys\nsys.path.insert(0, {deployment.runner_path!r})\n"
            "from onboard import main, ncnn, server\n"
        )
        path.write_text(f"{start}{lines}\nmain.run()\n")
        return dataclasses.replace(deployment, runner_path=str(path))

    return bent


@pytest.fixture
def whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass is one batch and one record, though the machine may stand still while its first networks run."""
    monkeypatch.setattr("latency.visits._BATCH_S", 1e6)


class VisitsClock:
    """Stands in for `time`: a visit takes 10 ms, on any machine."""

    def __init__(self) -> None:
        self.visits = 0
        self.sleep = time.sleep

    def monotonic(self) -> float:
        return 1000.0 + 0.01 * self.visits

    def count(self, progress: Progress) -> None:
        self.visits += 1


def keys_of(space: SearchSpace) -> set[str]:
    return {ENGINE.engine_key(op) for op in space.ops()}


def check(profile: Profile, space: SearchSpace) -> None:
    """A whole table that predicts."""
    table = profile.table
    assert set(table.entries) == keys_of(space)
    assert profile.ops == len(table.entries)
    assert all(entry.samples >= profile.passes for entry in table.entries.values())
    assert table.scale > 0
    assert table.provenance.spaces[0].digest == space.digest
    model = latency_model(table, space)
    assert 0 < model.minimum()[0] < model.maximum()[0]


@pytest.mark.usefixtures("whole_batches")
def test_a_profile_holds_every_op_and_every_pass(
    space: SearchSpace, transport: LocalTransport, deployment: Deployment
) -> None:
    passes: list[Pass] = []
    progress: list[Progress] = []
    profiler = Profiler(BOARD, opener(transport, deployment, BOARD, ENGINE), space, passes=4)
    profile = profiler.run(on_pass=passes.append, on_progress=progress.append, command="nas profile here")
    check(profile, space)
    assert profile.passes == 4
    assert [p.index for p in passes] == [p.number for p in passes] == [0, 1, 2, 3]
    assert all(len(p.runs) == profiler.networks for p in passes)
    done = [p.visits_done for p in progress]
    assert profile.disturbed or done == sorted(done)  # disturbed visits are taken back and made again
    assert set(done) >= set(range(1, 4 * profiler.networks + 1))
    assert progress[-1].visits == progress[-1].visits_done
    assert progress[-1].remaining_s == 0
    identity = profile.table.identity
    assert (identity.board, identity.engine, identity.dtype, identity.threads) == ("here", "ncnn", "fp32", 1)
    assert profile.table.provenance.command == "nas profile here"
    orders = [list(p.runs) for p in passes]
    assert orders[0] != orders[1]
    assert [Pass.from_dict(p.to_dict()) for p in passes] == passes


@pytest.mark.usefixtures("whole_batches")
def test_an_interrupted_profile_goes_on_where_it_was(
    space: SearchSpace, transport: LocalTransport, deployment: Deployment
) -> None:
    saved: list[Pass] = []

    def save_two(finished: Pass) -> None:
        saved.append(finished)
        if len(saved) == 2:
            raise KeyboardInterrupt

    first = Profiler(BOARD, opener(transport, deployment, BOARD, ENGINE), space, passes=5)
    with pytest.raises(KeyboardInterrupt):
        first.run(on_pass=save_two)
    kept = list(saved)
    second = Profiler(BOARD, opener(transport, deployment, BOARD, ENGINE), space, passes=5)
    assert second.plan_digest == first.plan_digest
    profile = second.run(done=[Pass.from_dict(p.to_dict()) for p in kept], on_pass=saved.append)
    assert [p.index for p in saved] == [0, 1, 2, 3, 4]
    assert all(entry.samples % 5 == 0 for entry in profile.table.entries.values())
    check(profile, space)


def test_the_plan_is_another_where_the_board_or_the_seed_is(
    space: SearchSpace, transport: LocalTransport, deployment: Deployment
) -> None:
    def digest(board: Board, seed: int = 0) -> str:
        return Profiler(board, opener(transport, deployment, board, ENGINE), space, seed=seed).plan_digest

    digests = {digest(BOARD), digest(dataclasses.replace(BOARD, threads=2)), digest(BOARD, seed=1)}
    assert len(digests) == 3


@pytest.mark.usefixtures("whole_batches")
def test_a_killed_runner_is_started_again(
    space: SearchSpace, transport: LocalTransport, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    opened = RunnerSession.__init__

    def remember(self: RunnerSession, *args: object) -> None:
        opened(self, *args)  # type: ignore[arg-type]
        pids.append(self.facts["pid"])

    monkeypatch.setattr(RunnerSession, "__init__", remember)
    passes: list[Pass] = []

    def kill_once(progress: Progress) -> None:
        if progress.visits_done == 7:
            os.kill(pids[0], signal.SIGKILL)

    profiler = Profiler(BOARD, opener(transport, deployment, BOARD, ENGINE), space, passes=3)
    profile = profiler.run(on_pass=passes.append, on_progress=kill_once)
    assert len(pids) == 2
    assert profile.skipped == ()
    assert [len(p.runs) for p in passes] == [profiler.networks] * 3
    check(profile, space)


CRASH = """
load, measured = server.Runner.do_load, []
def do_load(self, name, model='', **rest):
    if {condition}:
        os.kill(os.getpid(), signal.SIGSEGV)
    load(self, name, model, **rest)
server.Runner.do_load = do_load
"""


def test_a_network_that_crashes_the_engine_is_skipped_and_its_ops_timed_alone(
    space: SearchSpace, transport: LocalTransport, bend: Bend
) -> None:
    # Every cover network that holds the widest 5x5 op dies; the op itself does not, when alone.
    victim = "ConvolutionDepthWise s1.b0.dw 1 1 s1.b0.expand:0 s1.b0.dw:0.raw 0=32 1=5"
    bent = bend(CRASH.format(condition=f"{victim!r} in model"))
    profile = Profiler(BOARD, opener(transport, bent, BOARD, ENGINE), space, passes=2).run()
    assert profile.skipped
    assert all("exit status -11" in why for why in profile.skipped)
    check(profile, space)


def test_ops_that_always_crash_are_listed(space: SearchSpace, transport: LocalTransport, bend: Bend) -> None:
    bent = bend(CRASH.format(condition="'0=32 1=5 11=5 3=2' in model"))
    with pytest.raises(RunnerCrashed, match="depthwise:32x8x8>32x4x4:k5x5") as caught:
        Profiler(BOARD, opener(transport, bent, BOARD, ENGINE), space, passes=2).run()
    assert "\n" not in str(caught.value)


def test_an_engine_that_never_works_is_told_soon(space: SearchSpace, transport: LocalTransport, bend: Bend) -> None:
    with pytest.raises(RunnerCrashed, match="whatever it runs"):
        Profiler(BOARD, opener(transport, bend(CRASH.format(condition="True")), BOARD, ENGINE), space, passes=2).run()


def test_networks_that_do_not_fit_are_run_in_groups(space: SearchSpace, transport: LocalTransport, bend: Bend) -> None:
    bent = bend(
        "state = server.read_state\n"
        "server.read_state = lambda *a, **k: {**state(*a, **k), 'free_bytes': 6000000}\n"
        "server.resident_bytes = lambda sizes=iter(range(0, 10**12, 10**6)): next(sizes)\n"
    )
    passes: list[Pass] = []
    profiler = Profiler(BOARD, opener(transport, bent, BOARD, ENGINE), space, passes=4)
    profile = profiler.run(on_pass=passes.append)
    check(profile, space)
    assert max(len(p.runs) for p in passes) <= 4  # three fit, and the sentinel stays
    visits = [(p.index, name) for p in passes for name in p.runs]
    assert len(visits) == len(set(visits)) == 4 * profiler.networks
    assert [p.number for p in passes] == list(range(len(passes)))
    again: list[Pass] = []
    profiler.run(done=passes[:-2], on_pass=again.append)
    assert {(p.index, name) for p in again for name in p.runs} == {
        (p.index, name) for p in passes[-2:] for name in p.runs
    }


def test_where_time_repeats_exactly_a_few_passes_are_enough(
    space: SearchSpace, transport: LocalTransport, bend: Bend
) -> None:
    clock = "ncnn.perf_counter_ns = lambda ticks=iter(range(0, 10**12, 1000)): next(ticks)\n"
    profile = Profiler(BOARD, opener(transport, bend(clock), BOARD, ENGINE), space).run()
    assert profile.deterministic
    assert profile.passes == 3
    assert set(profile.table.entries) == keys_of(space)


def test_where_time_is_noisy_there_are_many(
    space: SearchSpace, transport: LocalTransport, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency.rounds.STEADY_SPREAD", -1.0)
    monkeypatch.setattr("latency.rounds._PRECISE", -1.0)
    monkeypatch.setattr("latency.rounds.WANTED_S", 0.0)
    profile = Profiler(BOARD, opener(transport, deployment, BOARD, ENGINE), space).run()
    assert not profile.deterministic
    assert profile.passes == 48
    assert profile.table.calibration.split_half_pct is not None


def test_two_profilers_never_share_a_board(
    space: SearchSpace, transport: LocalTransport, deployment: Deployment
) -> None:
    with (
        RunnerSession(transport, deployment, BOARD, ENGINE),
        pytest.raises(BoardBusy, match=f"board here is being measured by .*pid {os.getpid()}"),
    ):
        Profiler(BOARD, opener(transport, deployment, BOARD, ENGINE), space, passes=1).run()
    check(Profiler(BOARD, opener(transport, deployment, BOARD, ENGINE), space, passes=1).run(), space)


@pytest.mark.slow
def test_a_silent_board_is_a_lost_one(
    space: SearchSpace, transport: LocalTransport, bend: Bend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency.session.PATIENCE_S", 1.0)
    hangs = "import time\nserver.Runner.do_measure = lambda self, **_: time.sleep(3)\n"
    with pytest.raises(ConnectionLost, match="did not answer for 1 s"):
        Profiler(BOARD, opener(transport, bend(hangs), BOARD, ENGINE), space, passes=1).run()


def test_nonsense_from_the_board_is_told(transport: LocalTransport, bend: Bend) -> None:
    with pytest.raises(RunnerCrashed, match="nonsense: 'Welcome to pi4"):
        RunnerSession(transport, bend("print('Welcome to pi4', flush=True)"), BOARD, ENGINE)


@pytest.mark.parametrize(("name", "value"), [("passes", 0), ("fresh_networks", 3)])
def test_bad_settings_are_refused(
    space: SearchSpace, transport: LocalTransport, deployment: Deployment, name: str, value: int
) -> None:
    with pytest.raises(LatencyError, match=f"{name} is {value}"):
        Profiler(BOARD, opener(transport, deployment, BOARD, ENGINE), space, **{name: value})


def test_one_number_format_per_board(space: SearchSpace, transport: LocalTransport, deployment: Deployment) -> None:
    board = dataclasses.replace(BOARD, dtype="bf16")
    try:
        profile = Profiler(board, opener(transport, deployment, board, ENGINE), space, passes=1).run()
    except UnsupportedOp as e:
        if "cannot compute in bf16 on this CPU" not in str(e):
            raise
        pytest.skip(str(e))
    assert profile.table.identity.dtype == "bf16"
    assert np.isfinite(profile.table.scale)


LOSE = """
measure, losses = server.Runner.do_measure, []
def do_measure(self, names, **rest):
    if len(names) > {fewest} and not os.path.exists({mark!r}):
        open({mark!r}, "w").close()
        measure(self, names[:3], **rest)
        os._exit({status})
    measure(self, names, **rest)
server.Runner.do_measure = do_measure
"""


@pytest.mark.usefixtures("whole_batches")
def test_a_lost_link_costs_nothing_that_was_finished(
    space: SearchSpace, transport: LocalTransport, bend: Bend, tmp_path: Path
) -> None:
    mark = str(tmp_path / "lost")
    bent = bend(LOSE.format(fewest=3, mark=mark, status=IDLE_STATUS))
    opened: list[RunnerSession] = []
    again = opener(transport, bent, BOARD, ENGINE)

    def open_session() -> RunnerSession:
        opened.append(again())
        return opened[-1]

    passes: list[Pass] = []
    profiler = Profiler(BOARD, open_session, space, passes=3)
    profile = profiler.run(on_pass=passes.append)
    assert len(opened) == 2
    assert profile.skipped == ()
    visits = [(p.index, name) for p in passes for name in p.runs]
    assert len(visits) == len(set(visits)) == 3 * profiler.networks
    check(profile, space)


def test_a_board_lost_again_and_again_is_given_up(space: SearchSpace, transport: LocalTransport, bend: Bend) -> None:
    lines = f"server.Runner.do_measure = lambda self, **_: os._exit({IDLE_STATUS})\n"
    with pytest.raises(ConnectionLost):
        Profiler(BOARD, opener(transport, bend(lines), BOARD, ENGINE), space, passes=1).run()


def test_a_disturbed_pass_is_dropped_and_repeated(space: SearchSpace, transport: LocalTransport, bend: Bend) -> None:
    hot = """
state, calls, first = server.read_state, [], []
def read_state(*args, **kwargs):
    calls.append(1)
    first or first.append(state(*args, **kwargs))  # all else stands still
    return {**first[0], "work": {}, "throttled": "0x4" if 4 <= len(calls) <= 7 else "0x0"}
server.read_state = read_state
"""
    passes: list[Pass] = []
    profiler = Profiler(BOARD, opener(transport, bend(hot), BOARD, ENGINE), space, passes=4)
    profile = profiler.run(on_pass=passes.append)
    assert profile.disturbed == (("the firmware reports throttling now", profile.disturbed[0][1]),)
    assert all(p.state["throttled"] == "0x0" for p in passes)
    visits = [(p.index, name) for p in passes for name in p.runs]
    assert len(visits) == len(set(visits)) == 4 * profiler.networks


def test_a_board_that_is_never_quiet_is_measured_all_the_same(
    space: SearchSpace, transport: LocalTransport, bend: Bend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency.visits._PAUSE_S", 0.0)
    monkeypatch.setattr("latency.visits._SPOILED_S", 0.0)
    hot = "state = server.read_state\nserver.read_state = lambda *a, **k: {**state(*a, **k), 'throttled': '0x4'}\n"
    profile = Profiler(BOARD, opener(transport, bend(hot), BOARD, ENGINE), space, passes=2).run()
    assert sum(count for _, count in profile.disturbed) >= 2
    check(profile, space)


def test_when_time_is_up_the_rest_is_estimated_and_the_same_plan_goes_on(
    transport: LocalTransport, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = build_space("mobilenetv2-small")
    monkeypatch.setattr("latency.rounds.STEADY_SPREAD", -1.0)
    monkeypatch.setattr("latency.visits._FIRST_BATCH", 8)
    saved: list[Pass] = []
    here = opener(transport, deployment, BOARD, ENGINE)
    short, clock = None, VisitsClock()
    with monkeypatch.context() as patch:
        for module in ("profiler", "rounds", "visits"):
            patch.setattr(f"latency.{module}.time", clock)
        while short is None:  # the first sittings may be too short for a table
            with contextlib.suppress(LatencyError):
                short = Profiler(BOARD, here, space).run(
                    done=list(saved), on_pass=saved.append, on_progress=clock.count, time_limit_s=0.2
                )
    assert not short.complete
    assert not short.table.provenance.complete
    assert 0 < short.estimated < short.ops == len(keys_of(space))
    guessed = [entry for entry in short.table.entries.values() if entry.estimated]
    assert len(guessed) == short.estimated
    assert all(entry.sigma > 0 for entry in guessed)
    assert (
        latency_model(short.table, space, quantile=0.95).minimum()[0] > latency_model(short.table, space).minimum()[0]
    )
    before = len(saved)
    monkeypatch.setattr("latency.rounds.WANTED_S", 0.0)
    whole = Profiler(BOARD, here, space).run(done=list(saved), on_pass=saved.append)
    assert whole.complete
    assert whole.table.provenance.complete
    assert whole.estimated == 0
    visits = [(p.index, name) for p in saved for name in p.runs]
    assert len(visits) == len(set(visits))
    assert len(saved) > before


def test_a_second_space_times_only_what_is_new(
    space: SearchSpace, transport: LocalTransport, deployment: Deployment
) -> None:
    here = opener(transport, deployment, BOARD, ENGINE)
    first = Profiler(BOARD, here, space, passes=4).run().table
    stages = [
        Stage(width=(8, 16), expansion=(1, 2), repeats=(1, 2)),
        Stage(width=(16, 32), expansion=(2,), kernel=(3, 5), stride=(2,), se=(False, True)),
    ]
    other = staged_space("wider", inputs=[(3, 16, 16)], stem=Stem(8), stages=stages, head=Head(5, width=32))
    profiler = Profiler(BOARD, here, other, known=first, passes=4)
    fresh = Profiler(BOARD, here, other, passes=4)
    assert profiler.new_ops == len(keys_of(other) - keys_of(space)) < fresh.new_ops
    assert profiler.networks < fresh.networks
    both = profiler.run()
    assert both.timed == profiler.new_ops
    assert set(both.table.entries) == keys_of(space) | keys_of(other)
    assert [mark.name for mark in both.table.provenance.spaces] == ["tiny", "wider"]
    for wanted in (space, other):
        assert latency_model(both.table, wanted).minimum()[0] > 0
    again = Profiler(BOARD, here, space, known=both.table, passes=4).run()
    assert again.timed == again.networks == 0
    elsewhere = dataclasses.replace(first, identity=dataclasses.replace(first.identity, engine_version="0.9"))
    with pytest.raises(InvalidTable, match=r"engine_version.*--fresh"):
        Profiler(BOARD, here, other, known=elsewhere, passes=1).run()
