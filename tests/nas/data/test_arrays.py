from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.data import load_data, open_data
from nas.errors import DataError

RNG = np.random.default_rng(0)


def _npz(tmp_path: Path, **arrays: Any) -> str:
    np.savez(tmp_path / "data.npz", **arrays)
    return f"npz:{tmp_path / 'data.npz'}"


@pytest.mark.parametrize("shape", [(20, 6, 5), (20, 6, 5, 3), (20, 3, 6, 5)])
def test_npz_layouts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = RNG.integers(0, 256, shape, dtype=np.uint8)
    data = load_data(_npz(tmp_path, x=x, y=np.arange(20) % 2))
    assert data.input == (3, 6, 5)
    want = np.repeat(x[:, None], 3, axis=1) if x.ndim == 3 else x if x.shape[1] == 3 else x.transpose(0, 3, 1, 2)
    pictures = {p.tobytes() for part in (data.train, data.val, data.test) for p in part.x}
    assert pictures == {np.ascontiguousarray(p).tobytes() for p in want}


def test_npz_floats_parts_and_names(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 10 * 4 * 4, dtype=np.float32).reshape(10, 4, 4)
    y = np.array(["cat", "dog"] * 5)
    data = load_data(
        _npz(tmp_path, x_train=x, y_train=y, x_val=x[:2], y_val=y[:2], x_test=x[4:8], y_test=y[4:8]), channels=1
    )
    assert data.classes == ("cat", "dog")
    assert [len(part) for part in (data.train, data.val, data.test)] == [10, 2, 4]
    assert np.array_equal(data.test.x, np.round(x[4:8, None] * 255).astype(np.uint8))
    assert data.test.y.tolist() == [0, 1, 0, 1]


