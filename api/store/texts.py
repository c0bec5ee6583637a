"""Texts as every database stores them and every reader can be told them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.redaction import redact


def storable(value: Any) -> Any:
    """JSON data with each text in it, keys included, made storable; all else as it is.

    Python reads a file's name that is no UTF-8 with half a surrogate pair for each wrong byte: PostgreSQL takes neither
    that nor NUL, and no answer that holds it can be encoded.
    """
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {storable(key): storable(found) for key, found in value.items()}
    return [storable(found) for found in value] if isinstance(value, (list, tuple)) else value


def error_text(text: str | None) -> str | None:
    """Why something failed, storable and without secrets."""
    return None if text is None else redact(storable(text))
