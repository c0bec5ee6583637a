"""Data sets: pictures as uint8 arrays, split once into train, validation and test.

A search sees the validation pictures only; the test pictures are for the winner. (The seeds of Light-NAS in PaddleSlim
search on the test set; we do not.) The split depends on the data alone, never on a search's seed.
"""

from __future__ import annotations

from pathlib import Path

from nas.data.arrays import open_cifar10, open_npz
from nas.data.dataset import Dataset, Part, Source
from nas.data.digits import open_cluttered, open_digits
from nas.data.folder import open_folder
from nas.errors import DataError

_PLAIN = {"digits": open_digits, "cluttered-digits": open_cluttered}
_FILES = {"folder": open_folder, "cifar10": open_cifar10, "npz": open_npz}
SPECS = ("digits", "cluttered-digits[:PICTURES]", "folder:PATH", "cifar10:PATH", "npz:PATH")

__all__ = ["SPECS", "Dataset", "Part", "Source", "load_data", "open_data"]


def open_data(spec: str) -> Source:
    """What a data spec names, without its pictures: enough to know the classes.

    Args:
        spec: one of `SPECS`.

    Raises:
        DataError: no such kind of data, or the path cannot be used.
    """
    kind, _, argument = spec.partition(":")
    if kind in _PLAIN:
        return _PLAIN[kind](argument)
    if kind not in _FILES:
        raise DataError(f"no data set {spec!r}; there is {', '.join(SPECS)}")
    if not argument:
        raise DataError(f"{spec!r} names no path; write {kind}:PATH")
    path = Path(argument).expanduser()
    if not path.exists():
        raise DataError(f"{spec}: {path} does not exist")
    return _FILES[kind](path)


def load_data(
    spec: str,
    *,
    resolution: int | tuple[int, int] | None = None,
    channels: int = 3,
    cache: Path | None = None,
) -> Dataset:
    """The pictures of a data spec, fitted to a network's input.

    Args:
        spec: one of `SPECS`.
        resolution: height and width in pixels; None keeps the data's own (a folder has none).
        channels: 1 or 3; grey pictures are repeated, coloured ones turned grey.
        cache: a folder in which decoded picture folders are kept between processes.

    Raises:
        DataError: the data is missing, broken, too large for the memory, or unfit for training.
    """
    source = open_data(spec)
    size = (resolution, resolution) if isinstance(resolution, int) else resolution or source.size
    if size is None:
        raise DataError(f"{spec}: pictures of a folder have no common size; give a resolution")
    if channels not in (1, 3) or min(size) < 1:
        raise DataError(f"{spec}: cannot be made {channels}x{size[0]}x{size[1]}; channels are 1 or 3, sizes at least 1")
    return source.load((channels, *size), cache)
