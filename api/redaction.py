"""What no log, error or database may hold, and what no terminal may be sent: secrets, and characters that steer it."""

from __future__ import annotations

import re

_SECRETS = (
    (re.compile(r"\bnas_([A-Za-z0-9]{1,32})_[A-Za-z0-9_-]+"), r"nas_\1_***"),
    (re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?)(?:(bearer|basic)\s+)?[^\s\"',;]+"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(\w://[^\s/:@]*):[^\s/]*@"), r"\1:***@"),
    (re.compile(r"(?i)\b(password|passwd|secret|pgpassword)(\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s&;,]+)"), r"\1\2***"),
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def redact(text: str) -> str:
    """The text with tokens, Authorization values and passwords of URLs made `***`."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def has_control(text: str) -> bool:
    """Whether a text has characters that steer a terminal or turn the direction of what is written."""
    return _CONTROL.search(text) is not None


def visible(text: str) -> str:
    """The text with such characters written as escapes, line breaks included."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
