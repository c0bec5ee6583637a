from __future__ import annotations

import numpy as np
import pytest

from nas.data import Dataset, Part, load_data, open_data
from nas.data.digits import CANVAS
from nas.errors import DataError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", resolution=16)


def _parts(dataset: Dataset) -> dict[str, Part]:
    return {"train": dataset.train, "val": dataset.val, "test": dataset.test}


def test_digits_are_split_60_20_20_in_every_class(digits: Dataset) -> None:
    assert digits.input == (3, 16, 16)
    assert sum(map(len, _parts(digits).values())) == 1797
    total = np.bincount(np.concatenate([part.y for part in _parts(digits).values()]))
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        part = _parts(digits)[name]
        assert part.x.dtype == np.uint8
        assert np.abs(np.bincount(part.y) / total - share).max() < 0.02


def test_statistics_are_those_of_the_training_pictures(digits: Dataset) -> None:
    x = digits.train.x / 255
    np.testing.assert_allclose(digits.mean, x.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(digits.std, x.std((0, 2, 3)), rtol=1e-9)


def test_the_split_and_the_digest_repeat(digits: Dataset) -> None:
    again = load_data("digits", resolution=16)
    assert again.digest == digits.digest
    assert all(np.array_equal(a.x, b.x) for a, b in zip(_parts(again).values(), _parts(digits).values(), strict=True))
    assert load_data("digits", resolution=8).digest != digits.digest


def test_no_digit_is_in_two_parts() -> None:
    raw = load_data("digits", channels=1)
    assert raw.input == (1, 8, 8)
    seen = [{picture.tobytes() for picture in part.x} for part in _parts(raw).values()]
    from sklearn.datasets import load_digits

    doubles = 1797 - len({p.tobytes() for p in load_digits().images})
    assert sum(map(len, seen)) >= 1797 - doubles
    assert len(set.union(*seen)) == 1797 - doubles


def test_one_channel_is_the_grey_of_three() -> None:
    grey, colour = load_data("digits", resolution=8, channels=1), load_data("digits", resolution=8)
    assert np.array_equal(np.repeat(grey.val.x, 3, axis=1), colour.val.x)
    assert not grey.flip


def test_cluttered_digits_are_made_to_order_and_repeat() -> None:
    data = load_data("cluttered-digits:300", channels=1)
    assert [len(part) for part in _parts(data).values()] == [120, 120, 60]
    assert data.input == (1, CANVAS, CANVAS)
    assert set(np.bincount(data.train.y)) == {12}
    assert data.digest == load_data("cluttered-digits:300", channels=1).digest
    assert data.digest != load_data("cluttered-digits:310", channels=1).digest
    assert load_data("cluttered-digits:300", resolution=24).input == (3, 24, 24)


def test_cluttered_parts_are_made_from_their_own_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[set[bytes]] = []
    import nas.data.digits as module

    make = module._clutter
    monkeypatch.setattr(
        module, "_clutter", lambda digits, n, rng: used.append({x.tobytes() for x in digits.x}) or make(digits, n, rng)
    )
    load_data("cluttered-digits:200")
    plain = load_data("digits", channels=1)
    assert used == [{x.tobytes() for x in part.x} for part in _parts(plain).values()]


def test_the_classes_are_known_without_reading() -> None:
    assert open_data("cluttered-digits").classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mnist", "no data set 'mnist'; there is digits"),
        ("digits:5", "digits takes no argument"),
        ("cluttered-digits:many", "number of pictures"),
        ("cluttered-digits:10", "number of pictures"),
        ("folder:", "names no path"),
        ("npz:/nowhere.npz", "does not exist"),
    ],
)
def test_a_spec_that_means_nothing_is_refused(spec: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_data(spec)


def test_an_impossible_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="channels are 1 or 3"):
        load_data("digits", channels=4)
    monkeypatch.setattr("nas.data.dataset.available_memory", lambda: 2**30)
    with pytest.raises(DataError, match=r"cluttered-digits:1000000: needs 6\.4 GiB of memory, 1\.0 GiB are free"):
        load_data("cluttered-digits:1000000", resolution=(48, 32))
