"""Where things are kept and how the service behaves: the environment read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from api.errors import StoreError


@dataclass(frozen=True)
class Settings:
    """Where things are kept.

    Attributes:
        home: folder of the default database, checkpoints and caches (`LIGHTNAS_HOME`).
        database_url: an SQLAlchemy URL (`LIGHTNAS_DATABASE_URL`), or None for SQLite in `home`. May hold a password
            (that in the file `LIGHTNAS_DATABASE_PASSWORD_FILE`, if there is one): never print it.
    """

    home: Path
    database_url: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """What the environment says; the user's data folder by default.

        Raises:
            StoreError: the password's file cannot be read.
        """
        env = os.environ if env is None else env
        home = env.get("LIGHTNAS_HOME") or user_data_dir("lightnas", appauthor=False)
        url, file = env.get("LIGHTNAS_DATABASE_URL") or None, env.get("LIGHTNAS_DATABASE_PASSWORD_FILE")
        if file:
            url = _with_password(url, Path(file))
        return cls(Path(home).expanduser().absolute(), url)

    @property
    def is_default_database(self) -> bool:
        """Whether the database is the SQLite file in `home`."""
        return self.database_url is None

    def search_folder(self, search_id: int) -> Path:
        """Where a search keeps its checkpoints."""
        return self.home / "searches" / str(search_id)

    @property
    def artifacts(self) -> Path:
        """Where jobs keep the files they made; shared by all workers."""
        return self.home / "artifacts"

    @property
    def token_file(self) -> Path:
        """Where the token of the first start is kept, readable by this user only."""
        return self.home / "token"


def _with_password(url: str | None, file: Path) -> str:
    import sqlalchemy as sa

    if url is None:
        raise StoreError("LIGHTNAS_DATABASE_PASSWORD_FILE needs the LIGHTNAS_DATABASE_URL it belongs to")
    try:
        password = file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is no text"
        raise StoreError(f"LIGHTNAS_DATABASE_PASSWORD_FILE: {file}: {why}; check its path and permissions") from e
    try:
        return sa.make_url(url).set(password=password).render_as_string(hide_password=False)
    except (sa.exc.SQLAlchemyError, ValueError):
        return url  # the store tells what is wrong with it


@dataclass(frozen=True)
class ServeSettings:
    """How the REST service behaves.

    Attributes:
        data_root: the folder data sets of requests lie below (`LIGHTNAS_DATA_ROOT`, by default `data` in the home).
        max_body_bytes: a longer request is refused.
        rate_per_minute: requests one token may make.
        tries_per_minute: requests without a valid token one address may make.
        allowed_hosts: names the service answers to, against DNS rebinding; `*` where a proxy checks them.
        loopback: whether only this machine reaches it.
        events_poll_s: how often new events are looked for.
    """

    data_root: Path
    max_body_bytes: int = 1 << 20
    rate_per_minute: int = 1200
    tries_per_minute: int = 20
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    loopback: bool = True
    events_poll_s: float = 0.25

    @classmethod
    def from_env(cls, settings: Settings, env: Mapping[str, str] | None = None, **others: Any) -> ServeSettings:
        """What the environment says, and `others`."""
        env = os.environ if env is None else env
        root = env.get("LIGHTNAS_DATA_ROOT")
        return cls(Path(root).expanduser().absolute() if root else settings.home / "data", **others)
