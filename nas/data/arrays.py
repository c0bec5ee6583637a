"""Data that comes as arrays: NumPy archives and the official CIFAR-10 batches. Nothing in a file is ever executed."""

from __future__ import annotations

import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import (
    PARTS,
    Dataset,
    Part,
    Pictures,
    Source,
    check_labels,
    check_memory,
    complete,
    fit_all,
    printable,
)
from nas.errors import DataError
from nas.graph import Shape

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_SHAPE = (3, 32, 32)
_MOST_BYTES = 4 << 30  # of an archive, unpacked: a small file can hold a terabyte of zeros
_FIX_MEMORY = "use fewer pictures, a smaller resolution or one channel"


class _Arrays(Source):
    """Parts held as (n, c, h, w) arrays, c being 1 or 3; missing ones are cut from the training pictures."""

    def __init__(self, spec: str, classes: tuple[str, ...], given: dict[str, Part], *, flip: bool) -> None:
        self.spec, self.classes, self._given, self._flip = spec, classes, given, flip
        h, w = given["train"].x.shape[2:]
        self.size = (h, w)

    def load(self, shape: Shape, cache: Path | None) -> Dataset:
        """Everything, fitted to (c, h, w)."""
        pictures = sum(len(part) for part in self._given.values())
        check_memory(self.spec, 2 * pictures * int(np.prod(shape)), _FIX_MEMORY)
        parts = complete(self.spec, self.classes, self._given)
        fitted = {name: Part(fit_all(part.x, shape), part.y) for name, part in parts.items()}
        return Dataset.build(self.spec, self.classes, fitted, flip=self._flip)


def open_npz(path: Path) -> Source:
    """`npz:PATH`: arrays x and y, or x_train, y_train and the same for val and test; class names as `classes`.

    x is (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels, uint8 or floats in [0, 1]; y (n,) holds
    integers or names.
    """
    spec = f"npz:{path}"
    arrays = _read_npz(spec, path)
    whole = {"train": ("x", "y")} if "x" in arrays else {part: (f"x_{part}", f"y_{part}") for part in PARTS}
    pairs = {part: names for part, names in whole.items() if names[0] in arrays}
    absent = [y for _, y in pairs.values() if y not in arrays]
    if "train" not in pairs or absent:
        need = ", ".join(absent) or "x and y, or x_train and y_train"
        raise DataError(f"{spec}: lacks {need}; it holds {', '.join(arrays) or 'nothing'}")
    arrays |= {x: _pictures(spec, x, arrays[x]) for x, _ in pairs.values()}
    for x, y in pairs.values():
        if arrays[y].shape != arrays[x].shape[:1] or arrays[y].dtype.kind not in "iuU":
            raise DataError(f"{spec}: {y} must hold one integer or name per picture of {x} ({len(arrays[x])})")
    names = np.unique(arrays[pairs["train"][1]])
    named = arrays.get("classes", names)
    if named.shape != names.shape:
        raise DataError(f"{spec}: classes names {named.size} classes, y has {len(names)}")
    classes = [str(name) for name in named]
    given = {}
    for part, (x, y) in pairs.items():
        unknown = np.setdiff1d(arrays[y], names)
        if len(unknown):
            few = ", ".join(map(printable, unknown[:5]))
            raise DataError(f"{spec}: {y} has labels that training lacks: {few}")
        given[part] = Part(arrays[x], np.searchsorted(names, arrays[y]).astype(np.int64))
    if len({part.x.shape[1:] for part in given.values()}) != 1:
        raise DataError(f"{spec}: the parts hold pictures of different sizes; make them equal")
    check_labels(spec, classes, {name: part.y for name, part in given.items()})
    return _Arrays(spec, tuple(classes), given, flip=False)


