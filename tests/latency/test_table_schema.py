"""The published schema and the reader of tables agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from latency.errors import InvalidTable
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance, SpaceMark

SCHEMA = json.loads(resources.files("latency").joinpath("latency-table.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
MADE = LatencyTable(
    identity=Identity("pi4", "Raspberry Pi 4", "aarch64", "ncnn", "1.0", "fp32", 4, (0, 1, 2, 3), "performance"),
    entries={"a": Entry(1.0, 0.02, 48), "b": Entry(0.5, 0.1, 0, 0.3)},
    offset_ms=0.25,
    calibration=Calibration(1.1, 8, 1.5, None, residuals=(0.01, -0.02)),
    provenance=Provenance("2026-01-01T00:00:00+00:00", "nas profile", (SpaceMark("s", "d"),), 3, 48, 9.5, "ff"),
)


def test_the_schema_is_one_and_is_documented() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    published = Path(__file__).parents[2] / "docs" / "latency-table.schema.json"
    assert json.loads(published.read_text()) == SCHEMA


numbers = st.floats(0, 1e6, allow_subnormal=False)


@given(
    entries=st.dictionaries(
        st.text(min_size=1, max_size=12),
        st.builds(Entry, ms=numbers, spread=numbers, samples=st.integers(0, 10**6), sigma=numbers),
        max_size=4,
    ),
    calibration=st.builds(
        Calibration,
        scale=st.floats(1e-3, 10),
        networks=st.integers(0, 500),
        error_pct=numbers,
        split_half_pct=st.none() | numbers,
        residuals=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
        drift_sigma=numbers,
    ),
    version=st.sampled_from([1, 2]),
)
def test_every_export_fits(entries: dict[str, Entry], calibration: Calibration, version: int) -> None:
    made = replace(MADE, entries=entries, calibration=calibration, version=version)
    VALIDATOR.validate(json.loads(made.to_json()))


Damage = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("provenance"),
        lambda d: d.update(format="other"),
        lambda d: d.update(version=3),
        lambda d: d["entries"].update(a=[1.0, 0.1]),
        lambda d: d["entries"].update(a=[1.0, 0.1, 4, 0.1, 5]),
        lambda d: d["entries"].update(a=[-1.0, *d["entries"]["a"][1:]]),
        lambda d: d["entries"].update(a=[1.0, 0.1, 1.5, *d["entries"]["a"][3:]]),
        lambda d: d["calibration"].update(scale=0),
        lambda d: d["calibration"].pop("error_pct"),
        lambda d: d["identity"].update(cores=["0"]),
        lambda d: d["identity"].pop("governor"),
        lambda d: d.update(offset_ms="0.1"),
        lambda d: d["provenance"].update(spaces=[{"name": "s"}]),
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(damage: Damage, version: int) -> None:
    data = json.loads(replace(MADE, version=version).to_json())
    VALIDATOR.validate(data)
    damage(data)
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(InvalidTable, match=r"^(?!.*digest does not fit)"):
        LatencyTable.from_json(json.dumps(data))


@pytest.mark.parametrize("part", ["terms", "residuals", "drift_sigma"])
def test_the_newer_parts_are_required_of_the_newer_version(part: str) -> None:
    data = json.loads(MADE.to_json())
    del data["calibration"][part]
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(InvalidTable, match=r"^(?!.*digest does not fit)"):
        LatencyTable.from_json(json.dumps(data))
