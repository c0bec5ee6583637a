"""Profile jobs on this machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.boards.tables import plan_profile
from api.jobs import profile
from api.jobs.context import Interrupted, JobContext
from api.schemas.jobs import ProfileRequest
from api.store import Store
from latency.link import PatientLink
from latency.session import OWNER_VARIABLE, owner
from nas.spaces import build_space

Claimed = Callable[..., JobContext]
HOLD = """
import sys
from latency.board import Board
from latency.link import PatientLink
with PatientLink(Board("here", "local")) as link, link.open_session():
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def board(home: Path, nas: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """This machine, never profiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert nas("boards", "add", "here", "local")[0] == 0
    return "here"


def _spec(tiny: str, **given: Any) -> dict[str, Any]:
    spec = ProfileRequest(board="here", space="x", passes=3, networks=4).model_dump(exclude={"board"})
    return {**spec, "space": tiny, **given}


def _runners() -> list[str]:
    """The processes that measure for this one."""
    mark, found = f"{OWNER_VARIABLE}={owner()}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder.name)
    return found


def test_a_profile_stores_a_table_and_tells_what_the_command_tells(
    nas: Any, opened: Store, claimed: Claimed, board: str, tiny: str
) -> None:
    context = claimed("profile", _spec(tiny), board=board)
    result = profile.run(context)
    opened.jobs.finish(context.fence, "complete", result=result)
    assert (result["board"], result["complete"], result["passes"]) == ("here", True, 3)
    assert opened.tables.get(result["table"]).provenance.command == f"job {context.job.id}"
    kept = opened.jobs.get(context.job.id)
    assert kept.result == json.loads(json.dumps(result))
    assert kept.progress is not None
    assert kept.progress["done"] == kept.progress["of"] > 0
    assert "3 passes" in kept.progress["text"]
    printed = json.loads(nas("profile", "here", "--space", tiny, "--passes", "3", "--networks", "4", "--json")[1])
    assert printed.keys() == result.keys()
    assert printed["timed_ops"] == 0  # the job's table has them all


@pytest.mark.parametrize("fresh", [False, True])
def test_a_stopped_profile_keeps_its_passes_and_leaves_no_runner(
    opened: Store,
    claimed: Claimed,
    reclaimed: Callable[[JobContext], JobContext],
    board: str,
    tiny: str,
    fresh: bool,
) -> None:
    # Asked once a visit: long enough for several batches, each of which is saved.
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        assert asked > 1 or _runners()
        return asked > 300

    context = claimed("profile", _spec(tiny, passes=60, fresh=fresh), board=board, stopping=stopping)
    with pytest.raises(Interrupted):
        profile.run(context)
    assert _runners() == []
    with PatientLink(opened.boards.get(board)) as link:
        plan = plan_profile(opened, link, build_space(tiny), passes=60, fresh_networks=4)
    assert plan.passes_done > 0
    result = profile.run(reclaimed(context))
    assert (result["passes"], result["complete"]) == (60, True)
    (digest,) = [t.digest for t in opened.tables.list(board=board)]
    assert digest == result["table"]
    assert opened.profiles.count_passes(plan.run) > plan.passes_done  # it went on with these


def test_a_profile_waits_while_somebody_else_measures(opened: Store, claimed: Claimed, board: str, tiny: str) -> None:
    context = claimed("profile", _spec(tiny), board=board)
    told: list[str] = []

    def stopping() -> bool:
        at = opened.jobs.get(context.job.id).progress
        told.extend([] if at is None else [at["text"]])
        return bool(told)

    context.stopping = stopping
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"holding\n"
        with pytest.raises(Interrupted, match="while it waited for here"):
            profile.run(context)
    finally:
        other.communicate()  # the end of its input lets go
    assert told[0].startswith("waiting for here: ")
    assert "is being measured by" in told[0]
    context.stopping = lambda: False
    assert profile.run(context)["complete"]
