"""Faults in the middle of a profile of an emulated board: the short form of `benchmarks/profile_faults.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.qemu, pytest.mark.timeout(2400)]

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "profile_faults.py"


@pytest.fixture(scope="module")
def result(
    emulation: None, write_tiny_space: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the benchmark found, with one fault of each kind."""
    space = write_tiny_space(tmp_path_factory.mktemp("faults"), "mbconv")
    # So many passes only make the profile long enough for all the faults.
    options = ["--space", space, "--passes", "20", "--longest-s", "12", "--faults", "9", "--json"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False, cwd=SCRIPT.parent
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def test_every_kind_of_fault_was_survived(result: dict[str, Any]) -> None:
    assert result["disturbed"]["faults"] == 9
    assert sorted(result["recovery_s"]) == [
        "board disk full", "board hung", "cable cut", "clock jump", "engine crash", "own disk full",
        "own process killed", "power cut", "runner killed",
    ]  # fmt: skip
    assert result["disturbed"]["started_again"] == 2, "only a full disk here and a kill of ours end the command"


def test_nothing_is_lost_and_nothing_stays_behind(result: dict[str, Any]) -> None:
    disturbed = result["disturbed"]
    assert disturbed["passes_lost"] == 0
    assert disturbed["processes_left_here"] == 0
    assert disturbed["processes_left_on_board"] == 0
    assert result["crashing_engine"]["processes_left_on_board"] == 0


def test_the_table_is_that_of_a_quiet_profile(result: dict[str, Any]) -> None:
    ops = {compared["ops"] for compared in result["undisturbed"]["against_each_other"]}
    assert min(ops) > 10
    for compared in [*result["disturbed"]["against_undisturbed"], *result["undisturbed"]["against_each_other"]]:
        assert compared["ops"] in ops
        assert compared["apart"] == 0, compared
        assert abs(compared["shift_us"]) < 2, compared
    assert result["crashing_engine"]["ops"] in ops
    assert result["crashing_engine"]["networks_skipped"] >= 1
