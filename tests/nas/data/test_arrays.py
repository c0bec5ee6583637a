from __future__ import annotations

import pickle
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
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data(_npz(tmp_path, **arrays))


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
