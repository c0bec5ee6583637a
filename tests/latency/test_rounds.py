"""The schedule, over a runner that answers at once; tests/latency/test_profiler.py runs it over a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from latency.engines import EngineModel
from latency.passes import Network, Pass, Progress
from latency.rounds import Rounds
from latency.session import Runs


class Board:
    """A board whose runs take `ns(name, rng)`; `sessions` counts its runners."""

    def __init__(self, ns: Callable[[str, np.random.Generator], float], free_bytes: int = 10**9) -> None:
        self.ns, self.rng, self.sessions = ns, np.random.default_rng(0), 0
        self.state = {"free_bytes": free_bytes}
        self.loads: list[str] = []

    def __call__(self) -> Session:
        self.sessions += 1
        return Session(self)


class Session:
    """The part of a RunnerSession that is used."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.before = self.state = board.state

    def load(self, name: str, model: EngineModel, *, timed: bool) -> int:
        self.board.loads.append(name)
        return 1000

    def unload(self, names: Sequence[str]) -> None:
        pass

    def measure(self, names: Sequence[str], *, runs: int, warm: int) -> Iterator[tuple[str, Runs]]:
        for name in names:
            yield name, Runs(tuple(int(self.board.ns(name, self.board.rng)) for _ in range(runs)), ())

    def close(self) -> None:
        pass


def networks(count: int, most: int | None = None) -> list[Network]:
    model = EngineModel("m", "t", ("a",), (1, 1, 1))
    return [Network(f"n{i}", model, timed=False, most=most) for i in range(count)]


def noisy(name: str, rng: np.random.Generator) -> float:
    return float(1e6 * np.exp(rng.normal(0, 0.2)))


def visits(passes: Sequence[Pass]) -> dict[str, int]:
    found: dict[str, int] = {}
    for p in passes:
        for name in p.runs:
            found[name] = found.get(name, 0) + 1
    return found


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latency.rounds.WANTED_S", 0.0)


def test_on_a_steady_board_three_passes_are_enough_and_one_runner() -> None:
    board = Board(lambda name, rng: 5e6)
    rounds = Rounds(board)  # type: ignore[arg-type]
    assert rounds.collect(networks(100)) == 3
    assert rounds.steady
    assert set(visits(rounds.passes).values()) == {3}
    assert board.sessions == 1


def test_on_a_noisy_board_there_are_many_and_each_quarter_has_a_runner_of_its_own() -> None:
    board = Board(noisy)
    rounds = Rounds(board)  # type: ignore[arg-type]
    assert rounds.collect(networks(10)) == 48
    assert set(visits(rounds.passes).values()) == {48}
    assert {p.session for p in rounds.passes} == {0, 1, 2, 3}


def test_the_first_networks_of_many_get_their_passes_before_the_last() -> None:
    rounds = Rounds(Board(noisy))  # type: ignore[arg-type]
    rounds.collect(networks(200))
    first_of = {}
    for at, p in enumerate(rounds.passes):
        for name in p.runs:
            first_of.setdefault(name, at)
    assert max(first_of[f"n{i}"] for i in range(50)) < min(first_of[f"n{i}"] for i in range(100, 200))
    fourth = max(at for at, p in enumerate(rounds.passes) if p.index == 3)
    assert fourth < min(at for at, p in enumerate(rounds.passes) if p.index == 4)


def test_a_network_whose_times_agree_is_left_alone() -> None:
    def ns(name: str, rng: np.random.Generator) -> float:
        return noisy(name, rng) if name != "n3" else 1e6 * (1 + 0.004 * rng.random())

    rounds = Rounds(Board(ns))  # type: ignore[arg-type]
    rounds.collect(networks(8))
    found = visits(rounds.passes)
    assert found.pop("n3") < 48
    assert set(found.values()) == {48}


def test_a_network_that_needs_few_visits_gets_no_more() -> None:
    rounds = Rounds(Board(noisy))  # type: ignore[arg-type]
    progress: list[Progress] = []
    rounds._on_progress = progress.append
    few, many = networks(6, most=12)[:3], networks(6)[3:]
    rounds.collect([*few, *many])
    assert {visits(rounds.passes)[n.name] for n in few} == {12}
    assert {visits(rounds.passes)[n.name] for n in many} == {48}
    assert progress[-1].visits == progress[-1].visits_done == 3 * 12 + 3 * 48


def test_what_an_interrupted_measurement_has_is_not_run_again() -> None:
    whole = Rounds(Board(noisy))  # type: ignore[arg-type]
    whole.collect(networks(10))
    kept = whole.passes[: len(whole.passes) // 2]
    rounds = Rounds(Board(noisy), done=kept)  # type: ignore[arg-type]
    rounds.collect(networks(10))
    assert set(visits(rounds.passes).values()) == {48}
    assert rounds.passes[: len(kept)] == kept
    assert min(p.session for p in rounds.passes[len(kept) :]) > max(p.session for p in kept)


def test_when_the_time_is_up_it_says_so() -> None:
    rounds = Rounds(Board(noisy))  # type: ignore[arg-type]
    assert rounds.collect(networks(5), deadline=0.0) == 0
    assert not rounds.complete
    assert rounds.passes == []


def test_the_sentinel_heads_every_batch_and_shows_drift() -> None:
    calls = [0]

    def ns(name: str, rng: np.random.Generator) -> float:
        calls[0] += 1
        return (1e6 if calls[0] < 300 else 1.2e6) * float(np.exp(rng.normal(0, 0.002)))

    rounds = Rounds(Board(ns))  # type: ignore[arg-type]
    rounds.collect(networks(10), 48, sentinel="n0")
    assert all(p.sentinel for p in rounds.passes)
    assert rounds.drift is not None
    assert rounds.drift.significant
    assert 1.1 < rounds.drift.ratio < 1.25


def test_networks_beyond_half_the_free_memory_wait_for_their_turn() -> None:
    board = Board(noisy, free_bytes=8000)
    rounds = Rounds(board)  # type: ignore[arg-type]
    rounds.collect(networks(10), 8)
    assert max(len(p.runs) for p in rounds.passes) <= 4
    assert set(visits(rounds.passes).values()) == {8}


def test_between_two_visits_progress_is_told_without_going_over_all_networks() -> None:
    class Watched(dict[str, Network]):
        looked_up = 0

        def __getitem__(self, name: str) -> Network:
            self.looked_up += 1
            return super().__getitem__(name)

    watched, told = Watched(), list[tuple[Progress, int]]()
    rounds = Rounds(Board(noisy), on_progress=lambda p: told.append((p, watched.looked_up)))  # type: ignore[arg-type]
    rounds._visitor.networks = watched
    rounds.collect(networks(40), 8)
    assert [p.visits_done for p, _ in told] == [*range(1, 321), 320]
    assert {(p.visits, p.networks, p.passes) for p, _ in told} == {(320, 40, 8)}
    assert len({looked_up for _, looked_up in told}) <= len(rounds.passes) + 1