X, Y = np.zeros((10, 4, 4), np.uint8), np.arange(10) % 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X}, "lacks y; it holds x"),
        ({"x_val": X, "y_val": Y}, "lacks x and y, or x_train"),
        ({"x": X, "y": Y[:9]}, "one integer or name per picture"),
        ({"x": X, "y": Y / 2}, "one integer or name per picture"),
        ({"x": X.astype(np.int64), "y": Y}, "expected uint8"),
        ({"x": X + 2.0, "y": Y}, r"floats outside \[0, 1\]"),
        ({"x": np.full(X.shape, np.nan), "y": Y}, "floats outside"),
        ({"x": X[:, :, :, None].repeat(2, 3), "y": Y}, "c 1 or 3"),
        ({"x": X, "y": 0 * Y}, "has 1 class"),
        ({"x": X, "y": Y, "classes": np.array(["a", "b", "c"])}, "names 3 classes, y has 2"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "labels that training lacks: 2"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": 0 * Y}, "no test pictures of class 1"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y}, "different sizes"),
        ({"x": X, "y": np.array([object()] * 10)}, "no readable npz archive of plain arrays"),
        ({"x": X, "y": Y, "classes": np.array(["a", "\ud800"])}, r"class \\ud800 .* is not UTF-8; rename it: "),
        ({"x": X, "y": np.array(["a", "\udcdf"] * 5)}, r"class \\udcdf .* is not UTF-8; rename it: "),
        (
            {"x_train": X, "y_train": np.array(["a", "b"] * 5), "x_test": X, "y_test": np.array(["a", "\ud800"] * 5)},
            r"labels that training lacks: \\ud800",
        ),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as told:
        load_data(_npz(tmp_path, **arrays))
    assert str(told.value).encode()  # can be stored


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PK" + b[2:60] * 9])
def test_a_damaged_npz(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    spec = _npz(tmp_path, x=X, y=Y)
    (tmp_path / "data.npz").write_bytes(damage((tmp_path / "data.npz").read_bytes()))
    with pytest.raises(DataError, match="no readable npz archive"):
        open_data(spec)


def test_an_npz_larger_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _npz(tmp_path, x=X, y=Y)
    monkeypatch.setattr("nas.data.dataset.available_memory", lambda: 100)
    with pytest.raises(DataError, match="GiB of memory"):
        open_data(spec)


def _npy(shape: tuple[int, ...], descr: str, content: bytes = b"\0" * 100) -> bytes:
    """A member whose header says what it likes."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + content


_Y = _npy((10,), "|u1", bytes([0, 1] * 5))


@pytest.mark.parametrize(
    "members",
    [
        {"x.npy": _npy((1 << 50,), "|u1"), "y.npy": _Y},
        {"x.npy": _npy((1 << 62, 4), "|u1"), "y.npy": _Y},
        {"x.npy": _npy((-5, 8, 8), "|u1"), "y.npy": _Y},
        {"x.npy": _npy((10, 8, 8), "|u1"), "y.npy": _Y},
        {"x.npy": b"no array", "y.npy": _Y},
        {"x": b"no array", "y": _Y},
        {"x.npy": _npy((10, 8, 8), "|u1", bytes(640)), "y": b"no array"},
        {"x.npy": _npy((10, 8, 8), "|u1", bytes(640)), "y.npy": _npy((1 << 40,), "<U0", b"")},
        {"x.npy": _npy((10, 8, 8), "|u1", bytes(640)), "y.npy": _npy((), "|u1")},
        {"x.npy": _npy((), "|u1"), "y.npy": _Y},
        {
            "x.npy": _npy((10, 8, 8), "|u1", bytes(640)),
            "y.npy": _Y,
            "classes.npy": _npy((1 << 40,), "<U0", b""),
        },
        {"x.npy": _npy((10, 8, 8), "|u1", bytes(640)), "y.npy": _Y, "classes.npy": _npy((), "|u1")},
    ],
)
def test_a_crafted_npz_is_told_in_one_line(tmp_path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError) as told:
        open_data(f"npz:{tmp_path / 'data.npz'}")
    assert "\n" not in str(told.value)


def test_an_npz_that_unpacks_to_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.zeros((1000, 32, 32), np.uint8), y=np.arange(1000) % 2)
    monkeypatch.setattr("nas.data.arrays._MOST_BYTES", 1 << 19)
    monkeypatch.setattr(np, "load", None)
    assert path.stat().st_size < 1 << 16
    with pytest.raises(DataError, match=r"unpacks to 0\.0 GiB, more than 0 GiB; use fewer"):
        open_data(f"npz:{path}")


def test_of_an_npz_only_what_is_needed_is_read(tmp_path: Path) -> None:
    data = load_data(_npz(tmp_path, x=X, y=Y, notes=np.array([object()])))
    assert data.classes == ("0", "1")


def _cifar(folder: Path) -> Path:
    """A small CIFAR-10 in the official layout: Python 2's protocol, byte-string keys, a list of labels."""
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        x = RNG.integers(0, 256, (20, 3072), dtype=np.uint8)
        batch = {
            b"batch_label": b"some",
            b"labels": [i % 10 for i in range(20)],
            b"data": x,
            b"filenames": [b"a.png"] * 20,
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def test_cifar10_reads_the_official_batches(tmp_path: Path) -> None:
    folder = _cifar(tmp_path / "cifar-10-batches-py")
    data = load_data(f"cifar10:{tmp_path}")
    assert data.input == (3, 32, 32)
    assert data.classes[0] == "airplane"
    assert [len(part) for part in (data.train, data.val, data.test)] == [80, 20, 20]
    with (folder / "test_batch").open("rb") as file:
        raw = pickle.load(file)
    assert np.array_equal(data.test.x.reshape(20, -1), raw[b"data"])
    assert data.flip


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("import pathlib; pathlib.Path('EVIL').touch()",))


def test_cifar10_never_runs_what_a_pickle_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = _cifar(tmp_path / "cifar")
    (folder / "data_batch_3").write_bytes(pickle.dumps({b"data": _Evil(), b"labels": []}, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_3 is no CIFAR-10 batch \(it asks for \w+\.exec\)"):
        open_data(f"cifar10:{folder}")
    assert not Path("EVIL").exists()


def test_a_damaged_or_missing_cifar10_batch(tmp_path: Path) -> None:
    folder = _cifar(tmp_path / "cifar")
    whole = (folder / "test_batch").read_bytes()
    for content in (whole[:500], b"", pickle.dumps([1]), pickle.dumps({b"data": np.zeros((2, 5)), b"labels": [0, 1]})):
        (folder / "test_batch").write_bytes(content)
        with pytest.raises(DataError, match="test_batch is no CIFAR-10 batch"):
            open_data(f"cifar10:{folder}")
    (folder / "test_batch").unlink()
    with pytest.raises(DataError, match="lacks test_batch; unpack"):
        open_data(f"cifar10:{folder}")


class _Asks:
    """Pickles as a call of something with arguments, and a state for what it gives."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_ROWS = bytes(2 * 3072)
_U1 = _Asks(np.dtype, ("u1", False, True), (3, "|", None, None, None, -1, -1, 0))


def _array(shape: Any = (2, 3072), kind: Any = _U1, fortran: Any = False, content: Any = _ROWS) -> _Asks:
    return _Asks(_RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, kind, fortran, content))


# As the attack: a dtype of 8 bytes that hides an object, so that bytes of the file become an address.
_FIELDS = {"a": (np.dtype("O"), 0)}
_CRAFTED = [
    _Asks(np.dtype, ("V8", False, True), (3, "|", None, ("a",), _FIELDS, 8, 1, 0)),
    _Asks(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 63)),
    _Asks(np.dtype, ("i1", False, True), (3, "|", None, None, None, -1, -1, 0)),
]


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        *((_array(kind=kind), [0, 1]) for kind in [*_CRAFTED, None, "u1", b"u1"]),
        *(
            (_array(shape), [0, 1])
            for shape in [(1 << 44, 3072), (-1, 3072), (2, -3072), (2,), 2, (True, 3072), (0, 3072)]
        ),
        (_array(fortran=True), [0, 1]),
        (_array(content=_ROWS[:-1]), [0, 1]),
        (_array(content=[0] * len(_ROWS)), [0, 1]),
        *((_array(), [_array((4,), kind, content=b"A" * 32)] * 2) for kind in _CRAFTED[:2]),
        (_Asks(_RECONSTRUCT, (np.ndarray, (1 << 44,), b"b")), [0, 1]),
        (_U1, [0, 1]),
        (np.ndarray, [0, 1]),
        *(
            (_array(), labels)
            for labels in [[0], [0, 10], [0, -1], [0, True], [0, 1.0], (0, 1), [0, "1"], None, np.arange(2)]
        ),
    ],
)
def test_a_crafted_cifar10_batch_is_refused(tmp_path: Path, data: Any, labels: Any) -> None:
    folder = _cifar(tmp_path / "cifar")
    (folder / "data_batch_2").write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol=2))
    with pytest.raises(DataError, match="data_batch_2 is no CIFAR-10 batch") as told:
        open_data(f"cifar10:{folder}")
    assert "\n" not in str(told.value)


def test_cifar10_as_python_2_wrote_it(tmp_path: Path) -> None:
    folder = _cifar(tmp_path / "cifar")
    x = RNG.integers(0, 256, (2, 3072), dtype=np.uint8)
    # Opcodes of the official files: byte strings as Python 2's str, NumPy's old names.
    (folder / "test_batch").write_bytes(
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + x.nbytes.to_bytes(4, "little") + x.tobytes() + b"tb"
        b"U\x06labels](K\x03K\x07eu."
    )
    source = open_data(f"cifar10:{folder}")
    test = source._given["test"]  # type: ignore[attr-defined]
    assert np.array_equal(test.x.reshape(2, -1), x)
    assert test.y.tolist() == [3, 7]
