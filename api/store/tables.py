"""Latency tables: immutable, found by digest. What is read back is checked against it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from api.errors import NotFound
from api.models import latency_tables, now, table_entries
from api.store.engine import Database
from latency.table import LatencyTable

SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class TableSummary:
    """A stored table without its entries.

    Attributes:
        digest: its name.
        board: measured on.
        spaces: names of the spaces it covers.
        engine: which ran the networks.
        ops: how many entries.
        created_at: when it was stored.
    """

    digest: str
    board: str
    spaces: str
    engine: str
    ops: int
    created_at: dt.datetime

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


_SUMMARY = tuple(latency_tables.c[f] for f in ("digest", "board", "spaces", "engine", "ops", "created_at"))


class TableStore:
    """The measured tables."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, table: LatencyTable) -> bool:
        """Store a table; False if it was there already."""
        content = json.loads(table.to_json())
        del content["entries"]
        with self._db.write() as c:
            if c.execute(sa.select(latency_tables.c.digest).where(latency_tables.c.digest == table.digest)).first():
                return False
            c.execute(
                sa.insert(latency_tables).values(
                    digest=table.digest,
                    board=table.identity.board,
                    spaces=",".join(mark.name for mark in table.provenance.spaces),
                    engine=table.identity.engine,
                    ops=len(table.entries),
                    content=content,
                    created_at=now(),
                )
            )
            rows = [
                {"table_digest": table.digest, "op_key": key, **asdict(entry)} for key, entry in table.entries.items()
            ]
            if rows:
                c.execute(sa.insert(table_entries), rows)
        return True

    def list(self, *, board: str | None = None) -> list[TableSummary]:
        """The tables, newest first; of one board if named."""
        query = sa.select(*_SUMMARY).order_by(latency_tables.c.created_at.desc(), latency_tables.c.digest)
        if board is not None:
            query = query.where(latency_tables.c.board == board)
        with self._db.read() as c:
            return [TableSummary(**row) for row in c.execute(query).mappings()]

    def get(self, digest: str) -> LatencyTable:
        """The table of that digest, or of the digest that begins so.

        Raises:
            NotFound: there is none, or several begin so.
            InvalidTable: the stored content was changed.
        """
        columns = latency_tables.c
        query = sa.select(columns.digest, columns.content).where(columns.digest == digest)
        if len(digest) < 64:
            # Not LIKE: its wildcards would match more than a beginning.
            query = sa.select(columns.digest, columns.content).where(
                sa.func.substr(columns.digest, 1, max(len(digest), SHORTEST_PREFIX)) == digest
            )
        with self._db.read() as c:
            found = c.execute(query.limit(2)).all()
            if len(found) != 1:
                raise NotFound(
                    f"several latency tables begin with {digest!r}; write more of the digest (nas tables list)"
                    if found
                    else f"no latency table {digest!r}; `nas tables list` shows what there is"
                )
            full, content = found[0]
            columns = table_entries.c
            query = sa.select(columns.op_key, columns.ms, columns.spread, columns.samples, columns.sigma)
            rows = c.execute(query.where(columns.table_digest == full)).all()
        fields = 3 if content.get("version") == 1 else 4
        content["entries"] = {row.op_key: list(row[1 : fields + 1]) for row in rows}
        return LatencyTable.from_json(json.dumps(content), source=f"the stored latency table {full[:12]}")
