"""Verify jobs on this machine: a search's networks, and an export's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from api.errors import OptionError
from api.jobs import export, verify
from api.jobs.context import Interrupted, JobContext
from api.results.artifacts import ArtifactStore
from api.schemas.jobs import ExportRequest, VerifyRequest
from api.store import Store
from nas.spaces import build_space

Nas = Callable[..., tuple[int, str, str]]
Claimed = Callable[..., JobContext]


def _spec(**given: Any) -> dict[str, Any]:
    return VerifyRequest(search="s", **given).model_dump(exclude={"search", "board"})


def test_the_best_networks_are_measured_and_that_is_kept_with_the_search(
    nas: Nas, opened: Store, claimed: Claimed, budgeted: int, board: str
) -> None:
    context = claimed("verify", _spec(top=2, passes=3), search_id=budgeted, board=board)
    result = verify.run(context)
    record = opened.searches.by_id(budgeted)
    assert (result["board"], result["table"]) == (board, record.table_digest)
    assert len(result["networks"]) == 2
    assert all(n["measured_ms"] > 0 and n["runs"] == 3 for n in result["networks"])
    assert record.winner is not None
    kept = record.winner["measurements"]
    assert {e: m["measured_ms"] for e, m in kept.items()} == {
        n["encoding"]: n["measured_ms"] for n in result["networks"]
    }
    assert (opened.jobs.get(context.job.id).progress or {})["done"] == 6
    printed = json.loads(nas("verify", "b", "--top", "2", "--passes", "3", "--json")[1])
    assert printed.keys() == result.keys()
    assert [n["encoding"] for n in printed["networks"]] == [n["encoding"] for n in result["networks"]]


def test_random_networks_and_another_board(
    nas: Nas, opened: Store, claimed: Claimed, budgeted: int, board: str, tiny: str
) -> None:
    result = verify.run(claimed("verify", _spec(random=3, seed=1, passes=2), search_id=budgeted, board=board))
    space = build_space(tiny)
    assert len(result["networks"]) == 3
    assert all(space.parse(n["encoding"]) is not None for n in result["networks"])
    assert "measurements" not in (opened.searches.by_id(budgeted).winner or {})  # they are no trials of it
    assert nas("boards", "add", "there", "local")[0] == 0
    with pytest.raises(OptionError, match="names no board"):
        verify.run(claimed("verify", _spec(), search_id=budgeted))
    assert nas("profile", "there", "--space", tiny, "--passes", "3", "--networks", "4")[0] == 0
    result = verify.run(claimed("verify", _spec(passes=2), search_id=budgeted, board="there"))
    assert result["board"] == "there"
    assert result["table"] != opened.searches.by_id(budgeted).table_digest


def test_it_stops_between_two_visits(
    claimed: Claimed, budgeted: int, board: str, after: Callable[[int], Callable[[], bool]]
) -> None:
    context = claimed("verify", _spec(passes=500), search_id=budgeted, board=board, stopping=after(10))
    with pytest.raises(Interrupted):
        verify.run(context)


def test_an_exports_answers_there_are_compared_with_those_here(
    opened: Store, claimed: Claimed, search: int, board: str
) -> None:
    spec = ExportRequest(search="s", epochs=1).model_dump(exclude={"search"})
    exporting = claimed("export", spec, search_id=search)
    named = _spec(accuracy=True, export=exporting.job.id)
    with pytest.raises(OptionError, match="no finished export of search"):
        verify.run(claimed("verify", named, search_id=search, board=board))
    opened.jobs.finish(exporting.fence, "complete", result=export.run(exporting))

    context = claimed("verify", named, search_id=search, board=board)
    result = verify.run(context)
    assert (result["export"], result["board"], result["remark"]) == (exporting.job.id, board, None)
    assert result["pictures"] == result["same_answers"] > 0
    (kept,) = ArtifactStore(opened).of(context.job.id)
    assert kept.name == "verified-here.json"
    told = json.loads(ArtifactStore(opened).open_path(kept).read_text())
    assert told == json.loads(json.dumps(result))
    few = claimed("verify", {**named, "pictures": 4}, search_id=search, board=board)
    assert verify.run(few)["pictures"] == 4

    ArtifactStore(opened).remove_of(job_id=exporting.job.id)
    with pytest.raises(OptionError, match="were removed"):
        verify.run(claimed("verify", named, search_id=search, board=board))
