"""Where things are kept: the environment read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_dir


@dataclass(frozen=True)
class Settings:
    """Where things are kept.

    Attributes:
        home: folder of the default database, checkpoints and caches (`LIGHTNAS_HOME`).
        database_url: an SQLAlchemy URL (`LIGHTNAS_DATABASE_URL`), or None for SQLite in `home`. May hold a password:
            never print it.
    """

    home: Path
    database_url: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """What the environment says; the user's data folder by default."""
        env = os.environ if env is None else env
        home = env.get("LIGHTNAS_HOME") or user_data_dir("lightnas", appauthor=False)
        return cls(Path(home).expanduser().absolute(), env.get("LIGHTNAS_DATABASE_URL") or None)

    @property
    def is_default_database(self) -> bool:
        """Whether the database is the SQLite file in `home`."""
        return self.database_url is None

    def search_folder(self, search_id: int) -> Path:
        """Where a search keeps its checkpoints."""
        return self.home / "searches" / str(search_id)
