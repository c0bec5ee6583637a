"""What a latency table may hold, so that whatever is computed from a foreign one stays finite and can be stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

LARGEST_MS: Final = 1e9
LARGEST_FACTOR: Final = 1e6
"""Of a scale and of the terms' coefficients."""
LARGEST_LOG: Final = 20.0
"""Of a residual, a drift and a standard error, all of log(ms): exp of their bounds must not overflow."""
LARGEST_COUNT: Final = 2**31 - 1
_LARGEST: Final = 1e15
_LONGEST_TEXT: Final = 4096
_LONGEST_KEY: Final = 1024  # of an op; the key of a database's index
_DEEPEST: Final = 12
_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and half surrogate pairs


def check_json(data: Any) -> None:
    """Looks at every text and number of a table's JSON.

    Raises:
        ValueError: a text no database stores or too long, a number beyond what anything measures, or too deep nesting.
    """
    pending = [(data, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        if isinstance(value, str):
            check_text(value)
        elif isinstance(value, (int, float)):
            if not abs(value) <= _LARGEST:
                raise ValueError(f"the number {str(value)[:40]} is beyond all reason")
        elif isinstance(value, Mapping):
            pending += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            pending += [(item, depth + 1) for item in value]


def check_text(text: str, longest: int = _LONGEST_TEXT) -> None:
    """Raises ValueError for a text that is too long or has control characters."""
    if len(text) > longest or _UNFIT.search(text):
        raise ValueError(f"the text {text[:40]!r} is too long or has control characters")


def check_key(key: str) -> None:
    """Raises ValueError for what is no op's key."""
    check_text(key, _LONGEST_KEY)
