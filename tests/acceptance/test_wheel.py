"""The built wheel works by itself: every package, the migrations and the runner are in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CODE = "import api.cli, sys; print(api.cli.__file__, file=sys.stderr); api.cli.main()"


def test_the_wheel_works_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "dist"), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("lightnas-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    sources = {p.relative_to(ROOT) for name in ("nas", "latency", "api") for p in (ROOT / name).rglob("*.py")}
    assert {p for p in sources if not (tmp_path / "site" / p).exists()} == set()
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "LIGHTNAS_HOME": str(tmp_path / "home")}
    env.pop("LIGHTNAS_DATABASE_URL", None)

    def nas(*arguments: str) -> str:
        command = [sys.executable, "-P", "-c", CODE, *arguments]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith(str(tmp_path / "site"))
        return done.stdout

    nas("db", "upgrade")
    nas("boards", "add", "here", "local")
    assert json.loads(nas("boards", "list", "--json"))[0]["name"] == "here"
    assert json.loads(nas("predict", "--space", "nas-bench-macro", "0,0,0,0,0,0,0,0", "--json"))["flops"] == 7713280
