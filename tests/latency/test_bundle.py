"""The runner as one file."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import latency.onboard
from latency import bundle
from latency.bundle import runner_bundle


def test_it_holds_the_package_and_what_starts_it_and_hides_no_engine() -> None:
    folder = Path(latency.onboard.__file__).parent
    with zipfile.ZipFile(io.BytesIO(runner_bundle())) as archive:
        names = archive.namelist()
        assert names == ["__main__.py", *sorted(f"onboard/{path.name}" for path in folder.glob("*.py"))]
        assert "onboard/ncnn.py" in names
        for name in names[1:]:
            assert archive.read(name) == (folder.parent / name).read_bytes()


def test_the_same_modules_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each deployment would send another file."""
    for path in sorted(Path(latency.onboard.__file__).parent.glob("*.py"), reverse=True):
        (tmp_path / path.name).write_bytes(path.read_bytes())  # made in another order, at another time
        os.utime(tmp_path / path.name, (1, 1))
    (tmp_path / "__pycache__").mkdir()
    before = runner_bundle()
    monkeypatch.setattr(bundle, "_PACKAGE", tmp_path)
    assert runner_bundle() == before
    (tmp_path / "main.py").write_text("pass\n")
    assert runner_bundle() != before


def test_any_python_runs_it_from_anywhere_and_writes_nothing(runner_file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-u", runner_file],  # nothing of ours can be imported, nor any engine
        input='{"do": "state"}\n{"do": "dance"}\n',
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    state, refused = map(json.loads, done.stdout.splitlines())
    assert state["state"]["free_bytes"] > 0
    assert refused["kind"] == "request"
    assert done.stderr == ""
    assert sorted(tmp_path.rglob("*")) == before
