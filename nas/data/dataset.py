"""Dataset and Source: what every kind of data becomes, and the helpers that get it there.

Notations
    n: pictures; x: (n, c, h, w) uint8, 0 … 255; y: (n,) int64, indices into `classes`.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas.errors import DataError
from nas.graph import Shape

PARTS = ("train", "val", "test")
FRACTION = 0.2  # of all pictures, for validation and again for test, where the data does not come split
SPLIT_SEED = 0
_CHUNK = 1024
_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")

Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Pictures x (n, c, h, w) uint8 and their classes y (n,) int64."""

    x: Pictures
    y: Labels

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """Pictures fitted to one input shape.

    Attributes:
        spec: where it comes from.
        classes: names, in the order of the labels.
        train: what weights are fitted to.
        val: what a search looks at.
        test: for the winner, once.
        mean: per channel of the training pictures, in [0, 1].
        std: likewise.
        flip: a mirrored picture keeps its class (photographs do, digits do not).
        digest: sha256 of pictures, classes and split.
    """

    spec: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    digest: str

    @property
    def input(self) -> Shape:
        """(c, h, w) of every picture."""
        c, h, w = self.train.x.shape[1:]
        return c, h, w

    @staticmethod
    def build(spec: str, classes: Sequence[str], parts: Mapping[str, Part], *, flip: bool) -> Dataset:
        """A Dataset with its statistics and digest, read once from the pictures."""
        check_labels(spec, classes, {name: part.y for name, part in parts.items()})
        mean, std = _statistics(parts["train"].x)
        digest = hashlib.sha256("\0".join(classes).encode())
        for name in PARTS:
            digest.update(f"{name}{parts[name].x.shape}".encode())
            digest.update(np.ascontiguousarray(parts[name].y).data)
            for start in range(0, len(parts[name]), _CHUNK):
                digest.update(np.ascontiguousarray(parts[name].x[start : start + _CHUNK]).data)
        return Dataset(
            spec, tuple(classes), parts["train"], parts["val"], parts["test"], mean, std, flip, digest.hexdigest()
        )


class Source(ABC):
    """Data that has been found but not read.

    Attributes:
        spec: what the user wrote.
        classes: names, in the order of the labels.
        size: (h, w) the pictures have by themselves; None if they have no common one.
    """

    spec: str
    classes: tuple[str, ...]
    size: tuple[int, int] | None

    @abstractmethod
    def load(self, shape: Shape, cache: Path | None) -> Dataset:
        """Read everything, fitted to (c, h, w). Raises DataError."""


def check_labels(spec: str, classes: Sequence[str], labels: Mapping[str, Labels]) -> None:
    """Raises DataError unless there are two classes at least, each with a name in UTF-8 and pictures in each part."""
    if len(classes) < 2:
        raise DataError(f"{spec}: has {len(classes)} class(es); classification needs at least 2")
    for name in classes:
        if printable(name) != name:
            raise DataError(
                f"{spec}: class {printable(name)} has a name that is not UTF-8; rename it: in a folder of pictures its "
                f"folder, in an archive its entry in classes or y"
            )
    for part, y in labels.items():
        counts = np.bincount(y, minlength=len(classes))
        empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
        if empty:
            raise DataError(f"{spec}: no {part} pictures of class {', '.join(empty)}; add some or remove the class")


def printable(name: object) -> str:
    """A name as text that can be stored: bytes that are no UTF-8, which Python holds as surrogates, are written out."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def split(spec: str, classes: Sequence[str], y: Labels, parts: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """Cut a labelled set into train and the named other parts, each a fifth of every class; sorted indices.

    Raises:
        DataError: a class has fewer pictures than there are parts.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    taken: dict[str, list[NDArray[np.intp]]] = {name: [] for name in ("train", *parts)}
    for label, name in enumerate(classes):
        rows = rng.permutation(np.flatnonzero(y == label))
        if len(rows) <= len(parts):
            raise DataError(f"{spec}: class {name} has {len(rows)} picture(s); at least {len(parts) + 1} are needed")
        count = max(1, int(FRACTION * len(rows)))
        for i, part in enumerate(parts):
            taken[part].append(rows[i * count : (i + 1) * count])
        taken["train"].append(rows[len(parts) * count :])
    return {name: np.sort(np.concatenate(rows)) for name, rows in taken.items()}


