"""Searches: what was asked, how far it is, and the lock that lets one process at a time run it."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa

from api.errors import AlreadyExists, NotFound, SearchBusy
from api.store.engine import Database, file_lock
from api.store.events import note
from api.store.fence import Fence
from api.store.models import now, searches, trials
from api.store.texts import error_text
from api.store.trials import SqlTrialLog, trial_of
from nas.trial import Trial, TrialState

_ADVISORY_CLASS = 0x6C6E  # of PostgreSQL's two-number advisory locks; the second number is the search's id
_UNIQUE_VIOLATION = "23505"  # of PostgreSQL; the latency table may be missing, too, which is another mistake
LOCK_PATIENCE_S = 3.0  # a killed process's connection lives on for a moment; a file's lock does not


class Hold(Enum):
    """What nobody else can do with a search until a transaction ends; SQLite has one writer at a time anyway."""

    DELETE = "delete"
    CHANGE = "change"
    REFER = "refer"  # nor change nor delete it: whoever is to delete it keeps away what would come to belong to it


_LOCKS: dict[Hold, dict[str, Any]] = {
    Hold.DELETE: {"read": True, "key_share": True},
    Hold.CHANGE: {"key_share": True},
    Hold.REFER: {},
}


@dataclass(frozen=True)
class SearchRecord:
    """A stored search.

    Attributes:
        id: its number in this store.
        name: the user's name for it, unique.
        state: `queued` for a worker, `running` (or killed while running), `paused` or `stopped` (it can go on),
            `cancelled`, `complete` or `failed`.
        spec: JSON that decides its trials (`api.compose.SearchSpec`).
        space: what the user called the space.
        space_digest: of the space as it was; another digest would decode the encodings differently.
        board: the board aimed at, if any.
        table_digest: the latency table pinned, if any.
        owner: the user who submitted it over REST; None for one of the command line.
        running, complete, pruned, failed: trials in these states.
        best_reward: the highest reward of a complete trial, if there is one.
        best_number: the first trial that reached it.
        beliefs: what its strategy thought of the result when it last stopped, if it thinks.
        winner: the final training of the best network, once made.
        error: why it failed.
        created_at: when it was asked.
        finished_at: when it stopped, completed or failed.
    """

    id: int
    name: str
    state: str
    spec: dict[str, Any]
    space: str
    space_digest: str
    board: str | None
    table_digest: str | None
    owner: str | None
    running: int
    complete: int
    pruned: int
    failed: int
    best_reward: float | None
    best_number: int | None
    beliefs: dict[str, Any] | None
    winner: dict[str, Any] | None
    error: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None


class SearchStore:
    """The searches and their trials."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(
        self,
        spec: Mapping[str, Any],
        *,
        space: str,
        space_digest: str,
        board: str | None = None,
        table_digest: str | None = None,
        name: str | None = None,
        owner: str | None = None,
        state: str = "running",
    ) -> SearchRecord:
        """Store a new search. Without a name it is called `search-ID`.

        Raises:
            AlreadyExists: the name is taken.
        """
        values: dict[str, Any] = {
            "state": state,
            "owner": owner,
            "spec": dict(spec),
            "space": space,
            "space_digest": space_digest,
        }
        values |= {"board": board, "table_digest": table_digest, "created_at": now()}
        with self._db.write() as c:
            if name is not None and c.execute(sa.select(searches.c.id).where(searches.c.name == name)).first():
                raise AlreadyExists(
                    f"there is a search {name!r} already; go on with it by `nas search --resume {name}`, or choose "
                    "another --name"
                )
            # A name must be there at once: a placeholder nobody can type until the id is known.
            try:
                inserted = c.execute(sa.insert(searches).values(**values, name=name or f"\x01{now().isoformat()}"))
            except sa.exc.IntegrityError as e:
                if name is None or getattr(e.orig, "sqlstate", None) != _UNIQUE_VIOLATION:
                    raise
                # another process was quicker, which SQLite's write lock prevents
                raise AlreadyExists(f"there is a search {name!r} already; choose another name") from e
            assert inserted.inserted_primary_key is not None
            search_id = int(inserted.inserted_primary_key[0])
            if name is None:
                made = f"search-{search_id}"
                while c.execute(sa.select(searches.c.id).where(searches.c.name == made)).first():
                    made += "b"
                c.execute(sa.update(searches).where(searches.c.id == search_id).values(name=made))
            note(c, "search.created", search_id=search_id, data={"state": state})
            row = c.execute(sa.select(searches).where(searches.c.id == search_id)).mappings().one()
        return SearchRecord(**row)

    def by_id(self, search_id: int) -> SearchRecord:
        """The search with that number.

        Raises:
            NotFound: there is none.
        """
        with self._db.read() as c:
            row = c.execute(sa.select(searches).where(searches.c.id == search_id)).mappings().first()
        if row is None:
            raise NotFound(f"no search {search_id}; `nas searches list` shows what there is")
        return SearchRecord(**row)

    def again(self, record: SearchRecord, hold: Hold | None = None) -> SearchRecord:
        """A search looked up before, as it is now.

        Args:
            record: as it was.
            hold: in a transaction, what nobody else can do with it until that ends.

        Raises:
            NotFound: it was deleted, though its number or name may be another's by now.
        """
        query = sa.select(searches).where(searches.c.id == record.id, searches.c.created_at == record.created_at)
        with self._db.read() as c:
            row = c.execute(query if hold is None else query.with_for_update(**_LOCKS[hold])).mappings().first()
        if row is None:
            raise NotFound(f"search {record.name!r} was deleted just now; `nas searches list` shows what there is")
        return SearchRecord(**row)

    def get(self, name: str) -> SearchRecord:
        """The search of that name, or with that number.

        Raises:
            NotFound: there is none.
        """
        with self._db.read() as c:
            row = c.execute(sa.select(searches).where(searches.c.name == name)).mappings().first()
        if row is not None:
            return SearchRecord(**row)
        if name.isascii() and name.isdigit() and len(name) < 10:
            return self.by_id(int(name))
        raise NotFound(f"no search {name!r}; `nas searches list` shows what there is")

    def page(
        self,
        *,
        after: int | None = None,
        limit: int = 100,
        oldest_first: bool = False,
        filters: Mapping[str, str] | None = None,
    ) -> list[SearchRecord]:
        """Searches, newest first.

        Args:
            after: only those beyond this number.
            limit: at most so many.
            oldest_first: the other way round.
            filters: column (`state`, `space`, `board`, `owner`) -> the value it has; `name` -> a text it contains.
        """
        number = searches.c.id
        query = sa.select(searches).order_by(number if oldest_first else number.desc()).limit(limit)
        if after is not None:
            query = query.where(number > after if oldest_first else number < after)
        for column, value in (filters or {}).items():
            found = searches.c[column]
            query = query.where(found.contains(value, autoescape=True) if column == "name" else found == value)
        with self._db.read() as c:
            return [SearchRecord(**row) for row in c.execute(query).mappings()]

    def set_state(self, search_id: int, state: str, *, error: str | None = None) -> None:
        """Move a search to another state."""
        finished, error = None if state in ("queued", "running") else now(), error_text(error)
        with self._db.write() as c:
            c.execute(
                sa.update(searches)
                .where(searches.c.id == search_id)
                .values(state=state, error=error, finished_at=finished)
            )
            note(c, "search.state", search_id=search_id, data={"state": state, "error": error})

    def set_spec(self, search_id: int, spec: Mapping[str, Any]) -> None:
        """Change what may change between runs (trials wanted)."""
        with self._db.write() as c:
            c.execute(sa.update(searches).where(searches.c.id == search_id).values(spec=dict(spec)))

    def set_beliefs(self, search_id: int, beliefs: Mapping[str, Any] | None) -> None:
        """Keep what the strategy thinks of its result."""
        with self._db.write() as c:
            c.execute(sa.update(searches).where(searches.c.id == search_id).values(beliefs=beliefs))

    def trial(self, search_id: int, number: int) -> Trial:
        """One trial.

        Raises:
            NotFound: there is none.
        """
        query = sa.select(trials).where(trials.c.search_id == search_id, trials.c.number == number)
        with self._db.read() as c:
            row = c.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"search {search_id} has no trial {number}")
        return trial_of(row)

    def keep_winner(
        self, search_id: int, facts: Mapping[str, Any], *, unless: str | None = None, join: Collection[str] = ()
    ) -> None:
        """Keep facts about the search's winner beside those known, in one transaction.

        Args:
            search_id: of the search.
            facts: name -> value.
            unless: nothing is kept where this fact is known.
            join: of these facts, which are mappings, the items are kept beside those known.
        """
        query = sa.select(searches.c.winner).where(searches.c.id == search_id).with_for_update()
        with self._db.write() as c:
            known = c.execute(query).scalar() or {}
            if unless in known:
                return
            joined = {name: {**known.get(name, {}), **facts[name]} for name in join}
            merged = {**known, **facts, **joined}
            c.execute(sa.update(searches).where(searches.c.id == search_id).values(winner=merged))

    def retry_failed(self, search_id: int) -> int:
        """Make failed trials running ones again, which the search evaluates with the same seeds when it goes on.

        Returns:
            How many there were.
        """
        of_it = (trials.c.search_id == search_id) & (trials.c.state == TrialState.FAILED.value)
        with self._db.write() as c:
            values = {"state": TrialState.RUNNING.value, "error": None, "seconds": 0.0, "finished_at": None}
            count = int(c.execute(sa.update(trials).where(of_it).values(values)).rowcount)
            moved = {"failed": searches.c.failed - count, "running": searches.c.running + count}
            c.execute(sa.update(searches).where(searches.c.id == search_id).values(moved))
        return count

    def delete(self, search_id: int) -> None:
        """Remove a search with its trials, jobs and all else that is its own in the database."""
        with self._db.write() as c:
            c.execute(sa.delete(searches).where(searches.c.id == search_id))

    def log(self, search_id: int, fence: Fence | None = None) -> SqlTrialLog:
        """The search's trial log; with a fence, writing ends when the job is another worker's."""
        return SqlTrialLog(self._db, search_id, fence)

    def counts(self, search_id: int) -> dict[str, int]:
        """Trials per state; every state is a key."""
        query = sa.select(*(searches.c[state.value] for state in TrialState)).where(searches.c.id == search_id)
        with self._db.read() as c:
            row = c.execute(query).mappings().first()
        return {state.value: 0 if row is None else int(row[state.value]) for state in TrialState}

    def best(self, search_id: int, limit: int = 1) -> list[Trial]:
        """The complete trials of highest reward; the earlier wins a tie."""
        query = (
            sa.select(trials)
            .where(trials.c.search_id == search_id, trials.c.state == TrialState.COMPLETE.value)
            .order_by(trials.c.reward.desc(), trials.c.number)
            .limit(limit)
        )
        with self._db.read() as c:
            return [trial_of(row) for row in c.execute(query).mappings()]

    @contextlib.contextmanager
    def lock(self, record: SearchRecord) -> Iterator[None]:
        """Hold a search while the block runs; a killed process lets go.

        Raises:
            SearchBusy: another process runs it.
        """
        with contextlib.ExitStack() as stack:
            deadline = time.monotonic() + (LOCK_PATIENCE_S if self._db.path is None else 0)
            while not stack.enter_context(self._try_lock(record.id)):
                stack.pop_all().close()
                if time.monotonic() > deadline:
                    raise SearchBusy(f"search {record.name!r} is being run by another process; wait for it or stop it")
                time.sleep(0.1)
            yield

    @contextlib.contextmanager
    def _try_lock(self, search_id: int) -> Iterator[bool]:
        path = self._db.path
        if path is not None:
            with file_lock(path.with_name(f"{path.name}-locks") / f"search-{search_id}") as got:
                yield got
            return
        # Idle in a transaction the server might end the session; in autocommit it may idle for days.
        with self._db.errors():
            connection = self._db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self._db.errors():
                got = bool(
                    connection.execute(sa.select(sa.func.pg_try_advisory_lock(_ADVISORY_CLASS, search_id))).scalar()
                )
            yield got
        finally:
            # Invalidated, so that the session ends with its lock and never returns to the pool holding it.
            connection.invalidate()
            connection.close()
