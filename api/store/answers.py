"""Answers to requests that a client may send again: what was done once is not done twice."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from api.store.engine import Database
from api.store.models import answers, now

KEPT = dt.timedelta(days=7)
"""How long a client may send a request again."""


@dataclass(frozen=True)
class Answer:
    """What a request was answered.

    Attributes:
        fingerprint: SHA-256 of method, path, query and body of the request.
        status: HTTP status.
        body: JSON, or None for an empty answer or one that is not kept.
    """

    fingerprint: str
    status: int
    body: Any


class AnswerStore:
    """The answers of the last days, per user and Idempotency-Key."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def take(self, user: str, key: str, fingerprint: str, status: int) -> Answer | None:
        """Claim a key, as the first thing of the transaction that does what is asked.

        The row is written before the action, not after it: another request with the same key then waits in its own
        INSERT until this transaction has ended, on SQLite and PostgreSQL alike.

        Returns:
            None if the key is now this transaction's, which then calls `keep`; else the answer that was given.
        """
        insert = sqlite.insert(answers) if self._db.is_sqlite else postgresql.insert(answers)
        values = {"user": user, "key": key, "fingerprint": fingerprint, "status": status, "created_at": now()}
        claim = insert.values(values).on_conflict_do_nothing().returning(answers.c.key)
        with self._db.write() as c:
            if c.execute(claim).first() is not None:
                return None
            row = c.execute(sa.select(answers).where(answers.c.user == user, answers.c.key == key)).one()
        return Answer(row.fingerprint, row.status, row.body)

    def keep(self, user: str, key: str, body: Any) -> None:
        """Store the body of a claimed key's answer."""
        with self._db.write() as c:
            c.execute(sa.update(answers).where(answers.c.user == user, answers.c.key == key).values(body=body))

    def forget(self) -> int:
        """Remove the answers that are too old to be asked for again; a worker calls it now and then.

        Returns:
            How many.
        """
        with self._db.write() as c:
            return c.execute(sa.delete(answers).where(answers.c.created_at < now() - KEPT)).rowcount
