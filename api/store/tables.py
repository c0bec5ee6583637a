"""Latency tables: immutable, found by digest."""

from __future__ import annotations

from api.store.engine import Database


class TableStore:
    """The measured tables."""

    def __init__(self, database: Database) -> None:
        self._db = database
