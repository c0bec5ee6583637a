"""Latency tables: immutable, found by digest. What is read back is checked against it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from api.errors import NotFound
from api.store.engine import Database
from api.store.models import latency_tables, now, table_entries
from latency.table import Entry, LatencyTable

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


class TablePlace(NamedTuple):
    """Where a page of tables ended: of its last one."""

    created_at: dt.datetime
    digest: str


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
            values = {
                "digest": table.digest,
                "board": table.identity.board,
                "spaces": ",".join(mark.name for mark in table.provenance.spaces),
                "engine": table.identity.engine,
                "ops": len(table.entries),
                "content": content,
                "created_at": now(),
            }
            try:
                with c.begin_nested():
                    c.execute(sa.insert(latency_tables).values(values))
            except sa.exc.IntegrityError:  # another process was quicker
                return False
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

    def page(
        self, *, board: str | None = None, after: TablePlace | None = None, limit: int = 100
    ) -> Sequence[TableSummary]:
        """At most `limit` tables, newest first, those behind `after`; of one board if named."""
        created, digest = latency_tables.c.created_at, latency_tables.c.digest
        query = sa.select(*_SUMMARY).order_by(created.desc(), digest).limit(limit)
        if board is not None:
            query = query.where(latency_tables.c.board == board)
        if after is not None:
            behind = (created < after.created_at) | ((created == after.created_at) & (digest > after.digest))
            query = query.where(behind)
        with self._db.read() as c:
            return [TableSummary(**row) for row in c.execute(query).mappings()]

    def describe(self, digest: str) -> tuple[TableSummary, dict[str, Any]]:
        """A table without its entries: the summary, and `identity`, `offset_ms`, `calibration`, `provenance` as JSON.

        Raises:
            NotFound: there is none, or several begin so.
        """
        with self._db.read() as c:
            row = self._find(c, digest, *_SUMMARY, latency_tables.c.content)
        return TableSummary(*row[:-1]), row[-1]

    def entries(self, digest: str, *, after: str = "", limit: int | None = None) -> dict[str, Entry]:
        """Entries of the table of that whole digest, by key, those whose key comes after `after`."""
        columns = table_entries.c
        query = (
            sa.select(columns.op_key, columns.ms, columns.spread, columns.samples, columns.sigma)
            .where(columns.table_digest == digest, columns.op_key > after)
            .order_by(columns.op_key)
            .limit(limit)
        )
        with self._db.read() as c:
            return {key: Entry(*rest) for key, *rest in c.execute(query)}

    def keys(self, digest: str) -> dict[str, bool]:
        """Key -> whether it was timed (and not estimated), of the table of that whole digest."""
        columns = table_entries.c
        query = sa.select(columns.op_key, columns.samples > 0).where(columns.table_digest == digest)
        with self._db.read() as c:
            return {key: bool(timed) for key, timed in c.execute(query)}

    def get(self, digest: str) -> LatencyTable:
        """The table of that digest, or of the digest that begins so.

        Raises:
            NotFound: there is none, or several begin so.
            InvalidTable: the stored content was changed.
        """
        with self._db.read() as c:
            full, content = self._find(c, digest, latency_tables.c.digest, latency_tables.c.content)
            columns = table_entries.c
            query = sa.select(columns.op_key, columns.ms, columns.spread, columns.samples, columns.sigma)
            rows = c.execute(query.where(columns.table_digest == full)).all()
        fields = 3 if content.get("version") == 1 else 4
        content["entries"] = {row.op_key: list(row[1 : fields + 1]) for row in rows}
        return LatencyTable.from_json(json.dumps(content), source=f"the stored latency table {full[:12]}")

    def _find(self, connection: sa.Connection, digest: str, *columns: sa.ColumnElement[Any]) -> tuple[Any, ...]:
        """Columns of the one table of that digest, or of the digest that begins so."""
        known = latency_tables.c.digest
        if len(digest) < 64:
            # Not LIKE: its wildcards would match more than a beginning.
            named = sa.func.substr(known, 1, max(len(digest), SHORTEST_PREFIX)) == digest
        else:
            named = known == digest
        found = connection.execute(sa.select(*columns).where(named).limit(2)).all()
        if len(found) != 1:
            raise NotFound(
                f"several latency tables begin with {digest!r}; write more of the digest (nas tables list)"
                if found
                else f"no latency table {digest!r}; `nas tables list` shows what there is"
            )
        return tuple(found[0])
