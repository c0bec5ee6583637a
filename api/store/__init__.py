"""The store: boards, tables, searches, trials, jobs, events and all else that is remembered, in one database."""

from __future__ import annotations

from types import TracebackType

from api.settings import Settings
from api.store.answers import AnswerStore
from api.store.artifacts import ArtifactRecords
from api.store.boards import BoardStore
from api.store.columns import ColumnStore
from api.store.engine import Database
from api.store.evaluations import EvaluationStore
from api.store.events import EventStore
from api.store.jobs import JobStore
from api.store.overviews import OverviewStore
from api.store.profiles import ProfileStore
from api.store.searches import SearchStore
from api.store.tables import TableStore
from api.store.tokens import TokenStore
from api.store.trainings import TrainingStore
from api.store.trial_pages import TrialPages
from api.store.workers import WorkerStore


class Store:
    """Everything lightnas remembers. Every write is durable before its method returns.

    Attributes:
        settings: where files beside the database go.
        database: the connection and the schema.
        boards, tables, profiles, searches, trainings, jobs, events, evaluations: the nouns.

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
        self.overviews = OverviewStore(self.database)
        self.trials = TrialPages(self.database)
        self.columns = ColumnStore(self.database)
        self.trainings = TrainingStore(self.database)
        self.jobs = JobStore(self.database)
        self.events = EventStore(self.database)
        self.evaluations = EvaluationStore(self.database)
        self.artifacts = ArtifactRecords(self.database)
        self.workers = WorkerStore(self.database)
        self.tokens = TokenStore(self.database)
        self.answers = AnswerStore(self.database)

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
