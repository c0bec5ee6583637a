"""`folder:PATH`: pictures in one folder per class, or that below train/, val/ and test/."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from nas.data.dataset import (
    PARTS,
    Dataset,
    Labels,
    Part,
    Pictures,
    Source,
    check_labels,
    check_memory,
    fit,
    printable,
    split,
)
from nas.durable import to_disk
from nas.errors import DataError
from nas.graph import Shape

PICTURE_SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])
PICTURE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever its name: it would give PostScript to another program."""
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what sets a picture upright."""
_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class Folder(Source):
    """Pictures on disk. Other files and hidden ones are ignored.

    Raises:
        DataError: fewer than two classes, or a class without pictures.
    """

    size = None

    def __init__(self, root: Path) -> None:
        self.spec = f"folder:{root}"
        roots = _part_folders(self.spec, root)
        classes = [d.name for d in _folders(roots["train"])]
        self.classes = tuple(classes)
        files: dict[str, list[Path]] = {}
        labels: dict[str, Labels] = {}
        for part, folder in roots.items():
            strange = {d.name for d in _folders(folder)} - set(classes)
            if strange:
                names = ", ".join(map(printable, sorted(strange)))
                raise DataError(f"{self.spec}: {folder.name}/ has classes that train/ lacks: {names}")
            found = [(f, i) for i, name in enumerate(classes) for f in _pictures(folder / name)]
            files[part], labels[part] = [f for f, _ in found], np.array([i for _, i in found], np.int64)
        check_labels(self.spec, classes, labels)
        missing = [part for part in PARTS if part not in roots]
        if missing:
            rows = split(self.spec, classes, labels["train"], missing)
            train_files, train_labels = files["train"], labels["train"]
            files |= {part: [train_files[i] for i in r] for part, r in rows.items()}
            labels |= {part: train_labels[r] for part, r in rows.items()}
        self._root, self._files, self._labels = root, files, labels

    def load(self, shape: Shape, cache: Path | None) -> Dataset:
        """Decode everything to (c, h, w), or map what an earlier process decoded into `cache`."""
        stem = None if cache is None else cache / f"folder-{self._key(shape)}"
        kept = None if stem is None else self._kept(stem)
        if kept is not None:
            return kept
        pictures = sum(map(len, self._files.values()))
        check_memory(
            self.spec, pictures * int(np.prod(shape)), "use a smaller resolution, one channel or fewer pictures"
        )
        parts = {part: Part(_decode(self._files[part], shape), self._labels[part]) for part in PARTS}
        dataset = Dataset.build(self.spec, self.classes, parts, flip=True)
        if stem is not None:
            _keep(dataset, stem)
        return dataset

    def _key(self, shape: Shape) -> str:
        """Changes when a picture is added, removed, touched or moved to another part."""
        digest = hashlib.sha256(repr((shape, self.classes)).encode())
        for part in PARTS:
            for file in self._files[part]:
                stat = file.stat()
                digest.update(
                    f"{part}\0{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
                )
        return digest.hexdigest()[:32]

    def _kept(self, stem: Path) -> Dataset | None:
        """The data set an earlier process decoded, its pictures mapped: processes share one copy in memory."""
        try:
            meta = json.loads(stem.with_suffix(".json").read_text())
            parts = {
                part: Part(np.load(stem.with_suffix(f".{part}.npy"), mmap_mode="r"), self._labels[part])
                for part in PARTS
            }
        except (OSError, ValueError, EOFError):  # EOFError: an empty file, as a power cut may leave
            return None
        mean, std = tuple(meta["mean"]), tuple(meta["std"])
        return Dataset(
            self.spec, self.classes, parts["train"], parts["val"], parts["test"], mean, std, True, meta["digest"]
        )


def open_folder(path: Path) -> Source:
    """The source of a `folder:PATH` spec."""
    if not path.is_dir():
        raise DataError(f"folder:{path}: is no folder")
    return Folder(path)


def _part_folders(spec: str, root: Path) -> dict[str, Path]:
    """Part -> its folder; just `train` where the classes lie directly in the root."""
    names = [d.name for d in _folders(root)]
    if not names or not set(names) <= set(_NAMES):
        return {"train": root}
    parts = {_NAMES[name]: root / name for name in names}
    if "train" not in parts or len(parts) != len(names):
        raise DataError(f"{spec}: has {', '.join(names)}; expected train and, if you like, val and test")
    return parts


def _folders(path: Path) -> list[Path]:
    return sorted(d for d in path.iterdir() if d.is_dir() and not d.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    """What is not hidden, nor lies in a hidden folder: there, programs keep copies of pictures."""
    if not folder.is_dir():
        return []
    depth = len(folder.parts)
    files = (f for f in folder.rglob("*") if f.suffix.lower() in PICTURE_SUFFIXES)
    shown = (f for f in files if not any(name.startswith(".") for name in f.parts[depth:]))
    return sorted(f for f in shown if f.is_file())


def _decode(files: Sequence[Path], shape: Shape) -> Pictures:
    """(n, c, h, w); Pillow decodes outside the interpreter's lock, so threads help."""
    out = np.empty((len(files), *shape), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, picture in enumerate(pool.map(lambda file: _read(file, shape), files)):
            out[i] = picture
    return out


def _read(file: Path, shape: Shape) -> Pictures:
    """One picture (c, h, w), turned as its EXIF says.

    Raises:
        DataError: it is broken or of a kind that has no 8-bit form; names the file.
    """
    try:
        with Image.open(file, formats=PICTURE_FORMATS) as picture:
            picture.draft(
                None, (2 * shape[2], 2 * shape[1])
            )  # JPEG: decode at a fraction of the size where that is enough
            return fit(_eight_bits(_upright(picture)), shape)
    except Exception as e:  # a damaged file can raise nearly anything
        why = str(e) or type(e).__name__
        raise DataError(f"{printable(file)}: cannot be read as a picture ({why}); repair or remove it") from e


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says; left as it lies where that cannot be read.

    `ImageOps.exif_transpose` writes the EXIF anew, and fails if any tag in it has a strange type.
    """
    picture.load()  # some formats tell it behind the pixels
    try:
        turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF can raise nearly anything; the pixels are sound
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Mode L or RGB: 16-bit grey scaled, transparency laid on white, palettes and CMYK converted."""
    if picture.mode.startswith("I"):  # I;16 and its byte orders; I is how some formats hand out 16 bits
        levels = np.asarray(picture).astype(np.int64).clip(0, 65535)
        return Image.fromarray((levels // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode == "1" else "RGB")


def _keep(dataset: Dataset, stem: Path) -> None:
    """Write the pictures beside each other, the JSON that vouches for them last. A full disk only costs the cache."""
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            _replace(stem.with_suffix(f".{part}.npy"), getattr(dataset, part).x)
        meta = {"mean": dataset.mean, "std": dataset.std, "digest": dataset.digest}
        _replace(stem.with_suffix(".json"), json.dumps(meta).encode())
    except OSError:
        return


def _replace(path: Path, content: Pictures | bytes) -> None:
    """Write a file whole or not at all, even if the power goes."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                np.save(file, content)
        to_disk(Path(temporary))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
