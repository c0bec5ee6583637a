"""run.py reads pictures as the training did, and tells what it cannot do in one line."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

import api.export.deploy
from nas.data.folder import open_folder

SOURCE = Path(api.export.deploy.__file__).with_name("files") / "run.py"


def _config(c: int, h: int, w: int) -> dict[str, Any]:
    order = "grey" if c == 1 else "RGB"
    return {
        "input": {"channels": c, "height": h, "width": w, "order": order},
        "mean": [0.5, 0.25, 0.125][:c],
        "std": [0.5, 0.25, 2.0][:c],
    }


def _trained_on(picture: Image.Image, folder: Path, suffix: str, shape: tuple[int, int, int], **save: Any) -> Any:
    """The path of a picture, and what a training in which it is the only kind of picture reads of it."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            picture.save(folder / name / f"{i}{suffix}", **save)
    return folder / "a" / f"0{suffix}", open_folder(folder).load(shape, None).train.x[0]


@pytest.mark.parametrize("shape", [(3, 20, 30), (1, 30, 20), (3, 48, 64)])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", ".png"), ("L", ".png"), ("LA", ".png"), ("RGBA", ".png"), ("P", ".png"), ("1", ".png"), ("I;16", ".png"),
     ("RGB", ".jpg"), ("L", ".jpg"), ("CMYK", ".jpg"), ("RGBA", ".webp"), ("P", ".gif"), ("RGB", ".bmp")],
)  # fmt: skip
def test_a_picture_is_read_as_the_training_reads_it(
    program: ModuleType, tmp_path: Path, mode: str, suffix: str, shape: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(1)
    pixels = np.kron(rng.integers(0, 256, (12, 16, 4)), np.ones((4, 4, 1))).astype(np.uint8)  # 48 x 64, in squares
    colours = Image.fromarray(pixels, "RGBA")
    if mode == "I;16":
        picture = Image.fromarray((pixels[..., 0].astype(np.uint16) * 257) ^ 0x5A)
    else:
        picture = colours.convert(mode) if mode in ("LA", "RGBA") else colours.convert("RGB").convert(mode)
    path, want = _trained_on(picture, tmp_path, suffix, shape)
    config = _config(*shape)
    got = program.prepare(path, config)
    mean, std = (np.array(config[key], np.float32)[:, None, None] for key in ("mean", "std"))
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, (want.astype(np.float32) / 255 - mean) / std)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(program: ModuleType, tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (9, 12, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path, want = _trained_on(Image.fromarray(pixels), tmp_path, ".png", (3, 8, 8), exif=exif)
    config = {**_config(3, 8, 8), "mean": [0.0] * 3, "std": [1.0] * 3}
    np.testing.assert_array_equal(program.prepare(path, config), want.astype(np.float32) / 255)


STRANGE_EXIF = (  # turned by 90 degrees; XResolution as ASCII, with which Pillow cannot write the EXIF again
    b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x1a\x01\x02\0\x03\0\0\x0072\0\0\0\0\0\0"
)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("exif", [STRANGE_EXIF, b"Exif\0\0no directory"], ids=["strange", "broken"])
def test_a_picture_with_damaged_exif_is_read_as_the_training_reads_it(
    program: ModuleType, tmp_path: Path, suffix: str, exif: bytes
) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (9, 12, 3), np.uint8)
    path, want = _trained_on(Image.fromarray(pixels), tmp_path, suffix, (3, 8, 8), exif=exif)
    config = {**_config(3, 8, 8), "mean": [0.0] * 3, "std": [1.0] * 3}
    np.testing.assert_array_equal(program.prepare(path, config), want.astype(np.float32) / 255)


def test_postscript_in_disguise_is_given_to_nobody(program: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "some.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(program.Failure, match=r"cannot be read as a picture \(cannot identify image file"):
        program.prepare(path, _config(3, 8, 8))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=20))
def test_probabilities_sum_to_one_and_keep_the_order(program: ModuleType, logits: list[float]) -> None:
    found = program.softmax(np.array(logits, np.float32))
    assert found.sum() == pytest.approx(1)
    assert (np.diff(found[np.argsort(logits)]) >= 0).all()


def test_it_is_written_for_python_3_9() -> None:
    ast.parse(SOURCE.read_text(), feature_version=(3, 9))


def run(folder: Path, *arguments: str | Path, hide: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Starts the exported run.py, as if some modules were not installed."""
    hidden = folder.parent / "hidden"
    hidden.mkdir(exist_ok=True)
    for name in hide:
        (hidden / f"{name}.py").write_text(f"raise ImportError(\"No module named '{name}'\", name={name!r})\n")
    command = [sys.executable, folder / "run.py", *arguments]
    env = {**os.environ, "PYTHONPATH": str(hidden), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=folder)


def test_it_classifies_every_picture_it_can_read(exported: Path) -> None:
    (exported / "notes.png").write_text("no picture")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[700] = 3  # XMP as a number: a TypeError in Pillow
    tags[700] = 5
    Image.new("RGB", (8, 8)).save(exported / "odd.tif", tiffinfo=tags)
    examples = sorted(path.relative_to(exported) for path in (exported / "examples").iterdir())
    bad = ("notes.png", "absent.png", "odd.tif")
    done = run(exported, examples[0], *bad, examples[1], "--top", "2", "--repeat", "3")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [str(examples[0]), str(examples[1])]
    assert len(lines) == 2 * (1 + 2 + 1)
    assert lines[3].endswith(" ms of 3 runs")
    assert "median" in lines[3]
    name, _, probability = lines[1].strip().rpartition(" ")
    assert name.strip() in {"red fox", "grün", "a/b", "blue", "black"}
    assert 0.2 <= float(probability) <= 1
    for name, line in zip(bad, done.stderr.splitlines(), strict=True):
        assert line.startswith(f"run.py: {name}: cannot be read as a picture")


def test_a_picture_with_a_name_that_is_no_text_is_classified(exported: Path) -> None:
    example = next((exported / "examples").iterdir())
    latin1 = example.rename(exported / os.fsdecode(b"stra\xdfe.png"))
    done = run(exported, latin1.name, "--top", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == r"stra\udcdfe.png"


def test_the_engines_answer_alike_and_the_installed_one_is_taken(exported: Path) -> None:
    example = next((exported / "examples").iterdir())
    arguments = (example, "--top", "9", "--logits")
    answers = [run(exported, *arguments, "--engine", name).stdout for name in ("ncnn", "onnxruntime")]
    alone = run(exported, *arguments, hide=("ncnn",))
    assert (alone.returncode, alone.stdout) == (0, answers[1])
    logits = [
        {n.strip(): float(v) for n, _, v in (line.rpartition(" ") for line in a.splitlines()[1:])} for a in answers
    ]
    assert logits[0] == pytest.approx(logits[1], abs=1e-4)
    assert len(logits[0]) == 5


@pytest.mark.parametrize(
    ("hide", "arguments", "line"),
    [(("ncnn",), ("--engine", "ncnn"), "run.py: ncnn cannot be imported (No module named 'ncnn'); run: "
      "python3 -m pip install ncnn"),
     (("ncnn", "onnxruntime"), (), "run.py: ncnn and onnxruntime cannot be imported (No module named 'ncnn'; "
      "No module named 'onnxruntime'); run: python3 -m pip install ncnn"),
     (("PIL",), (), "run.py: PIL is missing; run: python3 -m pip install numpy pillow")],
)  # fmt: skip
def test_a_missing_package_is_told_in_a_line(
    exported: Path, hide: tuple[str, ...], arguments: tuple[str, ...], line: str
) -> None:
    done = run(exported, "x.png", *arguments, hide=hide)
    assert done.returncode != 0
    assert done.stderr.splitlines() == [line]


@pytest.mark.parametrize(
    ("file", "engine", "line"),
    [("deploy.json", "ncnn", "deploy.json cannot be read"), ("network.onnx", "onnxruntime", "cannot load it"),
     ("network.ncnn.param", "ncnn", "cannot load it")],
)  # fmt: skip
def test_a_damaged_folder_is_told_in_a_line(exported: Path, file: str, engine: str, line: str) -> None:
    (exported / file).write_text("{")
    done = run(exported, "x.png", "--engine", engine)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert line in done.stderr.splitlines()[-1]


def test_an_answer_that_is_no_number_is_no_answer(program: ModuleType, exported: Path) -> None:
    class Broken:
        name, version, dtype = "ncnn", "1", "fp16"

        def run(self, x: Any) -> Any:
            return np.array([np.nan, 1], np.float32)

    example = next((exported / "examples").iterdir())
    config = json.loads((exported / "deploy.json").read_text())
    with pytest.raises(program.Failure, match=r"ncnn 1 answers NaN or infinity in fp16; use fp32"):
        program.classify(Broken(), example, config, None)
