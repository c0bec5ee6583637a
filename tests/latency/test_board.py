"""Boards and their addresses."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.board import Address, Board, parse_address
from latency.errors import LatencyError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi4", Address("pi4")),
        ("pi@raspberrypi.local", Address("raspberrypi.local", "pi")),
        ("pi@10.0.0.7:2222", Address("10.0.0.7", "pi", 2222)),
        ("[::1]:22", Address("::1", None, 22)),
        ("[fe80::1]", Address("fe80::1")),
        ("me@fe80::1%eth0", Address("fe80::1%eth0", "me")),
        ("::1", Address("::1")),
        ("a@b@host", Address("host", "a@b")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " pi", "pi:", "pi:0", "pi:65536", "pi:ssh", "pi:٢٢", "[::1", "[::1]22", "[pi]:22", "1:2:3", "@pi", "ssh://pi",
        "-oProxyCommand=x", "a b", "pi/x", "-x@pi", "pi\n", "pi..:22x", "us er@pi", "pi-",
        "fe80::1%eth0;reboot", "[fe80::1%$(x)]:22", "fe80::1%a\nb", "fe80::1%",
    ],
)  # fmt: skip
def test_malformed_addresses_are_one_line_with_the_form(text: str) -> None:
    with pytest.raises(LatencyError) as caught:
        parse_address(text)
    assert "[user@]host[:port]" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["pi:hunter2@host", "ssh://pi:hunter2@host:22"])
def test_a_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(LatencyError, match="password") as caught:
        Board("b", text)
    assert "hunter2" not in str(caught.value)


hosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True) | st.ip_addresses(v=6).map(str)
addresses = st.builds(
    Address,
    hosts,
    st.none() | st.from_regex(r"[a-z][a-z0-9_.-]{0,10}", fullmatch=True),
    st.none() | st.integers(1, 65535),
)


@given(addresses)
def test_an_address_survives_its_text(address: Address) -> None:
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "-x"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"address": 5}, "address"),
        ({"engine": "NCNN"}, "engine"),
        ({"threads": 0}, "threads"),
        ({"threads": True}, "threads"),
        ({"threads": 2.0}, "threads"),
        ({"cores": (0, 0)}, "repeats"),
        ({"cores": (-1,)}, "cores"),
        ({"cores": "0,1"}, "cores"),
        ({"cores": (0,), "threads": 2}, "at least as many cores"),
        ({"dtype": "int4"}, "fp32, fp16, bf16"),
        ({"identity_file": ""}, "identity_file"),
    ],
)
def test_bad_fields_are_named(change: dict[str, Any], match: str) -> None:
    with pytest.raises(LatencyError, match=match) as caught:
        Board(**{"name": "b", "address": "local", **change})
    assert "\n" not in str(caught.value)


def test_a_board_is_a_value() -> None:
    board = Board("pi4", "pi@pi4.local", cores=[2, 3], threads=2)  # type: ignore[arg-type]
    assert board.cores == (2, 3)
    assert hash(board) == hash(dataclasses.replace(board))
    assert not board.is_local
    assert Board("here", "local").is_local
    with pytest.raises(dataclasses.FrozenInstanceError):
        board.name = "other"  # type: ignore[misc]


def test_a_board_survives_json() -> None:
    board = Board("pi4", "pi@[::1]:22", threads=2, cores=(2, 3), dtype="fp16", identity_file="~/.ssh/id")
    assert Board.from_dict(json.loads(json.dumps(board.to_dict()))) == board


@pytest.mark.parametrize(
    ("data", "match"),
    [({"name": "a"}, "missing.*address"), ({"name": "a", "address": "b", "password": "x"}, "unknown.*password")],
)
def test_foreign_records_are_refused(data: dict[str, Any], match: str) -> None:
    with pytest.raises(LatencyError, match=match):
        Board.from_dict(data)
