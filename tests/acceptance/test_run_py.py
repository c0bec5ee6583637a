"""run.py of an export answers as torch does where nothing but one engine is installed."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

_NO_NETWORK = "Retry(total=0"
"""What pip says before its last attempt to reach the index; not of a package that is not there, or does not fit."""
Answers = Callable[[str], list[dict[str, float]]]


@pytest.fixture(scope="module", params=["ncnn", "onnxruntime"])
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An engine, and a Python that has it, numpy and Pillow only."""
    engine, folder = str(request.param), tmp_path_factory.mktemp("venv") / str(request.param)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    needs = [f"{name}=={version(name)}" for name in (engine, "numpy", "pillow")]
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *needs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and _NO_NETWORK in done.stderr:
        pytest.skip(f"run.py NOT TESTED with {engine} alone: no network: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    found = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
    names = {package["name"].lower() for package in json.loads(found.stdout)}
    assert names.isdisjoint({"lightnas", "torch", *({"ncnn", "onnxruntime"} - {engine})})
    return engine, python


def _run(python: Path, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [python, folder / "run.py", *arguments]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)


def test_it_answers_as_torch_does(bare: tuple[str, Path], photo_export: Any, read_answers: Answers) -> None:
    _, python = bare
    done = _run(python, photo_export.folder, "--logits", *photo_export.files)
    assert (done.returncode, done.stderr) == (0, "")
    answers = read_answers(done.stdout)
    got = np.array([[answer[name] for name in photo_export.classes] for answer in answers])
    np.testing.assert_allclose(got, photo_export.logits, atol=1e-4)


def test_it_times_the_engine_that_is_there(bare: tuple[str, Path], photo_export: Any) -> None:
    engine, python = bare
    other = "onnxruntime" if engine == "ncnn" else "ncnn"
    example = next((photo_export.folder / "examples").iterdir())
    done = _run(python, photo_export.folder, example, "--repeat", "5", "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(" ms of 5 runs")
    absent = _run(python, photo_export.folder, example, "--engine", other)
    assert absent.returncode == 2
    assert absent.stderr.startswith(f"run.py: {other} cannot be imported (No module named '{other}')")
    assert len(absent.stderr.splitlines()) == 1
