"""The store: boards, tables, profiling passes, searches and trials in one database."""

from __future__ import annotations

from types import TracebackType

from api.settings import Settings
from api.store.boards import BoardStore
from api.store.engine import Database
from api.store.profiles import ProfileStore
from api.store.searches import SearchStore
from api.store.tables import TableStore


class Store:
    """Everything lightnas remembers. Every write is durable before its method returns.

    Attributes:
        settings: where files beside the database go.
        database: the connection and the schema.
        boards, tables, profiles, searches: the nouns.

    Raises:
        StoreError: from any method, when the database or its disk fails; one line without a password.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings)
        self.boards = BoardStore(self.database)
        self.tables = TableStore(self.database)
        self.profiles = ProfileStore(self.database)
        self.searches = SearchStore(self.database)

    @classmethod
    def open(cls, settings: Settings | None = None) -> Store:
        """The store the environment names, its schema up to date."""
        store = cls(settings or Settings.from_env())
        store.database.ensure_schema()
        return store

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
