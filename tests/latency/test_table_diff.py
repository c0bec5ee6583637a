from __future__ import annotations

from dataclasses import replace

import pytest

from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance, SpaceMark
from latency.table_diff import diff_tables


def table(entries: dict[str, Entry], *, board: str = "pi4", spaces: tuple[str, ...] = ("s",)) -> LatencyTable:
    return LatencyTable(
        identity=Identity(board, "Raspberry Pi 4", "aarch64", "ncnn", "1.0", "fp32", 1, (0,), "performance"),
        entries=entries,
        offset_ms=0.0,
        calibration=Calibration(1.0, 8, 1.5, None),
        provenance=Provenance("2026-01-01", "", tuple(SpaceMark(s, s) for s in spaces), 3, 48, 9.5, "ff"),
    )


def timed(**ms: float) -> dict[str, Entry]:
    return {key: Entry(value, 0.01, 48) for key, value in ms.items()}


def test_ops_and_times_of_two_tables() -> None:
    a = table(timed(x=1.0, y=2.0, z=4.0, old=1.0), spaces=("s", "t"))
    b = table(timed(x=1.1, y=1.0, z=4.0, new=1.0), spaces=("s",))
    found = diff_tables(a, b)
    assert found.comparable
    assert (found.only_before, found.only_after, found.common) == (("old",), ("new",), 3)
    assert (found.spaces_before, found.spaces_after) == (("t",), ())
    assert [(c.key, c.ratio) for c in found.changes] == [("y", 0.5), ("x", pytest.approx(1.1)), ("z", 1.0)]
    assert found.median == 1.0
    assert found.p5 < found.median < found.p95


def test_a_table_against_itself_and_backwards() -> None:
    a, b = table(timed(x=1.0, y=2.0)), table(timed(x=2.0, y=3.0))
    same = diff_tables(a, a)
    assert {c.ratio for c in same.changes} == {1.0}
    assert not same.only_before + same.only_after + same.identity
    there, back = diff_tables(a, b), diff_tables(b, a)
    assert [c.ratio * d.ratio for c, d in zip(there.changes, back.changes, strict=True)] == pytest.approx([1.0, 1.0])


def test_estimated_times_are_not_compared() -> None:
    a = table({**timed(x=1.0), "y": Entry(1.0, 0.0, 0, 0.3), "zero": Entry(0.0, 0.0, 48)})
    b = table(timed(x=1.5, y=9.0, zero=1.0))
    found = diff_tables(a, b)
    assert ([c.key for c in found.changes], found.untimed, found.common) == (["x"], 2, 3)


def test_other_identities_are_told_and_shown_all_the_same() -> None:
    a = table(timed(x=1.0))
    b = replace(a, identity=replace(a.identity, threads=4, engine_version="1.1"))
    found = diff_tables(a, b)
    assert not found.comparable
    assert found.identity == ("engine_version: '1.0', '1.1'", "threads: 1, 4")
    assert len(found.changes) == 1


def test_nothing_in_common() -> None:
    found = diff_tables(table(timed(x=1.0)), table(timed(y=1.0)))
    assert (found.common, found.median, found.changes) == (0, None, ())
