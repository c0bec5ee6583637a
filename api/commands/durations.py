"""Lengths of time as people write them on a command line: 90s, 5m, 1.5h."""

from __future__ import annotations

import re

from api.errors import OptionError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_LONGEST_S = 7 * 86400.0


def parse_duration(text: str, option: str) -> float:
    """Seconds.

    Args:
        text: a number and a unit; without a unit, seconds.
        option: how the error calls it.

    Raises:
        OptionError: it is no length of time, or not above 0 and at most a week.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not found or found[2] not in _UNITS:
        raise OptionError(f"{option} must be a length of time such as 90s, 5m or 1h, not {text!r}")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not 0 < seconds <= _LONGEST_S:
        raise OptionError(f"{option} must be above 0 and at most a week, not {text!r}")
    return seconds
