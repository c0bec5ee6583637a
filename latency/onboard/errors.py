"""What a request may be refused with."""

from __future__ import annotations


class Refused(Exception):
    """A request that cannot be done; `kind` is as in the answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
