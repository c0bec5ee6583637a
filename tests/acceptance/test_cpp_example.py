"""The C++ program of an export is built against a real ncnn and answers as torch does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # ncnn may have to be compiled first

BUILD_NCNN = Path(__file__).parents[1] / "build_ncnn.py"
Answers = Callable[[str], list[dict[str, float]]]


@pytest.fixture(scope="session")
def classify(photo_export: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built as the model card says."""
    made = subprocess.run([sys.executable, BUILD_NCNN], capture_output=True, text=True, check=False)
    if made.returncode == 3:
        pytest.skip(f"C++ PROGRAM NOT TESTED: {made.stderr.strip()}")
    assert made.returncode == 0, made.stderr
    build = tmp_path_factory.mktemp("build")
    ncnn = Path(made.stdout.strip()) / "lib" / "cmake" / "ncnn"
    options = [f"-Dncnn_DIR={ncnn}", "-DCMAKE_CXX_FLAGS=-Wall -Wextra"]
    configure = ["cmake", "-S", photo_export.folder / "cpp", "-B", build, *options]
    configured = subprocess.run(configure, capture_output=True, text=True, check=False)
    if "stb_image.h is missing" in configured.stderr:
        pytest.skip("C++ PROGRAM NOT TESTED: stb_image.h is missing; run: make test-deps")
    assert configured.returncode == 0, configured.stderr
    built = subprocess.run(["cmake", "--build", build], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    ours = [line for line in built.stderr.splitlines() if str(photo_export.folder) in line and "warning:" in line]
    assert ours == []
    return build / "classify"


def _run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_a_failed_compile_is_told_as_one(tmp_path: Path) -> None:
    """And not as something missing, for which this would be skipped."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is missing; run: make test-deps")
    source = tmp_path / "source"
    source.mkdir()
    source.joinpath("CMakeLists.txt").write_text("message(FATAL_ERROR broken)\n")
    code = "import sys; from pathlib import Path; from build_ncnn import build; build(*map(Path, sys.argv[1:]))"
    folders = (source, tmp_path / "work", tmp_path / "new")
    done = subprocess.run(
        [sys.executable, "-c", code, *folders], cwd=BUILD_NCNN.parent, stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stderr) == (1, f"build_ncnn: ncnn does not build here; see {tmp_path}/build.log\n")


def test_it_answers_as_torch_does(classify: Path, photo_export: Any, read_answers: Answers) -> None:
    files = photo_export.files
    done = _run(classify, "--network", photo_export.folder, "--logits", *files)
    assert (done.returncode, done.stderr) == (0, "")
    answers = read_answers(done.stdout)
    got = np.array([[answer[name] for name in photo_export.classes] for answer in answers])
    difference = np.abs(got - photo_export.logits).max(1)
    told = "\n".join(f"{file.name}: {value:.1e}" for file, value in zip(files, difference, strict=True))
    exact = np.array([file.suffix == ".png" for file in files])
    assert exact.sum() >= 20
    assert difference[exact].max() < 1e-4, told
    # JPEG is decoded by another library, and by averages of pixels; what is at stake is the picture's turn.
    assert difference[~exact].max() < 0.3, told
    alike = np.ptp(photo_export.logits, axis=1) < 0.6  # decoders may decide between two such
    assert (got.argmax(1) == photo_export.logits.argmax(1))[exact | ~alike].all()


def test_it_prints_what_run_py_prints(classify: Path, photo_export: Any) -> None:
    files = [file for file in photo_export.files if file.suffix == ".png"]
    python = _run(Path(sys.executable), photo_export.folder / "run.py", "--engine", "ncnn", "--top", "1", *files)
    done = _run(classify, "--network", photo_export.folder, "--top", "1", *files)
    assert python.returncode == done.returncode == 0
    ours, theirs = done.stdout.splitlines(), python.stdout.splitlines()
    assert [line.rpartition(" ")[0] for line in ours] == [line.rpartition(" ")[0] for line in theirs]


def test_it_times_the_network_and_tells_what_it_cannot_read(classify: Path, photo_export: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    example = next((photo_export.folder / "examples").iterdir())
    options = ("--network", photo_export.folder, "--threads", "1")
    done = _run(classify, tmp_path / "notes.png", tmp_path / "absent.jpg", example, *options, "--repeat", "5")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == str(example)
    assert done.stdout.splitlines()[-1].endswith(" ms of 5 runs")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"classify: {tmp_path / 'notes.png'}: cannot be read as a picture (")
    assert second == f"classify: {tmp_path / 'absent.jpg'}: cannot be read, or is empty"
    lost = _run(classify, example, "--network", tmp_path)
    assert lost.returncode == 2
    assert lost.stderr.splitlines() == [
        f"classify: {tmp_path}/labels.txt: cannot be read; give the exported folder with --network"
    ]
