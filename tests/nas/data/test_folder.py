from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

import nas.data.folder
from nas.data import load_data, open_data
from nas.data.dataset import fit
from nas.errors import DataError

COLOURS = {"blue": (0, 0, 200), "red": (200, 0, 0)}


def _fill(root: Path, counts: dict[str, int], *, offset: int = 0) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            r, g, b = COLOURS[name]
            Image.new("RGB", (20, 12), (r, g + i + offset, b)).save(root / name / f"{i}.png")
    return root


def test_one_folder_per_class_is_split_by_class(tmp_path: Path) -> None:
    root = _fill(tmp_path / "pictures", {"blue": 10, "red": 20})
    (root / "red" / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    data = load_data(f"folder:{root}", resolution=8)
    assert data.classes == ("blue", "red")
    assert [np.bincount(part.y).tolist() for part in (data.train, data.val, data.test)] == [[6, 12], [2, 4], [2, 4]]
    assert data.flip
    for part in (data.train, data.val, data.test):
        for x, y in zip(part.x, part.y, strict=True):
            assert x[2 if y == 0 else 0].min() == 200
    # The green of a picture tells which it was: none is in two parts.
    greens = [
        (int(y), int(x[1, 0, 0])) for p in (data.train, data.val, data.test) for x, y in zip(p.x, p.y, strict=True)
    ]
    assert len(set(greens)) == 30


def test_given_parts_are_kept_and_missing_ones_cut_from_training(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    _fill(root / "train", {"blue": 10, "red": 10})
    _fill(root / "valid", {"blue": 3, "red": 2}, offset=100)
    data = load_data(f"folder:{root}", resolution=8)
    assert [len(part) for part in (data.train, data.val, data.test)] == [16, 5, 4]
    assert data.val.x[:, 1].min() >= 100
    assert max(data.train.x[:, 1].max(), data.test.x[:, 1].max()) < 100
    _fill(root / "test", {"blue": 1, "red": 1}, offset=150)
    assert len(load_data(f"folder:{root}", resolution=8).train) == 20


def test_hidden_files_and_what_lies_in_hidden_folders_are_ignored(tmp_path: Path) -> None:
    root = _fill(tmp_path / "pictures", {"blue": 10, "red": 10})
    for copies in (root / "red" / ".ipynb_checkpoints", root / "red" / "more" / ".thumbnails" / "small"):
        copies.mkdir(parents=True)
        shutil.copy(root / "red" / "0.png", copies / "0-checkpoint.png")
    shutil.copy(root / "red" / "0.png", root / "red" / ".0.png")
    shutil.copy(root / "red" / "0.png", root / "red" / "more" / "seen.png")
    data = load_data(f"folder:{root}", resolution=8)
    assert sum(np.bincount(part.y) for part in (data.train, data.val, data.test)).tolist() == [10, 11]


def test_a_class_folder_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    root = _fill(tmp_path / "pictures", {"blue": 5, "red": 5})
    latin1 = root / os.fsdecode(b"stra\xdfe")
    (root / "blue").rename(latin1)
    with pytest.raises(DataError, match=r"class stra\\udcdfe .* is not UTF-8; rename it: .* its folder") as told:
        open_data(f"folder:{root}")
    assert str(told.value).encode()  # can be stored
    whole = _fill(tmp_path / "parts" / "train", {"blue": 5, "red": 5}).parent
    (whole / "val").mkdir()
    latin1.rename(whole / "val" / latin1.name)
    with pytest.raises(DataError, match=r"classes that train/ lacks: stra\\udcdfe") as told:
        open_data(f"folder:{whole}")
    assert str(told.value).encode()


def test_a_picture_may_have_any_name_and_is_named_if_broken(tmp_path: Path) -> None:
    root = _fill(tmp_path / "pictures", {"blue": 5, "red": 5})
    latin1 = (root / "red" / "3.png").rename(root / "red" / os.fsdecode(b"stra\xdfe.png"))
    assert len(load_data(f"folder:{root}", resolution=8).train) == 6
    latin1.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"red/stra\\udcdfe\.png: cannot be read") as told:
        load_data(f"folder:{root}", resolution=8)
    assert str(told.value).encode()


def _one_of_each(tmp_path: Path, picture: Image.Image, name: str, **options: object) -> np.ndarray:
    """What becomes of a picture: the training pictures of a folder full of it."""
    root = tmp_path / "kinds"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for i in range(3):
            picture.save(root / label / f"{i}{name}", **options)
    return load_data(f"folder:{root}", resolution=8).train.x[0]


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    dark = Image.fromarray(np.full((8, 8), 200, np.uint16))  # 200 of 65535 is black, not 200 of 255
    assert _one_of_each(tmp_path, dark, ".png").max() == 0
    shutil.rmtree(tmp_path / "kinds")
    bright = Image.fromarray(np.full((8, 8), 257 * 77, np.uint16))
    assert np.unique(_one_of_each(tmp_path, bright, ".tiff")).tolist() == [77]


def test_transparency_shows_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert _one_of_each(tmp_path, clear, ".png").min() == 255


def test_palette_grey_and_cmyk(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    for picture, name, want in (
        (red.quantize(4), ".png", [255, 0, 0]),
        (Image.new("L", (8, 8), 90), ".png", [90, 90, 90]),
        (Image.new("1", (8, 8), 1), ".png", [255, 255, 255]),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 0)), ".tiff", [255, 255, 255]),
    ):
        assert _one_of_each(tmp_path, picture, name)[:, 0, 0].tolist() == want
        shutil.rmtree(tmp_path / "kinds")