def complete(spec: str, classes: Sequence[str], given: Mapping[str, Part]) -> dict[str, Part]:
    """The three parts: those given, and from the training pictures those missing."""
    missing = [name for name in PARTS if name not in given]
    if not missing:
        return dict(given)
    train = given["train"]
    rows = split(spec, classes, train.y, missing)
    return {**given, **{name: Part(train.x[r], train.y[r]) for name, r in rows.items()}}


def fit(picture: Image.Image, shape: Shape) -> Pictures:
    """(c, h, w) of a picture of mode L or RGB: scaled to cover h x w, the middle cut out."""
    c, h, w = shape
    picture = picture.convert("L" if c == 1 else "RGB")
    if picture.size != (w, h):
        picture = ImageOps.fit(picture, (w, h), Image.Resampling.BICUBIC)
    x = np.asarray(picture, np.uint8)
    return x[None] if c == 1 else x.transpose(2, 0, 1)


def fit_all(x: Pictures, shape: Shape) -> Pictures:
    """(n, c', h', w') fitted to (n, c, h, w); c' is 1 or 3."""
    if x.shape[1:] == shape:
        return x
    if x.shape[2:] == shape[1:] and x.shape[1] == 1:
        return np.repeat(x, shape[0], axis=1)
    out = np.empty((len(x), *shape), np.uint8)
    for i, picture in enumerate(x):
        layers = picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0))
        out[i] = fit(Image.fromarray(layers), shape)
    return out


def available_memory() -> int:
    """Bytes this process can still get of the machine and, in a container say, of its control groups.

    Memory that only caches files counts as available.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([_number(_PROC / "meminfo", "MemAvailable:") * 1024 or free, *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """Bytes that are left below the limit of each control group around this process; none where there is no limit."""
    for line in _lines(_PROC / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            mount, most, used, cached = _GROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, most, used = _GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        group = PurePosixPath(path)
        for folder in (mount / level.relative_to("/") for level in (group, *group.parents)):
            limit, usage = _lines(folder / most), _lines(folder / used)
            if limit and usage and limit[0].isdecimal():  # else "max": no limit
                yield max(0, int(limit[0]) - int(usage[0]) + _number(folder / "memory.stat", cached))


def _lines(path: Path) -> list[str]:
    """Of a file the kernel tells something in; empty where there is none."""
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _number(path: Path, name: str) -> int:
    """What stands behind a name at the begin of a line; 0 if nothing does."""
    return next((int(line.split()[1]) for line in _lines(path) if line.startswith(f"{name} ")), 0)


def check_memory(spec: str, needed: int, fix: str) -> None:
    """Raises DataError if `needed` bytes are more than two thirds of the free memory."""
    free = available_memory()
    if needed > free * 2 // 3:
        raise DataError(f"{spec}: needs {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free; {fix}")


def _statistics(x: Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Exact mean and standard deviation per channel in [0, 1], from histograms: no float copy of the pictures."""
    counts = np.zeros((x.shape[1], 256), np.int64)
    for block in _blocks(x):
        for c in range(x.shape[1]):
            counts[c] += np.bincount(block[:, c].reshape(-1), minlength=256)
    levels = np.arange(256) / 255
    total = counts.sum(1)
    mean = counts @ levels / total
    variance = np.maximum(counts @ levels**2 / total - mean**2, 0)
    # Pictures of one colour only have no contrast to normalise.
    std = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _blocks(x: Pictures) -> Iterator[Pictures]:
    return (x[start : start + _CHUNK] for start in range(0, len(x), _CHUNK))
