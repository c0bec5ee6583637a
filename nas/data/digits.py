"""Data that needs no download: scikit-learn's handwritten digits, and a harder set made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.data.dataset import PARTS, Dataset, Part, Pictures, Source, check_memory, complete, fit_all
from nas.errors import DataError
from nas.graph import Shape

CLASSES = tuple("0123456789")

# cluttered-digits
PICTURES = 6000
MIN_PICTURES = 200
CANVAS = 48
CLUTTER_SEED = 0
# How hard it is: networks of mobilenetv2-small spread over tens of points (benchmarks/cluttered_digits_tau.py).
FRAGMENTS = (2, 5)  # per picture, upper end excluded
FRAGMENT_SIDE = (0.25, 0.42)  # of the digit it is cut from
FRAGMENT_CONTRAST = (0.55, 1.0)
GLYPH_PX = (18, 31)  # upper end excluded
TURN_DEG = 20.0
CONTRAST = (0.6, 1.0)
# As many to judge by as to learn from: with 800, chance in the judging pictures hides which network is better.
SHARES = {"train": 0.4, "val": 0.4, "test": 0.2}


def _read() -> Part:
    """The 1797 digits of scikit-learn (UCI optical recognition of handwritten digits): (1797, 1, 8, 8)."""
    from sklearn.datasets import load_digits  # 1 s to import, and most data needs none of it

    bunch = load_digits()
    x = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return Part(x, np.asarray(bunch.target, np.int64))


class Digits(Source):
    """`digits`: 8 x 8 pixels, enlarged; 60 / 20 / 20 % of each class for train, validation and test."""

    spec = "digits"
    classes = CLASSES
    size = (8, 8)

    def load(self, shape: Shape, cache: Path | None) -> Dataset:
        """Read everything, fitted to (c, h, w)."""
        parts = complete(self.spec, CLASSES, {"train": _read()})
        fitted = {name: Part(fit_all(part.x, shape), part.y) for name, part in parts.items()}
        return Dataset.build(self.spec, CLASSES, fitted, flip=False)


class ClutteredDigits(Source):
    """`cluttered-digits[:PICTURES]`: one whole digit among fragments of others, to be found and read.

    After the cluttered MNIST of "Recurrent Models of Visual Attention" (arXiv 1406.6247). A digit of random size, turn
    and contrast lies anywhere on 48 x 48 pixels among pieces of other digits. Digits are split before pictures are made
    from them: no stroke of a validation or test picture occurs in a training picture.
    """

    classes = CLASSES
    size = (CANVAS, CANVAS)

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self.spec = f"cluttered-digits:{pictures}"

    def load(self, shape: Shape, cache: Path | None) -> Dataset:
        """Make everything, fitted to (c, h, w)."""
        check_memory(self.spec, self.pictures * (CANVAS**2 + int(np.prod(shape))), "ask for fewer pictures")
        digits = complete(self.spec, CLASSES, {"train": _read()})
        parts = {}
        for number, name in enumerate(PARTS):
            rng = np.random.default_rng([CLUTTER_SEED, number])
            part = _clutter(digits[name], round(self.pictures * SHARES[name]), rng)
            parts[name] = Part(fit_all(part.x, shape), part.y)
        return Dataset.build(self.spec, CLASSES, parts, flip=False)


def open_digits(argument: str) -> Source:
    """The source of a `digits` spec."""
    if argument:
        raise DataError(f"digits takes no argument, got {argument!r}; write digits")
    return Digits()


def open_cluttered(argument: str) -> Source:
    """The source of a `cluttered-digits[:PICTURES]` spec."""
    try:
        pictures = int(argument) if argument else PICTURES
    except ValueError:
        pictures = 0
    if pictures < MIN_PICTURES:
        raise DataError(f"cluttered-digits:{argument}: the number of pictures must be a number >= {MIN_PICTURES}")
    return ClutteredDigits(pictures)


def _clutter(digits: Part, n: int, rng: np.random.Generator) -> Part:
    """Pictures (n, 1, 48, 48) with equally many of each class, made from `digits` (m, 1, 8, 8)."""
    y = rng.permutation(np.arange(n) % len(CLASSES)).astype(np.int64)
    rows = [np.flatnonzero(digits.y == label) for label in range(len(CLASSES))]
    x = np.zeros((n, 1, CANVAS, CANVAS), np.uint8)
    for i in range(n):
        for _ in range(rng.integers(*FRAGMENTS)):
            glyph = _glyph(digits.x[rng.integers(len(digits)), 0], rng, turn_deg=180.0, contrast=FRAGMENT_CONTRAST)
            _paste(x[i, 0], _fragment(glyph, rng), rng)
        digit = digits.x[rng.choice(rows[y[i]]), 0]
        _paste(x[i, 0], _glyph(digit, rng, turn_deg=TURN_DEG, contrast=CONTRAST), rng)
    return Part(x, y)


def _glyph(digit: Pictures, rng: np.random.Generator, *, turn_deg: float, contrast: tuple[float, float]) -> Pictures:
    """A digit (8, 8) enlarged, turned by up to `turn_deg` either way, at a random share of its contrast."""
    size = int(rng.integers(*GLYPH_PX))
    angle, share = rng.uniform(-turn_deg, turn_deg), rng.uniform(*contrast)
    picture = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    turned = picture.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    return (np.asarray(turned) * share).astype(np.uint8)


def _fragment(glyph: Pictures, rng: np.random.Generator) -> Pictures:
    """A random piece of a digit: strokes, but no digit."""
    h, w = (int(side * rng.uniform(*FRAGMENT_SIDE)) for side in glyph.shape)
    top, left = rng.integers(glyph.shape[0] - h + 1), rng.integers(glyph.shape[1] - w + 1)
    return glyph[top : top + h, left : left + w]


def _paste(canvas: Pictures, piece: Pictures, rng: np.random.Generator) -> None:
    """Lay a piece somewhere whole on the canvas; the brighter pixel wins."""
    h, w = piece.shape
    top, left = rng.integers(CANVAS - h + 1), rng.integers(CANVAS - w + 1)
    place: NDArray[np.uint8] = canvas[top : top + h, left : left + w]
    np.maximum(place, piece, out=place)
