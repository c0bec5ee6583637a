"""Boards: machines to profile, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from api.errors import AlreadyExists, NotFound
from api.store.engine import Database
from api.store.models import boards, now
from latency.board import Board

_FIELDS = ("name", "address", "engine", "threads", "cores", "dtype", "identity_file")


class BoardStore:
    """The registered boards."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, board: Board) -> None:
        """Register a board.

        Raises:
            AlreadyExists: the name is taken.
        """
        with self._db.write() as c:
            if c.execute(sa.select(boards.c.name).where(boards.c.name == board.name)).first():
                raise AlreadyExists(
                    f"there is a board {board.name!r} already; choose another name or remove it: "
                    f"nas boards remove {board.name}"
                )
            try:
                c.execute(sa.insert(boards).values(**board.to_dict(), created_at=now()))
            except sa.exc.IntegrityError as e:  # another process was quicker
                raise AlreadyExists(f"there is a board {board.name!r} already; choose another name") from e

    def get(self, name: str) -> Board:
        """The board of that name.

        Raises:
            NotFound: there is none; lists what there is.
        """
        with self._db.read() as c:
            row = c.execute(sa.select(*(boards.c[f] for f in _FIELDS)).where(boards.c.name == name)).mappings().first()
            if row is None:
                names = list(c.execute(sa.select(boards.c.name).order_by(boards.c.name)).scalars())
                known = f"there are {', '.join(names)}" if names else "none is registered"
                raise NotFound(f"no board {name!r}: {known}; add it with `nas boards add`")
        return Board.from_dict(dict(row))

    def all(self) -> list[Board]:
        """Every board, by name."""
        with self._db.read() as c:
            rows = c.execute(sa.select(*(boards.c[f] for f in _FIELDS)).order_by(boards.c.name)).mappings()
            return [Board.from_dict(dict(r)) for r in rows]

    def page(self, *, after: str = "", limit: int = 100) -> list[Board]:
        """At most `limit` boards by name, those behind `after`."""
        query = sa.select(*(boards.c[f] for f in _FIELDS)).where(boards.c.name > after).order_by(boards.c.name)
        with self._db.read() as c:
            return [Board.from_dict(dict(r)) for r in c.execute(query.limit(limit)).mappings()]

    def facts(self, name: str) -> dict[str, Any] | None:
        """What the last check found on the board."""
        with self._db.read() as c:
            found: dict[str, Any] | None = c.execute(sa.select(boards.c.facts).where(boards.c.name == name)).scalar()
            return found

    def set_facts(self, name: str, facts: Mapping[str, Any]) -> None:
        """Keep what a check found."""
        with self._db.write() as c:
            c.execute(sa.update(boards).where(boards.c.name == name).values(facts=dict(facts)))

    def remove(self, name: str) -> None:
        """Forget a board; its latency tables stay.

        Raises:
            NotFound: there is none of that name.
        """
        with self._db.write() as c:
            if not c.execute(sa.delete(boards).where(boards.c.name == name)).rowcount:
                self.get(name)  # tells what there is
