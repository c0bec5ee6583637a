"""The `table` evaluator: accuracies that somebody recorded, looked up in a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from nas.errors import EvaluationError, InvalidEncoding
from nas.evaluator import Architecture, Evaluation, Evaluator, Progress, Report
from nas.space import SearchSpace

NAS_BENCH_MACRO_COLUMNS = ("acc_seed0", "acc_seed1", "acc_seed2")
_KEYS: dict[str, Callable[[str], list[int]]] = {
    "digits": lambda text: [int(digit) for digit in text],
    "commas": lambda text: [int(index) for index in text.split(",")],
}
_UNITS = {"percent": 100.0, "fraction": 1.0}


class TableEvaluator(Evaluator):
    """Answers from a table with one row per architecture; equal networks share a row.

    The defaults fit NAS-Bench-Macro's table: one of three recorded trainings is drawn by the trial's seed, as if the
    network were trained anew.

    Args:
        path: a CSV file with a header.
        arch: the column that names the architecture.
        columns: accuracies, one column per recorded training (a list, or names joined by commas).
        key: how `arch` writes an encoding: `digits` (``01210022``) or `commas` (``0,1,2``).
        unit: of the accuracies, `percent` or `fraction`.

    Raises:
        EvaluationError: the file, a column or an option cannot be used. It quotes nothing of the file: who may name one
            may not be one who may read it.
    """

    name = "table"
    isolated = False
    served_options: ClassVar[Mapping[str, str]] = {
        "path": "file",
        **dict.fromkeys(("arch", "columns", "key", "unit"), "text"),
    }

    def __init__(
        self,
        *,
        path: str,
        arch: str = "arch",
        columns: str | Sequence[str] = NAS_BENCH_MACRO_COLUMNS,
        key: str = "digits",
        unit: str = "percent",
    ) -> None:
        if key not in _KEYS or unit not in _UNITS:
            raise EvaluationError(
                f"table options key={key!r}, unit={unit!r}: key is one of {', '.join(_KEYS)}; "
                f"unit one of {', '.join(_UNITS)}"
            )
        self._path = Path(path).expanduser()
        self._columns = tuple(columns.split(",")) if isinstance(columns, str) else tuple(columns)
        self._key, self._unit = key, _UNITS[unit]
        self._archs, self._accuracies, self._lines = self._read(arch)
        self._rows: dict[str, dict[bytes, int]] = {}

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """The recorded accuracy; extras name the column it came from."""
        space = architecture.space
        row = self._index(space).get(space.canonical(space.validate(architecture.encoding))[0].tobytes())
        if row is None:
            text = ",".join(map(str, architecture.encoding))
            raise EvaluationError(f"{self._path}: has no row for {text} of {space.name} nor for a network equal to it")
        column = int(np.random.default_rng(seed).integers(len(self._columns)))
        accuracy = self._accuracies[row][column]
        report(Progress(1, 1, {"val_accuracy": accuracy}))
        return Evaluation(accuracy, {"column": self._columns[column]})

    def _read(self, arch: str) -> tuple[list[str], list[tuple[float, ...]], list[int]]:
        archs, accuracies, lines = [], [], []
        try:
            with self._path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                header = reader.fieldnames or []
                missing = [name for name in (arch, *self._columns) if name not in header]
                if missing:
                    raise EvaluationError(
                        f"{self._path}: lacks column {', '.join(missing)}; name its columns with options arch, columns"
                    )
                for row in reader:
                    archs.append(row[arch] or "")
                    accuracies.append(tuple(self._accuracy(row[name], reader.line_num) for name in self._columns))
                    lines.append(reader.line_num)
        except UnicodeDecodeError:
            raise EvaluationError(f"{self._path}: cannot be read as a CSV table (it is no UTF-8 text)") from None
        except (OSError, csv.Error) as e:
            raise EvaluationError(f"{self._path}: cannot be read as a CSV table ({e})") from e
        return archs, accuracies, lines

    def _accuracy(self, text: str | None, line: int) -> float:
        try:
            value = float(text or "") / self._unit
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise EvaluationError(
                f"{self._path}: line {line} has an accuracy that is no number from 0 to {self._unit:g}; mend it or unit"
            )
        return value

    def _index(self, space: SearchSpace) -> dict[bytes, int]:
        """Canonical encoding -> row of the table."""
        if space.digest not in self._rows:
            encodings = space.validate(
                [self._encoding(*at, space) for at in zip(self._archs, self._lines, strict=True)]
            )
            index: dict[bytes, int] = {}
            for row, encoding in enumerate(space.canonical(encodings)):
                index.setdefault(encoding.tobytes(), row)
            self._rows[space.digest] = index
        return self._rows[space.digest]

    def _encoding(self, text: str, line: int, space: SearchSpace) -> list[int]:
        try:
            indices = _KEYS[self._key](text)
            space.row(indices)
        except (ValueError, InvalidEncoding):
            raise EvaluationError(
                f"{self._path}: line {line} holds no encoding of {space.name} written in {self._key}; "
                "mend it, or the options arch and key"
            ) from None
        return indices
