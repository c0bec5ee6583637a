"""Train jobs: a final, its report and its curves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from api.errors import OptionError
from api.executors.choice import TrialExecutor
from api.finals.spec import FinalSpec
from api.jobs import train
from api.jobs.context import Interrupted, JobContext
from api.results.artifacts import ArtifactStore
from api.store import Store

Claimed = Callable[..., JobContext]


def _spec(measure: bool = True, teacher_search: int | None = None, **given: Any) -> dict[str, Any]:
    spec = asdict(FinalSpec(**{"top": 1, "baselines": (), **given}))
    return json.loads(json.dumps({**spec, "measure": measure, "teacher_search": teacher_search}))


@pytest.mark.slow
def test_a_final_keeps_its_report_and_curves(opened: Store, claimed: Claimed, search: int) -> None:
    artifacts = ArtifactStore(opened)
    baselines = ("mobilenetv2",)
    context = claimed(
        "train", _spec(baselines=baselines, per_family=1, options={"epochs": 2, "batch": 16}), search_id=search
    )
    result = train.run(context)
    kept = {record.name: artifacts.open_path(record).read_text() for record in artifacts.of(context.job.id)}
    assert kept.keys() == {"report.json", "curves.svg"}
    assert json.loads(kept["report.json"]) == json.loads(json.dumps(result))
    assert "MobileNetV2" in kept["curves.svg"]
    assert [n["role"] for n in result["networks"]] == ["winner", "baseline"]
    winner = opened.searches.by_id(search).winner
    assert winner is not None
    assert {"search": "s", **winner["report"]} == json.loads(json.dumps(result))
    progress = opened.jobs.get(context.job.id).progress
    assert progress is not None
    assert (progress["done"], progress["of"]) == (2, 2)
    assert "tested" in progress["text"]
    taught = claimed("train", _spec(teacher_search=search), search_id=search)
    with pytest.raises(OptionError, match="cannot teach itself"):
        train.run(taught)


@pytest.mark.slow
def test_a_stopped_final_goes_on_from_its_checkpoints(
    opened: Store, claimed: Claimed, reclaimed: Callable[[JobContext], JobContext], search: int
) -> None:
    epochs = 40  # more than are trained until the stop is heard
    checkpoints = "final/*/checkpoint.pt"

    def stopping() -> bool:
        return bool(list(opened.settings.search_folder(search).glob(checkpoints)))

    context = claimed("train", _spec(options={"epochs": epochs, "batch": 16}), search_id=search, stopping=stopping)
    with pytest.raises(Interrupted):
        train.run(context)
    assert opened.trainings.of(search) == []
    (path,) = opened.settings.search_folder(search).glob(checkpoints)
    stopped_at = path.stat().st_mtime_ns
    again = reclaimed(context)
    again.stopping = lambda: False
    told: list[str] = []
    again.progress = lambda done, of, text="": told.append(text)  # type: ignore[method-assign]
    result = train.run(again)
    assert result["networks"][0]["role"] == "winner"
    assert path.stat().st_mtime_ns > stopped_at
    (kept,) = opened.trainings.of(search)
    assert [entry["epoch"] for entry in kept.history] == list(range(1, epochs + 1))
    assert any(f"epoch {epochs} of {epochs}" in text for text in told)


@pytest.mark.slow
def test_the_networks_are_measured_first_and_a_teacher_teaches(
    opened: Store, claimed: Claimed, search: int, budgeted: int
) -> None:
    with pytest.raises(OptionError, match="no trained winner"):
        train.run(claimed("train", _spec(teacher_search=search), search_id=budgeted))
    train.run(claimed("train", _spec(options={"epochs": 1, "batch": 16}), search_id=search))
    spec = _spec(teacher_search=search, passes=3, options={"epochs": 1, "batch": 16})
    result = train.run(claimed("train", spec, search_id=budgeted))
    assert result["networks"][0]["measured_ms"] > 0
    assert all("teacher_digest" in t.options for t in opened.trainings.of(budgeted))
    unmeasured = train.run(claimed("train", {**spec, "measure": False}, search_id=budgeted))
    assert unmeasured["networks"][0]["measured_ms"] is None


@pytest.mark.slow
def test_a_final_has_no_more_processes_than_its_worker_gives_it(opened: Store, claimed: Claimed, search: int) -> None:
    given: dict[str, Any] = {"seeds": 3, "parallel": 3, "options": {"epochs": 1, "batch": 16}}
    context = claimed("train", _spec(measure=False, **given), search_id=search)
    context.executor = TrialExecutor(processes=1)
    result = train.run(context)
    assert [len(n["seeds"]) for n in result["networks"]] == [3]
    assert [p.name for p in opened.settings.search_folder(search).glob("final/slot-*.log")] == ["slot-0.log"]
