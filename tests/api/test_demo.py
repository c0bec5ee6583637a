from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from api.demo import board_name
from latency.board import Board

NAS = [sys.executable, "-c", "from api.cli import main; main()"]


@pytest.mark.parametrize("host", ["vm", "my laptop.local", "..x", "ümlaut", "", "-a", "x" * 200])
def test_any_machine_has_a_board_name(host: str) -> None:
    assert Board(board_name(host), "local").name


@pytest.mark.slow
@pytest.mark.timeout(1500)  # it profiles, trains and measures twice
def test_the_demo_goes_all_the_way_and_reuses_its_table(environment: dict[str, str], tmp_path: Path) -> None:
    def demo() -> dict[str, object]:
        command = [*NAS, "demo", "--json", "--trials", "3", "--epochs", "1", "--to", str(tmp_path / "out")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, object] = json.loads(done.stdout)
        return found

    first = demo()
    keys = {"board", "ops", "cover_networks", "budget_ms", "trials", "best", "files", "seconds"}
    best = {"encoding", "accuracy", "test_accuracy", "predicted_ms", "measured_ms", "flops", "params"}
    assert keys <= first.keys()
    assert first["best"].keys() == best  # type: ignore[attr-defined]
    assert all(Path(file).is_file() for file in first["files"])  # type: ignore[attr-defined]
    assert (first["ops"], first["trials"]) == (394, 3)
    second = demo()
    assert second["table"] == first["table"]
    assert second["search"] != first["search"]
