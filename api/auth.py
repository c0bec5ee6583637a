"""Who may do what: tokens and roles. Nothing here knows HTTP or the database."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from api.errors import OptionError

USER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
"""Names of users: safe in logs, pages and command lines as they are."""
MAX_NOTE = 200
_TOKEN = re.compile(r"nas_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


class Role(StrEnum):
    """What a token allows; each role includes those before it."""

    READ = "read"
    """Look at everything."""
    USER = "user"
    """Submit, and change one's own searches and jobs."""
    ADMIN = "admin"
    """Boards, profiling, tokens, and everybody's searches."""

    def allows(self, needed: Role) -> bool:
        """Whether this role includes another one."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class User:
    """Whoever sent a request.

    Attributes:
        name: owner of what it submits.
        role: what it may do.
        token_id: the token it came with.
    """

    name: str
    role: Role
    token_id: str


class Token(NamedTuple):
    """The parts of `nas_<id>_<secret>`."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """What a user sends; never stored or logged."""
        return f"nas_{self.id}_{self.secret}"

    @property
    def hash(self) -> str:
        """What is stored.

        SHA-256 and no slow hash: those make guessing a person's password dear, while nobody can guess 256 random
        bits, and a slow one would be paid with every request.
        """
        return hashlib.sha256(self.secret.encode()).hexdigest()


def make_token() -> Token:
    """A new one: 64 random bits of id, which is no secret, and 256 of secret."""
    return Token(secrets.token_hex(8), secrets.token_urlsafe(32))


def parse_token(text: str) -> Token | None:
    """The parts of a token's text; None if it is none."""
    found = _TOKEN.fullmatch(text)
    return Token(*found.groups()) if found else None


def check_user(name: str) -> str:
    """The name, if a user may be called so.

    Raises:
        OptionError: it may not.
    """
    if not re.fullmatch(USER_PATTERN, name):
        raise OptionError(
            f"a user's name is 1 to 64 letters, digits and . _ @ -, beginning with a letter or digit, not {name[:80]!r}"
        )
    return name


def check_note(note: str | None) -> str | None:
    """The note, if it is short and printable: it is shown on terminals and pages.

    Raises:
        OptionError: it is not.
    """
    if note is not None and (len(note) > MAX_NOTE or not note.isprintable()):
        raise OptionError(f"a note is at most {MAX_NOTE} printable characters on one line")
    return note