def test_exif_turns_the_picture(tmp_path: Path) -> None:
    half = np.zeros((32, 32, 3), np.uint8)
    half[:16] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    x = _one_of_each(tmp_path, Image.fromarray(half), ".jpg", exif=exif, quality=95)
    assert x[:, :3].max() < 30
    assert x[:, 5:].min() > 225


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_turn_gives_the_pixels_pillow_gives(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(orientation).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as picture:
        picture.draft(None, (16, 16))
        assert suffix != ".jpg" or picture.size == (32, 24)
        want = fit(ImageOps.exif_transpose(picture), (3, 8, 8))
    np.testing.assert_array_equal(nas.data.folder._read(path, (3, 8, 8)), want)


def _exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of (tag, type, count, value of up to 4 bytes), little-endian."""
    lines = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + lines + bytes(4)


ASCII, SHORT = 2, 3
TURNED = (0x0112, SHORT, 1, b"\x06\0")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(
    "strange",
    [(0x011A, ASCII, 3, b"72"), (0x0128, ASCII, 2, b"2"), (0x0100, ASCII, 3, b"40"), (0x8769, ASCII, 2, b"x")],
    ids=["XResolution", "ResolutionUnit", "ImageWidth", "ExifIFD"],
)
def test_a_strange_tag_beside_the_orientation_does_not_matter(
    tmp_path: Path, suffix: str, strange: tuple[int, int, int, bytes]
) -> None:
    pixels = Image.fromarray(np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8))
    read = []
    for name, entries in (("plain", [TURNED]), ("strange", sorted([TURNED, strange]))):
        pixels.save(tmp_path / f"{name}{suffix}", exif=_exif(*entries))
        read.append(nas.data.folder._read(tmp_path / f"{name}{suffix}", (3, 8, 8)))
    np.testing.assert_array_equal(*read)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0no directory", _exif(TURNED)[:16], _exif((0x0112, ASCII, 2, b"6"))])
def test_a_picture_with_broken_exif_is_not_turned(tmp_path: Path, exif: bytes) -> None:
    pixels = Image.fromarray(np.random.default_rng(4).integers(0, 256, (8, 8, 3), np.uint8))
    pixels.save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(nas.data.folder._read(tmp_path / "x.png", (3, 8, 8)), fit(pixels, (3, 8, 8)))


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    assert _one_of_each(tmp_path, Image.fromarray(wide), ".png")[:, :, 1:-1].min() > 200


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"


def test_postscript_in_disguise_is_given_to_nobody(tmp_path: Path) -> None:
    root = _fill(tmp_path / "pictures", {"blue": 5, "red": 5})
    (root / "red" / "3.png").write_bytes(EPS)
    with pytest.raises(DataError, match=r"red/3\.png: cannot be read as a picture \(cannot identify image file"):
        open_data(f"folder:{root}").load((3, 8, 8), None)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    root = _fill(tmp_path / "pictures", {"blue": 5, "red": 5})
    whole = (root / "red" / "3.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"no picture at all", b""):
        (root / "red" / "3.png").write_bytes(content)
        with pytest.raises(DataError, match=r"red/3\.png: cannot be read as a picture") as caught:
            load_data(f"folder:{root}", resolution=8)
        assert "\n" not in str(caught.value)


def test_a_picture_that_pillow_stumbles_over_is_named(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[700] = SHORT  # XMP, which Pillow takes for text: a TypeError
    tags[700] = 5
    Image.new("RGB", (8, 8)).save(tmp_path / "x.tif", tiffinfo=tags)
    with pytest.raises(DataError, match=r"x\.tif: cannot be read as a picture"):
        nas.data.folder._read(tmp_path / "x.tif", (3, 8, 8))


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "has 0 class"),
        ({"red": 9}, "has 1 class"),
        ({"blue": 0, "red": 9}, "no train pictures of class blue"),
        ({"blue": 2, "red": 9}, r"class blue has 2 picture\(s\); at least 3"),
    ],
)
def test_too_few_classes_or_pictures(tmp_path: Path, counts: dict[str, int], words: str) -> None:
    root = tmp_path / "pictures"
    root.mkdir()
    _fill(root, counts)
    with pytest.raises(DataError, match=words):
        open_data(f"folder:{root}")


def test_parts_that_do_not_fit_each_other(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    _fill(root / "train", {"blue": 4, "red": 4})
    (root / "val" / "green").mkdir(parents=True)
    with pytest.raises(DataError, match="val/ has classes that train/ lacks: green"):
        open_data(f"folder:{root}")
    (root / "val" / "green").rename(root / "val" / "red")
    with pytest.raises(DataError, match="no val pictures of class blue, red"):
        open_data(f"folder:{root}")
    shutil.rmtree(root / "train")
    with pytest.raises(DataError, match="expected train"):
        open_data(f"folder:{root}")


def test_a_resolution_is_needed_and_must_fit_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _fill(tmp_path / "pictures", {"blue": 5, "red": 5})
    with pytest.raises(DataError, match="give a resolution"):
        load_data(f"folder:{root}")
    monkeypatch.setattr("nas.data.dataset.available_memory", lambda: 10_000)
    with pytest.raises(DataError, match="GiB of memory"):
        load_data(f"folder:{root}", resolution=32)


def test_decoded_pictures_are_kept_and_forgotten_when_one_changes(tmp_path: Path, monkeypatch) -> None:
    root, cache = _fill(tmp_path / "pictures", {"blue": 5, "red": 5}), tmp_path / "cache"
    first = load_data(f"folder:{root}", resolution=8, cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr("nas.data.folder._decode", lambda *_: pytest.fail("decoded again"))
        again = load_data(f"folder:{root}", resolution=8, cache=cache)
    assert (again.digest, again.mean, again.flip) == (first.digest, first.mean, first.flip)
    assert np.array_equal(again.test.x, first.test.x)
    Image.new("RGB", (9, 9), (9, 99, 9)).save(root / "red" / "0.png")
    os.utime(root / "red" / "0.png", ns=(1, 1))
    assert load_data(f"folder:{root}", resolution=8, cache=cache).digest != first.digest


def test_an_unusable_cache_costs_only_the_cache(tmp_path: Path) -> None:
    root = _fill(tmp_path / "pictures", {"blue": 5, "red": 5})
    (tmp_path / "cache").write_text("a file where a folder should be")
    cached = load_data(f"folder:{root}", resolution=8, cache=tmp_path / "cache")
    assert cached.digest == load_data(f"folder:{root}", resolution=8).digest


@pytest.mark.parametrize("left", [0, 40, 300], ids=["nothing", "half a header", "half the pictures"])
@pytest.mark.parametrize("name", ["train.npy", "test.npy", "json"])
def test_a_cache_that_a_power_cut_left_is_made_again(tmp_path: Path, name: str, left: int) -> None:
    root, cache = _fill(tmp_path / "pictures", {"blue": 5, "red": 5}), tmp_path / "cache"
    first = load_data(f"folder:{root}", resolution=8, cache=cache)
    (kept,) = cache.glob(f"*.{name}")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: min(left, len(whole) - 1)])
    assert load_data(f"folder:{root}", resolution=8, cache=cache).digest == first.digest
    assert kept.read_bytes() == whole


def test_a_kept_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = _fill(tmp_path / "pictures", {"blue": 5, "red": 5}), tmp_path / "cache"
    flushed: dict[str, bytes] = {}
    monkeypatch.setattr(nas.data.folder, "to_disk", lambda path: flushed.update({path.name: path.read_bytes()}))
    load_data(f"folder:{root}", resolution=8, cache=cache)
    kept = {path.name: path.read_bytes() for path in cache.iterdir()}
    assert sorted(flushed.values()) == sorted(kept.values())
    assert len(kept) == 4
    assert not flushed.keys() & kept.keys()
