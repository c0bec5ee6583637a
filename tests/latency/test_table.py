from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.errors import InvalidTable
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance, SpaceMark
from latency.terms import Terms

IDENTITY = Identity("pi4", "Raspberry Pi 4", "aarch64", "ncnn", "1.0", "fp32", 1, (0, 1), "performance")
ENTRIES = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12),
    st.builds(
        Entry,
        ms=st.floats(0, 1e6, allow_subnormal=False),
        spread=st.floats(0, 10),
        samples=st.integers(0, 10**6),
        sigma=st.floats(0, 3),
    ),
    max_size=5,
)


def table(entries: dict[str, Entry] | None = None, *, scale: float = 1.25, space: str = "s") -> LatencyTable:
    return LatencyTable(
        identity=IDENTITY,
        entries=entries if entries is not None else {"a": Entry(1.0, 0.02, 48), "b": Entry(0.5, 0.1, 96)},
        offset_ms=0.25,
        calibration=Calibration(scale, 8, 1.5, None, Terms(kernel_ms=1e-3), (0.01, -0.02)),
        provenance=Provenance("2026-01-01T00:00:00+00:00", "nas profile", (SpaceMark(space, "d"),), 3, 48, 9.5, "ff"),
    )


@given(ENTRIES)
def test_json_round_trip_keeps_value_and_digest(entries: dict[str, Entry]) -> None:
    made = table(entries)
    back = LatencyTable.from_json(made.to_json())
    assert back == made
    assert back.digest == made.digest


def test_the_digest_follows_the_content() -> None:
    assert table().digest == table().digest
    assert table().digest != table(scale=1.26).digest


def test_entries_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        table().entries["a"] = Entry(0.0, 0.0, 0)  # type: ignore[index]


Damage = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: "{", "no JSON"),
        (lambda d: "[]", "format"),
        (lambda d: {"nodes": []}, "format"),
        (lambda d: {**d, "version": 3}, "version 3.*update lightnas"),
        (lambda d: {k: v for k, v in d.items() if k != "offset_ms"}, "offset_ms is missing"),
        (lambda d: {**d, "offset_ms": 7.0}, "digest"),
        (lambda d: {**d, "digest": "0" * 64}, "digest"),
        (lambda d: {**d, "entries": {**d["entries"], "a": [0.1, 0.02, 48, 0.0]}}, "digest"),
        (lambda d: {**d, "entries": {"a": [1.0, 0.1]}}, "entry a"),
        (lambda d: {**d, "entries": {"a": [-1.0, 0.1, 3, 0]}}, "a ms"),
        (lambda d: {**d, "entries": {"a": ["1", 0.1, 3, 0]}}, "a ms"),
        (lambda d: {**d, "entries": {"a": [True, 0.1, 3, 0]}}, "a ms"),
        (lambda d: json.dumps({**d, "offset_ms": float("nan")}), "offset_ms"),
        (lambda d: {**d, "entries": []}, "object"),
        (lambda d: {**d, "identity": {**d["identity"], "threads": "one"}}, "threads"),
        (lambda d: {**d, "calibration": {**d["calibration"], "scale": 0}}, "scale"),
        (lambda d: {**d, "calibration": {**d["calibration"], "terms": {"conv": 1}}}, "terms must be"),
        (lambda d: {**d, "calibration": {**d["calibration"], "residuals": ["x"]}}, "residual"),
        (lambda d: {**d, "provenance": {**d["provenance"], "spaces": [3]}}, "damaged"),
        # What could be read but neither stored nor computed with.
        (lambda d: {**d, "entries": {"a": [1e300, 0.1, 3, 0]}}, "a ms .* at most"),
        (lambda d: {**d, "entries": {"a": [1.0, 0.1, 2**31, 0]}}, "a samples"),
        (lambda d: {**d, "entries": {"a" * 2000: [1.0, 0.1, 3, 0]}}, "too long"),
        (lambda d: {**d, "entries": {"a\0": [1.0, 0.1, 3, 0]}}, "control characters"),
        (lambda d: {**d, "calibration": {**d["calibration"], "residuals": [800.0]}}, "residual"),
        (lambda d: {**d, "identity": {**d["identity"], "board": "<script>"}}, "board is"),
        (lambda d: {**d, "identity": {**d["identity"], "model": "\ud800"}}, "control characters"),
        (lambda d: {**d, "provenance": {**d["provenance"], "facts": {"x": 10**400}}}, "beyond all reason"),
        (lambda d: json.dumps({**d, "provenance": {**d["provenance"], "facts": {"x": float("nan")}}}), "beyond all"),
        (
            lambda d: {**d, "provenance": {**d["provenance"], "facts": {"x": json.loads("[" * 60 + "]" * 60)}}},
            "too deep",
        ),
    ],
)
def test_a_damaged_or_foreign_file_is_one_clear_line(damage: Damage, message: str) -> None:
    damaged = damage(json.loads(table().to_json()))
    text = damaged if isinstance(damaged, str) else json.dumps(damaged)
    with pytest.raises(InvalidTable, match=message) as caught:
        LatencyTable.from_json(text, source="pi4.json")
    assert str(caught.value).startswith("pi4.json")
    assert "\n" not in str(caught.value)


def test_tables_of_different_identity_say_in_what_they_differ() -> None:
    other = replace(IDENTITY, threads=4, governor="powersave")
    assert IDENTITY.differences(other) == ["threads: 1, 4", "governor: 'performance', 'powersave'"]


def test_a_table_of_the_first_version_keeps_its_digest() -> None:
    old = replace(table(), version=1, calibration=Calibration(1.25, 8, 1.5, None))
    data = json.loads(old.to_json())
    assert data["version"] == 1
    assert data["entries"]["a"] == [1.0, 0.02, 48]
    assert set(data["calibration"]) == {"scale", "networks", "error_pct", "split_half_pct"}
    back = LatencyTable.from_json(json.dumps(data))
    assert back == old
    assert back.digest == data["digest"]
    # Written by lightnas 0.1.0, before there were terms and residuals.
    assert back.digest == "85778cb3cdce52ea402a3ea7bd7620a4f810c72265de0c87603cfd0c61ca1eaf"


def test_measured_ops_are_those_not_estimated() -> None:
    made = table({"a": Entry(1.0, 0.1, 5), "b": Entry(1.0, 0.0, 0, sigma=0.2)})
    assert made.measured == {"a"}
