"""Tokens: who sends requests. Only a hash of a token's secret is stored."""

from __future__ import annotations

import contextlib
import datetime as dt
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from api.auth import Role, User, check_note, check_user, make_token, parse_token
from api.errors import NotFound, StoreError, Unauthorized
from api.store.engine import Database
from api.store.models import now, tokens

USED_EVERY = dt.timedelta(minutes=1)
"""How exact the time of a token's last use is: it costs a write."""
_NO_HASH = "0" * 64  # of no secret


@dataclass(frozen=True)
class TokenRecord:
    """A token without its secret.

    Attributes:
        id: its name; no secret.
        user: who sends it, the owner of what is submitted with it.
        role: what it allows.
        note: what it is for.
        created_at, expires_at, revoked_at: when; the latter two None: never, and not.
        used_at: about when it was last used.
    """

    id: str
    user: str
    role: Role
    note: str | None
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    used_at: dt.datetime | None


_COLUMNS = [c for c in tokens.c if c.name != "hash"]


class TokenStore:
    """The tokens."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(
        self, user: str, role: Role, *, note: str | None = None, expires_at: dt.datetime | None = None
    ) -> tuple[TokenRecord, str]:
        """Make a token.

        Returns:
            The record, and the token's text, which nothing can show again.

        Raises:
            OptionError: the user's name or the note is malformed.
        """
        token = make_token()
        record = TokenRecord(token.id, check_user(user), role, check_note(note), now(), expires_at, None, None)
        with self._db.write() as c:
            c.execute(sa.insert(tokens).values(**vars(record), hash=token.hash))
        return record, token.text

    def check(self, text: str) -> User:
        """Who sends this token.

        Raises:
            Unauthorized: it is unknown, revoked or expired. Which of these is told only to who knows its secret,
                and an id that does not exist takes the same time as a wrong secret.
        """
        token = parse_token(text)
        if token is None:
            raise Unauthorized("this is no token of this service; one looks like nas_<id>_<secret>")
        with self._db.read() as c:
            row = c.execute(sa.select(tokens).where(tokens.c.id == token.id)).first()
        if not hmac.compare_digest(token.hash, _NO_HASH if row is None else row.hash) or row is None:
            raise Unauthorized("this token is not known here; an admin makes one with `nas tokens create`")
        moment = now()
        if row.revoked_at is not None:
            raise Unauthorized(f"this token was revoked on {row.revoked_at:%Y-%m-%d}; ask an admin for another one")
        if row.expires_at is not None and row.expires_at <= moment:
            raise Unauthorized(f"this token expired on {row.expires_at:%Y-%m-%d}; ask an admin for another one")
        if row.used_at is None or row.used_at <= moment - USED_EVERY:
            with contextlib.suppress(StoreError):  # a database that only reads still serves
                self._note_use(token.id, moment)
        return User(row.user, Role(row.role), row.id)

    def valid(self, ids: Collection[str]) -> set[str]:
        """Those of these tokens that are neither revoked nor expired."""
        holds = tokens.c.revoked_at.is_(None) & (tokens.c.expires_at.is_(None) | (tokens.c.expires_at > now()))
        with self._db.read() as c:
            return set(c.execute(sa.select(tokens.c.id).where(tokens.c.id.in_(ids), holds)).scalars())

    def _note_use(self, token_id: str, moment: dt.datetime) -> None:
        with self._db.write() as c:
            c.execute(sa.update(tokens).where(tokens.c.id == token_id).values(used_at=moment))

    def revoke(self, token_id: str) -> TokenRecord:
        """Make a token worthless from now on; one that is revoked stays as it is.

        Raises:
            NotFound: there is none of that id.
        """
        mine = tokens.c.id == token_id
        with self._db.write() as c:
            c.execute(sa.update(tokens).where(mine, tokens.c.revoked_at.is_(None)).values(revoked_at=now()))
            row = c.execute(sa.select(*_COLUMNS).where(mine)).mappings().first()
        if row is None:
            raise NotFound(f"no token {token_id[:32]!r}; `nas tokens list` shows the ids")
        return _record(row)

    def list(self, *, after: tuple[dt.datetime, str] | None = None, limit: int | None = None) -> Sequence[TokenRecord]:
        """The tokens, newest first: those after the one made at `after[0]` with id `after[1]`."""
        query = sa.select(*_COLUMNS).order_by(tokens.c.created_at.desc(), tokens.c.id.desc()).limit(limit)
        if after is not None:
            made, token_id = after
            query = query.where(
                (tokens.c.created_at < made) | ((tokens.c.created_at == made) & (tokens.c.id < token_id))
            )
        with self._db.read() as c:
            return [_record(row) for row in c.execute(query).mappings()]


def _record(row: sa.RowMapping) -> TokenRecord:
    return TokenRecord(**{**row, "role": Role(row["role"])})
