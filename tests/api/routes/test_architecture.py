from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.store import Store
from latency.board import Board
from latency.predict import latency_model
from latency.table import LatencyTable
from nas.spaces import build_space

Ask = Callable[..., httpx.Response]
pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # the database has no part in it
NAME = "mobilenetv2-small"
SETTINGS = {"resolution": [16], "channels": 1}
SPACE = build_space(NAME, resolution=16, channels=1)
ENCODING = "1,1,0,2,1,3,1,1,0,0,0,2,0,4,1,2,1"


@pytest.fixture
def table(store: Store, make_table: Callable[..., LatencyTable]) -> LatencyTable:
    """Stored, of board `here`."""
    made = make_table(SPACE)
    store.tables.add(made)
    store.boards.add(Board("here", "local"))
    return made


def look(ask: Ask, **wanted: Any) -> dict[str, Any]:
    answer = ask("POST", f"spaces/{NAME}/architecture", json=SETTINGS | wanted, by="reader")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_any_network_of_a_space_is_shown(ask: Ask, table: LatencyTable) -> None:
    row = SPACE.parse(ENCODING)
    for named in ({"board": "here"}, {"table": table.digest[:8]}):
        told = look(ask, encoding=ENCODING, **named)
        assert (told["space"], told["encoding"], told["genes"]) == (NAME, ENCODING, SPACE.decode(row))
        assert (told["board"], told["table"]) == ("here", table.digest)
        assert told["totals"]["flops"] == SPACE.graph(row).flops == sum(stage["flops"] for stage in told["stages"])
        assert told["totals"]["predicted_ms"] == pytest.approx(latency_model(table, SPACE).one(row))
    assert look(ask, encoding=ENCODING)["totals"]["predicted_ms"] is None


def test_mobilenet_v2_is_priced_as_far_as_the_table_goes(ask: Ask, table: LatencyTable) -> None:
    told = look(ask, reference="mobilenetv2", board="here")
    assert (told["space"], told["encoding"], told["input"]) == ("mobilenetv2", "7,0", [1, 16, 16])
    assert told["genes"]["width"] == 1.0
    priced = [op for op in told["ops"] if op["predicted_ms"] is not None]
    assert 0 < len(priced) < len(told["ops"])
    assert all(op["share"] is None for op in told["ops"])
    assert (told["totals"]["predicted_ms"], told["totals"]["low_ms"]) == (None, None)
    for stage in told["stages"]:
        of_it = [op["predicted_ms"] for op in told["ops"] if op["path"].split(".")[0] == stage["name"]]
        if of_it and stage["name"] != "classifier":  # which is told together with the pooling before it
            whole = None if None in of_it else pytest.approx(sum(of_it))
            assert stage["predicted_ms"] == whole


def test_an_op_has_the_time_it_has_where_all_are_known(
    ask: Ask, table: LatencyTable, store: Store, make_table: Callable[..., LatencyTable]
) -> None:
    both = dict(make_table(build_space("mobilenetv2", resolution=16, channels=1, classes=10)).entries)
    whole = dataclasses.replace(table, entries={**both, **table.entries})
    store.tables.add(whole)
    some, all_of_it = (look(ask, reference="mobilenetv2", table=t.digest) for t in (table, whole))
    assert all_of_it["totals"]["predicted_ms"] > 0
    for here, there in zip(some["ops"], all_of_it["ops"], strict=True):
        if here["predicted_ms"] is not None:
            assert here["predicted_ms"] == pytest.approx(there["predicted_ms"])
            assert (here["measured_ms"], here["estimated"]) == (there["measured_ms"], there["estimated"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"encoding": ENCODING, "reference": "mobilenetv2"}, "body"),
        ({"encoding": ENCODING, "board": "here", "table": "abcd"}, "body"),
        ({"encoding": "0,0"}, "body.encoding"),
        ({"encoding": "9" + ENCODING[1:]}, "body.encoding"),
        ({"reference": "resnet50"}, "body.reference"),
        ({"encoding": ENCODING, "board": "nowhere"}, "body.board"),
        ({"encoding": ENCODING, "table": "abcd"}, "body.table"),
    ],
)
def test_what_cannot_be_shown_names_the_field(ask: Ask, body: dict[str, Any], field: str) -> None:
    answer = ask("POST", f"spaces/{NAME}/architecture", json=SETTINGS | body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert ask("POST", "spaces/no-such/architecture", json={"reference": "mobilenetv2"}).status_code == 404
