"""Numbers that docs/operations.md and docs/design.md tell are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

from api.store.jobs import ATTEMPTS
from api.worker.supervisor import _RETRY_S, LEASE_S

DOCS = Path(__file__).parents[3] / "docs"
WORDS = {5: "five", 10: "ten", 20: "twenty", 30: "thirty"}


def _told(pattern: str) -> float:
    (found,) = re.findall(pattern, (DOCS / "operations.md").read_text())
    return float(found)


def test_what_happens_when_a_process_or_a_machine_is_lost() -> None:
    assert _told(r"one job's process \|.* after (\d+) deaths without any progress the job fails") == ATTEMPTS
    assert _told(r"one job's process \| the worker gives the job back, to be claimed again after (\d+) s;") == _RETRY_S
    assert _told(r"a worker, or its machine \| within (\d+) s \(`--lease`\)") == LEASE_S
    design = " ".join((DOCS / "design.md").read_text().split()).lower()
    assert f"{WORDS[ATTEMPTS]} claims without progress fail a job" in design
