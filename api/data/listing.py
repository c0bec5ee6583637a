"""What data sets there are to choose from: the built-in ones, and what below the data root looks like one.

A listing is for a menu: it looks at names and at few entries of each folder, and opens no file. Whether the data can be
trained with is checked when a search names it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from api.data.root import DataRoot
from nas.data import open_data
from nas.data.digits import PICTURES, SHARES
from nas.data.folder import PICTURE_SUFFIXES

MOST = 200
"""Names in a listing."""
_MOST_FOLDERS = 1000  # looked into for one listing
_MOST_ENTRIES = 10_000  # of a folder
# In the root itself there may lie folders of a thousand pictures, by the thousand.
_MOST_SEEN = 50_000  # entries, for one listing
_CLASSES_SEEN = 3  # whose folders are looked into for a picture
_FILES_SEEN = 100  # of each
_BUILT_IN = {  # name -> pictures for training, for the test
    "digits": (1087, 355),
    "cluttered-digits": (round(PICTURES * SHARES["train"]), round(PICTURES * SHARES["test"])),
}


@dataclass(frozen=True)
class FoundData:
    """A data set by its looks.

    Attributes:
        name: as a request names it: `digits`, `folder:flowers`.
        kind: `built-in`, `folder`, `cifar10` or `npz`.
        classes: how many; None where only the content would tell, as with the others.
        channels: of the pictures.
        resolution: side of the pictures in pixels; None also where they have no common one.
        train: pictures for training.
        test: pictures for the winner.
    """

    name: str
    kind: str
    classes: int | None = None
    channels: int | None = None
    resolution: int | None = None
    train: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class Listing:
    """What requests may name: data sets, and CSV files, such as the evaluator `table` reads."""

    datasets: tuple[FoundData, ...]
    csv_files: tuple[str, ...]


def list_data(root: DataRoot) -> Listing:
    """The built-in data sets, then those below the root, up to two levels deep; at most `MOST` names.

    Links are not followed, hidden names and such that no request could write are left out, and folders that cannot be
    read are empty.
    """
    datasets, csv_files = [_built_in(name) for name in _BUILT_IN], list[str]()
    left = iter(range(_MOST_SEEN))
    waiting, looked = [("", _entries(root.root, left))], 0
    for prefix, entries in waiting:  # grows: the folders in the root that are no data sets themselves
        for entry in entries:
            if len(datasets) - len(_BUILT_IN) + len(csv_files) >= MOST or looked >= _MOST_FOLDERS:
                return Listing(tuple(datasets), tuple(csv_files))
            name, path = prefix + entry.name, Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                looked += 1
                here = _entries(path, left)
                found = _look_at(name, path, here, left)
                if found is not None:
                    datasets.append(found)
                elif not prefix:
                    waiting.append((f"{name}/", here))
            elif entry.is_file(follow_symlinks=False):
                if path.suffix == ".npz":
                    datasets.append(FoundData(f"npz:{name}", "npz"))
                elif path.suffix == ".csv":
                    csv_files.append(name)
    return Listing(tuple(datasets), tuple(csv_files))


def _built_in(name: str) -> FoundData:
    source, (train, test) = open_data(name), _BUILT_IN[name]
    assert source.size is not None
    return FoundData(name, "built-in", len(source.classes), 1, source.size[0], train, test)


def _look_at(name: str, path: Path, entries: list[os.DirEntry[str]], left: Iterator[int]) -> FoundData | None:
    """A folder as a data set, if it looks like one."""
    here = {entry.name: entry for entry in entries}
    if "cifar-10-batches-py" in here or {"data_batch_1", "test_batch"} <= here.keys():
        return FoundData(f"cifar10:{name}", "cifar10", 10, 3, 32)
    if "train" in here:
        here = {entry.name: entry for entry in _entries(path / "train", left)}
    classes = [entry for entry in here.values() if entry.is_dir(follow_symlinks=False)]
    if len(classes) < 2 or not any(_has_picture(Path(entry.path), left) for entry in classes[:_CLASSES_SEEN]):
        return None
    return FoundData(f"folder:{name}", "folder", len(classes))


def _has_picture(folder: Path, left: Iterator[int]) -> bool:
    suffixes = (Path(entry.name).suffix.lower() for entry in islice(_scan(folder, left), _FILES_SEEN))
    return any(suffix in PICTURE_SUFFIXES for suffix in suffixes)


def _entries(folder: Path, left: Iterator[int]) -> list[os.DirEntry[str]]:
    """What of a folder may be shown, by name."""
    shown = (entry for entry in islice(_scan(folder, left), _MOST_ENTRIES) if _nameable(entry.name))
    return sorted(shown, key=lambda entry: entry.name)


def _scan(folder: Path, left: Iterator[int]) -> Iterator[os.DirEntry[str]]:
    """A folder's entries, one off `left` for each, until that is used up."""
    try:
        if not folder.is_symlink():
            with os.scandir(folder) as found:
                yield from (entry for entry, _ in zip(found, left, strict=False))
    except OSError:  # not there, not ours to read, or gone meanwhile
        return


def _nameable(name: str) -> bool:
    """Whether a request can name it: no control characters, no bytes that are no text; hidden names are left out."""
    return not name.startswith((".", "~")) and name.isprintable() and "\\" not in name
