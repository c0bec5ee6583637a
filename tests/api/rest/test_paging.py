from __future__ import annotations

import base64
import datetime as dt
import json

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from api.rest import paging

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


@given(
    whole=st.none() | st.integers(-(2**63), 2**63 - 1),
    number=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    word=st.none() | text,
    moment=st.none() | st.datetimes(timezones=st.just(dt.UTC)),
)
@settings(deadline=None)
def test_a_cursor_comes_back(
    whole: int | None, number: float | None, word: str | None, moment: dt.datetime | None
) -> None:
    cursor = paging.encode("x:y", whole, number, word, moment)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert paging.decode(cursor, "x:y", int, float, str, dt.datetime) == (whole, number, word, moment)


def _pack(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        *("x", "ä", "%%%%", "AAAA", "=", "e30", "W10"),
        paging.encode("other", 1),
        paging.encode("mine"),
        paging.encode("mine", 1, 2),
        paging.encode("mine", "1"),
        paging.encode("mine", 1.0),
        *map(_pack, (["mine", True], ["mine", 2**63], ["mine", [1]], {"mine": 1}, "mine", 3, None)),
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
        base64.urlsafe_b64encode(b'["mine",' + b"9" * 5000 + b"]").decode(),
    ],
)
def test_foreign_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(RequestValidationError) as refused:
        paging.decode(cursor, "mine", int)
    assert refused.value.errors()[0]["loc"] == ("query", "cursor")


@pytest.mark.parametrize(
    ("value", "kind"),
    [("\0", str), ("\ud800", str), (float("nan"), float), (10**400, float), ("2026-01-01", dt.datetime), (1, str),
     ("0001-01-01T00:00:00+14:00", dt.datetime), ("9999-12-31T23:59:59-14:00", dt.datetime),
     (2**31, paging.Id), (-1, paging.Id), (True, paging.Id), (1.0, paging.Id)],
)  # fmt: skip
def test_values_a_database_cannot_compare(value: object, kind: type) -> None:
    with pytest.raises(RequestValidationError):
        paging.decode(_pack(["mine", value]), "mine", kind)


@given(st.text(min_size=1, max_size=60))
@settings(deadline=None)
def test_any_text_is_a_cursor_or_refused(cursor: str) -> None:
    with pytest.raises(RequestValidationError):
        paging.decode(cursor, "mine", int)


def test_the_number_of_a_row_comes_back() -> None:
    assert paging.decode(paging.encode("mine", 2**31 - 1), "mine", paging.Id) == (2**31 - 1,)
