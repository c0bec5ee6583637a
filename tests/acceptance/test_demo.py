"""`nas demo`, the main job: the summary it promises, on a real board (this machine) with real trainings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_the_demo_keeps_its_promises(tmp_path: Path) -> None:
    env = {**os.environ, "LIGHTNAS_HOME": str(tmp_path / "home")}
    env.pop("LIGHTNAS_DATABASE_URL", None)

    done = subprocess.run(
        [Path(sys.executable).with_name("nas"), "demo", "--json", "--to", str(tmp_path / "winner")],
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout.splitlines()[-1])
    assert set(first) >= {"board", "ops", "cover_networks", "budget_ms", "trials", "best", "files", "seconds"}
    best = first["best"]
    assert isinstance(best, dict)
    assert set(best) >= {
        "encoding", "accuracy", "test_accuracy", "predicted_ms", "measured_ms", "flops", "params",
    }  # fmt: skip
    assert first["trials"] == 16
    assert best["predicted_ms"] <= first["budget_ms"]
    assert best["test_accuracy"] >= 0.97  # the published figure is 0.985 and more; one network of one machine here
    files = first["files"]
    assert isinstance(files, list)
    assert all(Path(f).is_file() for f in files)