def _read_npz(spec: str, path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive that we know by name."""
    known = {"x", "y", "classes", *(f"{kind}_{part}" for kind in "xy" for part in PARTS)}
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > _MOST_BYTES:
                raise DataError(
                    f"{spec}: unpacks to {unpacked / 2**30:.1f} GiB, more than {_MOST_BYTES >> 30} GiB; {_FIX_MEMORY}"
                )
            check_memory(spec, 2 * unpacked, _FIX_MEMORY)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in known}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("a member is no array")
    except DataError:
        raise
    except Exception as e:  # a crafted archive can raise nearly anything
        raise DataError(f"{spec}: is no readable npz archive of plain arrays ({e}); write it with numpy.savez") from e
    return arrays


def _pictures(spec: str, name: str, x: NDArray[Any]) -> Pictures:
    """(n, c, h, w) uint8 of what a user calls pictures."""
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim == 4 and x.shape[-1] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise DataError(f"{spec}: {name} is {x.shape}; expected (n, h, w), (n, h, w, c) or (n, c, h, w), c 1 or 3")
    if x.dtype.kind == "f":
        if not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
            raise DataError(f"{spec}: {name} holds floats outside [0, 1]; scale them or store uint8")
        x = np.round(x * 255).astype(np.uint8)
    if x.dtype != np.uint8:
        raise DataError(f"{spec}: {name} is {x.dtype}; expected uint8 or floats in [0, 1]")
    return np.ascontiguousarray(x)


class _Type:
    """A dtype in a pickle: its code alone. NumPy's own takes any state, and memory is read by it."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """The byte order and what else does not matter to single bytes."""


class _Array:
    """An array in a pickle, not built; what NumPy's `_reconstruct` makes, too."""

    def __init__(self, *_: object) -> None:
        self._state: Any = None

    def __setstate__(self, state: object) -> None:
        self._state = state

    def pictures(self) -> NDArray[np.uint8]:
        """Copied, (n, 3072), n > 0.

        Raises:
            ValueError: it is anything else.
        """
        _, shape, kind, fortran, content = self._state
        plain = isinstance(kind, _Type) and kind.code in ("u1", b"u1") and not fortran and isinstance(content, bytes)
        if not plain or [type(n) for n in shape] != [int, int] or shape[0] < 1 or shape[1] != math.prod(_CIFAR_SHAPE):
            raise ValueError("its data are no rows of 3072 bytes")
        if math.prod(shape) != len(content):
            raise ValueError("its data have not the size they tell")
        return np.frombuffer(content, np.uint8).reshape(shape).copy()


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain containers and, as `_Array`, arrays; every other name in the file is refused, so no code runs."""

    _CODEC = ("_codecs", "encode")
    _STAND_INS: ClassVar[dict[tuple[str, str], type]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
    }

    def find_class(self, module: str, name: str) -> Any:
        """What stands for the class or function a pickle asks for, if it is one an array needs."""
        if (module, name) == self._CODEC:  # how Python 3 writes bytes into an old protocol
            return lambda text, _codec: text.encode("latin1")
        if (module, name) not in self._STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._STAND_INS[module, name]


def open_cifar10(path: Path) -> Source:
    """`cifar10:PATH`: the folder of the official python batches (data_batch_1 … 5, test_batch)."""
    folder = path / "cifar-10-batches-py" if (path / "cifar-10-batches-py").is_dir() else path
    spec = f"cifar10:{path}"
    batches = [_cifar_batch(spec, folder / f"data_batch_{i}") for i in range(1, 6)]
    train = Part(np.concatenate([b.x for b in batches]), np.concatenate([b.y for b in batches]))
    return _Arrays(spec, CIFAR10, {"train": train, "test": _cifar_batch(spec, folder / "test_batch")}, flip=True)


def _cifar_batch(spec: str, path: Path) -> Part:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        x, y = batch[b"data"].pictures(), batch[b"labels"]
        if type(y) is not list or len(y) != len(x) or not all(type(label) is int and 0 <= label <= 9 for label in y):
            raise ValueError("its labels are no list of one number from 0 to 9 per picture")
    except FileNotFoundError as e:
        raise DataError(f"{spec}: lacks {path.name}; unpack cifar-10-python.tar.gz and give its folder") from e
    except Exception as e:  # a damaged pickle can raise nearly anything
        raise DataError(f"{spec}: {path.name} is no CIFAR-10 batch ({e}); unpack the archive again") from e
    return Part(x.reshape(-1, *_CIFAR_SHAPE), np.array(y, np.int64))
