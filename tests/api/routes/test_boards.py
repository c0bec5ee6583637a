from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.store import Store
from latency.board import Board

Ask = Callable[..., httpx.Response]
ASKED = {"name": "pi4", "address": "pi@raspberrypi.local:2222", "cores": [2, 3], "threads": 2}


def test_a_board_is_registered_shown_and_forgotten(ask: Ask, store: Store) -> None:
    made = ask("POST", "boards", by="root", json=ASKED)
    told = {**ASKED, "engine": "ncnn", "dtype": "fp32"}
    assert (made.status_code, made.json()) == (201, told)
    assert store.boards.get("pi4") == Board("pi4", ASKED["address"], "ncnn", 2, (2, 3))
    assert ask("GET", "boards/pi4", by="reader").json() == {**told, "facts": None}
    store.boards.set_facts("pi4", {"model": "Raspberry Pi 4"})
    assert ask("GET", "boards/pi4").json()["facts"] == {"model": "Raspberry Pi 4"}
    again = ask("POST", "boards", by="root", json=ASKED)
    assert again.status_code == 409
    assert "choose another name" in again.json()["detail"]
    assert ask("DELETE", "boards/pi4", by="root").status_code == 204
    assert ask("DELETE", "boards/pi4", by="root").status_code == 404
    assert ask("GET", "boards/pi4").status_code == 404


def test_a_repeated_registration_is_done_once(ask: Ask) -> None:
    key = {"Idempotency-Key": "mine"}
    first, second = (ask("POST", "boards", by="root", json=ASKED, headers=key) for _ in range(2))
    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["Idempotency-Replayed"] == "true"


def test_boards_are_listed_a_page_at_a_time(ask: Ask, store: Store) -> None:
    names = [f"b{i}" for i in range(5)]
    for name in reversed(names):
        store.boards.add(Board(name, "local"))
    found, cursor = [], None
    while cursor is not None or not found:
        page = ask("GET", "boards", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += [board["name"] for board in page["items"]]
        cursor = page["next"]
    assert found == names


def test_only_admins_change_boards(ask: Ask, store: Store) -> None:
    store.boards.add(Board("b", "local"))
    for by in ("reader", "alice"):
        assert ask("POST", "boards", by=by, json=ASKED).status_code == 403
        assert ask("DELETE", "boards/b", by=by).status_code == 403
    assert [b.name for b in store.boards.all()] == ["b"]


def test_no_answer_names_a_key(ask: Ask, store: Store) -> None:
    store.boards.add(Board("b", "pi@pi", identity_file="/root/.ssh/secret"))
    for path in ("boards", "boards/b"):
        text = ask("GET", path, by="root").text
        assert "identity" not in text
        assert "secret" not in text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"identity_file": "/etc/shadow"}, "body.identity_file"),
        ({"name": "<script>"}, "body.name"),
        ({"name": "a\nb"}, "body.name"),
        ({"address": "ssh://pi"}, "body.address"),
        ({"address": "http://169.254.169.254/latest"}, "body.address"),
        ({"address": "-oProxyCommand=touch"}, "body.address"),
        ({"address": "pi:hunter2@host"}, "body.address"),
        ({"address": "fe80::1%$(reboot)"}, "body.address"),
        ({"address": "fe80::1%%h"}, "body.address"),
        ({"address": "pi;reboot"}, "body.address"),
        ({"address": "x" * 321}, "body.address"),
        ({"engine": "no-such"}, "body.engine"),
        ({"engine": "../ncnn"}, "body.engine"),
        ({"threads": 0}, "body.threads"),
        ({"cores": [1024]}, "body.cores.0"),
        ({"cores": [1, 1]}, "body"),
        ({"dtype": "int3"}, "body.dtype"),
        ({"facts": {}}, "body.facts"),
    ],
)
def test_what_is_no_board_names_the_field(ask: Ask, store: Store, change: dict[str, Any], field: str) -> None:
    answer = ask("POST", "boards", by="root", json=ASKED | change)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert "hunter2" not in answer.text
    assert store.boards.all() == []
