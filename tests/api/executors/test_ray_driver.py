"""The watch over a cluster's nodes: whatever happens meanwhile, it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="RAY ABSENT: pip install 'lightnas[ray]' to run these tests")

from api.executors import ray_driver
from api.executors.ray_driver import Driver

BOTH = [{"NodeID": "n1", "Alive": True}, {"NodeID": "n2", "Alive": True}]
SECOND = [{"NodeID": "n1", "Alive": False}, {"NodeID": "n2", "Alive": True}]
NONE: list[dict[str, Any]] = []


class Enough(BaseException):
    """The script of the test is over."""


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[dict[str, Any]], list[str]]]:
    """Looks at the nodes until the looks are used up, with run 1 on n1 and run 2 on n2: messages, cancelled tasks."""
    monkeypatch.setattr(ray_driver, "_WATCH_S", 0)

    def run(*looks: Any, during: Callable[[Driver], None] = lambda driver: None) -> Any:
        told: list[dict[str, Any]] = []
        cancelled: list[str] = []
        script: Iterator[Any] = iter(looks)
        driver = Driver.__new__(Driver)  # no cluster
        driver._runs, driver._nodes = {1: "task 1", 2: "task 2"}, {1: "n1", 2: "n2"}

        def send(message: dict[str, Any]) -> None:
            told.append(message)
            during(driver)

        def nodes() -> Any:
            look = next(script, Enough())
            if isinstance(look, BaseException):
                raise look
            return look

        driver._send = send
        fake = SimpleNamespace(nodes=nodes, cancel=lambda task, force: cancelled.append(task))
        monkeypatch.setattr(ray_driver, "ray", fake)
        with pytest.raises(Enough):
            driver._watch()
        return told, cancelled

    return run


def lost(run: int, node: str) -> dict[str, Any]:
    return {"run": run, "lost": f"node {node} is dead"}


def test_runs_on_dead_nodes_are_given_up_once(watch: Callable[..., Any]) -> None:
    assert watch(BOTH, SECOND, SECOND, NONE, NONE) == ([lost(1, "n1"), lost(2, "n2")], ["task 1", "task 2"])


def test_a_run_that_ends_while_it_is_given_up_does_not_end_the_watch(watch: Callable[..., Any]) -> None:
    def follower(driver: Driver) -> None:
        driver._nodes.pop(1, None)

    told, _ = watch(BOTH, SECOND, NONE, during=follower)
    assert told == [lost(1, "n1"), lost(2, "n2")]


def test_a_run_that_has_just_ended_is_not_lost(watch: Callable[..., Any]) -> None:
    told, _ = watch(NONE, NONE, during=lambda driver: driver._nodes.clear())
    assert told == [lost(1, "n1")]


def test_a_look_that_fails_is_told_once_and_repeated(
    watch: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    away = ConnectionError("the head does not answer\nand more")
    assert watch(away, away, SECOND, away, NONE) == ([lost(1, "n1"), lost(2, "n2")], ["task 1", "task 2"])
    line = "cannot look at the nodes, trying again: the head does not answer\n"
    assert capsys.readouterr().err == line * 2  # each time that it begins
