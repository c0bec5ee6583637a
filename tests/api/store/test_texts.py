from __future__ import annotations

import json

import pytest

from api.store.texts import error_text, storable


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("caf\udce9.png", "caf?.png"),
        ("a\0b", "ab"),
        ("Ω é 🙂", "Ω é 🙂"),
        ({"k\udce9": ["x\ud800", {"y\0": ("z\udfff", 1)}]}, {"k?": ["x?", {"y": ["z?", 1]}]}),
        ({"done": 1, "of": 2.5, "text": None, "over": True}, {"done": 1, "of": 2.5, "text": None, "over": True}),
    ],
)
def test_texts_are_storable_however_deep(value: object, stored: object) -> None:
    assert storable(value) == stored
    json.dumps(storable(value), ensure_ascii=False).encode()


def test_errors_are_told_without_secrets() -> None:
    assert error_text(None) is None
    assert error_text("b\udce9: postgresql://ann:hunter2@db/nas") == "b?: postgresql://ann:***@db/nas"
