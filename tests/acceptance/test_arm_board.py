"""The real ARM path: an emulated Cortex-A72 behind a real sshd, driven through the `nas` command only.

Its milliseconds count instructions: they show that the path works and that predictions add up, no more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.qemu]


@pytest.fixture
def run(qemu_board: Any, write_tiny_space: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    """`nas ARGUMENTS --json` in a process of its own, with a store of its own; its parsed standard output."""
    alias = qemu_board.write_ssh_config(tmp_path / "ssh_config")
    write_tiny_space(tmp_path, "mbconv", "shuffle_v2")
    env = {**os.environ, "LIGHTNAS_HOME": str(tmp_path / "home"), "LIGHTNAS_SSH_CONFIG": str(tmp_path / "ssh_config")}
    env.pop("LIGHTNAS_DATABASE_URL", None)

    def call(*arguments: str) -> Any:
        command = [Path(sys.executable).with_name("nas"), *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False, timeout=500)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    call("boards", "add", "a72", alias)
    return call


def test_profile_search_verify_and_export_on_an_arm_board(run: Callable[..., Any], tmp_path: Path) -> None:
    checked = run("boards", "check", "a72")
    assert "aarch64" in json.dumps(checked)
    profile = run("profile", "a72", "--space", "tiny.yaml")
    assert profile["ops"] > 10
    assert profile["cover_networks"] < profile["ops"]

    verified = run("verify", "a72", "--space", "tiny.yaml", "--random", "20", "--seed", "1")
    rows = verified["networks"] if isinstance(verified, dict) else verified
    assert len(rows) == 20
    assert max(abs(row["error_pct"]) for row in rows) < 10

    budget_ms = sorted(row["predicted_ms"] for row in rows)[8]
    found = run(
        *("search", "--space", "tiny.yaml", "--board", "a72", "--latency-ms", f"{budget_ms:.6f}", "--trials", "3"),
        *("--data", "digits", "--epochs", "1", "--seed", "0", "--name", "arm"),
    )
    assert found["trials"] == 3
    assert found["best"]["predicted_ms"] <= budget_ms + 1e-6
    (best,) = run("verify", "arm")["networks"]
    assert best["measured_ms"] <= budget_ms * 1.03

    exported = run("export", "arm", "--to", str(tmp_path / "net"), "--epochs", "1")
    assert exported
    assert {p.suffix for p in (tmp_path / "net").iterdir()} >= {".onnx", ".param", ".bin", ".pt", ".md"}

    removed = run("boards", "clean", "a72")
    assert removed["files"] > 0
