"""The database behind the store: connect, say clearly what is wrong, bring the schema up to date."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import math
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from api.errors import DatabaseAway, SchemaMismatch, StoreError
from api.migrations import HEAD
from api.settings import Settings
from api.store.models import now

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
SILENT_S, ASK_EVERY_S, ASK_TIMES = 10, 5, 3
"""A connection to PostgreSQL on which nothing was heard for so long is asked so often, at this interval."""
DEFAULT_NAME = "lightnas.sqlite3"
_MIGRATION_LOCK = 0x6C6E6173  # any number no other program takes as a PostgreSQL advisory lock
_WRITE = "lightnas_write"
_CLOCK = sa.select(sa.func.clock_timestamp())
# A machine that vanishes closes no connection, and by itself either side believes in the other for hours: searches
# stay locked, queries wait. Whoever does not answer is given up within the 30 s of a worker's lease.
_GONE_MS = 1000 * (SILENT_S + ASK_EVERY_S * ASK_TIMES)  # also for what was sent and never acknowledged
_CLIENT_SIDE = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": SILENT_S,
    "keepalives_interval": ASK_EVERY_S,
    "keepalives_count": ASK_TIMES,
    "tcp_user_timeout": _GONE_MS,
}
# Not as the URL's `options`: pgbouncer refuses those. What a user or an administrator chose for these connections
# stays, and a setting that the server does not know (PostgreSQL 11) is left out.
_SERVER_SIDE = f"""
SELECT set_config(name, value, false)
FROM (VALUES ('tcp_keepalives_idle', '{SILENT_S}'), ('tcp_keepalives_interval', '{ASK_EVERY_S}'),
             ('tcp_keepalives_count', '{ASK_TIMES}'), ('tcp_user_timeout', '{_GONE_MS}')) AS wanted (name, value)
JOIN pg_settings USING (name)
WHERE source NOT IN ('client', 'user', 'database', 'database user')
"""


class Database:
    """An SQLAlchemy engine that raises only StoreError, each message one line without a password.

    Args:
        settings: says which database. The file and folder of an SQLite database are made when missing.

    Raises:
        StoreError: the URL is malformed, its driver is unknown, or its folder cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = _parse_url(settings)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.path = Path(self.url.database) if self.is_sqlite and self.url.database else None
        self.automatic = settings.is_default_database
        if self.is_sqlite:
            if self.path is None or self.url.database == ":memory:":
                raise StoreError("an SQLite database needs a file, e.g. sqlite:////var/lib/lightnas/lightnas.sqlite3")
            make_folder(self.path.parent)
            self.engine = sa.create_engine(
                self.url, connect_args={"timeout": BUSY_TIMEOUT_S}, json_serializer=dump_json
            )
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            with self.errors():
                self.engine = sa.create_engine(
                    self.url,
                    pool_pre_ping=True,
                    connect_args={k: v for k, v in _CLIENT_SIDE.items() if k not in self.url.query},
                    json_serializer=dump_json,
                )
            event.listen(self.engine, "connect", _prepare_postgresql)
        self._writer = self.engine.execution_options(**{_WRITE: True})  # the same pool of connections
        self._thread = threading.local()

    @property
    def label(self) -> str:
        """What messages call the database: its file, or its address without the password."""
        if self.path is not None:
            return str(self.path)
        port = f":{self.url.port}" if self.url.port else ""
        return f"{self.url.get_backend_name()}://{self.url.host or 'localhost'}{port}/{self.url.database or ''}"

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading one consistent state; never blocks a writer. Sees what this thread is writing."""
        outer: sa.Connection | None = getattr(self._thread, "transaction", None)
        if outer is not None:
            yield outer
            return
        with self.errors(), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction, durable when the block ends; inside another one of this thread, a part of that.

        SQLite takes its write lock at the beginning.
        """
        outer: sa.Connection | None = getattr(self._thread, "transaction", None)
        if outer is not None:
            yield outer
            return
        with self.errors(), self._writer.connect() as connection, connection.begin():
            self._thread.transaction = connection
            try:
                yield connection
            finally:
                self._thread.transaction = None

    def now(self, connection: sa.Connection) -> dt.datetime:
        """This moment by the clock all users of the database share: leases must not depend on each machine's own."""
        if self.is_sqlite:
            return now()
        found: dt.datetime = connection.execute(_CLOCK).scalar_one()
        return found.astimezone(dt.UTC)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turns every database error inside the block into a StoreError; DatabaseAway where waiting may mend it."""
        try:
            yield
        except (exc.SQLAlchemyError, sqlite3.Error) as e:
            # PostgreSQL: the connection is lost or cannot be made. SQLite tells of its disk by the same class.
            away = isinstance(e, exc.OperationalError | exc.InterfaceError) and not self.is_sqlite
            raise (DatabaseAway if away else StoreError)(self._explain(e)) from e

    def _explain(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error
        text = " ".join(str(cause).split())
        if self.url.password:
            text = text.replace(str(self.url.password), "***")
        for pattern, advice in _ADVICE:
            if re.search(pattern, text, re.IGNORECASE):
                return f"database {self.label}: {advice} ({_shorten(text)})"
        return f"database {self.label}: {_shorten(text)}"

    # Schema ----------------------------------------------------------------------------------------------------

    def ensure_schema(self) -> None:
        """Bring an empty database, or the default SQLite file, to this program's revision.

        Raises:
            SchemaMismatch: another database is older (run `nas db upgrade`), or it is newer than this program.
        """
        revision = self.revision()
        if revision == HEAD:
            return
        if revision is not None and not self.automatic:
            self._check_known(revision)
            raise SchemaMismatch(
                f"database {self.label} has revision {revision}, this program needs {HEAD}: back it up, then run "
                "`nas db upgrade`"
            )
        self.upgrade()

    def upgrade(self) -> str | None:
        """Run the migrations; concurrent upgrades wait for each other.

        Returns:
            The revision before; None for an empty database.

        Raises:
            SchemaMismatch: the database is newer than this program.
        """
        with self._migration_lock():
            before = self.revision()
            if before == HEAD:
                return before
            if before is None:
                self._refuse_foreign()
            else:
                self._check_known(before)
            from alembic import command  # heavy, and needed only once per database

            with self.migration() as connection:
                command.upgrade(self._alembic(connection), "head")
            return before

    @contextlib.contextmanager
    def migration(self) -> Iterator[sa.Connection]:
        """A transaction for migrations.

        SQLite alters a table by making it anew; dropping the old one must not cascade to what refers to it.
        """
        if not self.is_sqlite:
            with self.write() as connection:
                yield connection
            return
        with self.errors(), self._writer.connect() as connection:
            try:
                connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")  # means nothing in a transaction
                with connection.begin():
                    yield connection
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                    if broken:
                        raise StoreError(f"database {self.label}: the upgrade would lose rows of {broken[0][0]}")
            finally:
                connection.invalidate()  # the next one has its foreign keys on

    def revision(self) -> str | None:
        """The schema's revision; None if the database is empty."""
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def _refuse_foreign(self) -> None:
        with self.read() as connection:
            tables = sa.inspect(connection).get_table_names()
        if tables:
            raise StoreError(
                f"database {self.label} belongs to something else (it holds {', '.join(sorted(tables)[:3])}): "
                "name an empty one in LIGHTNAS_DATABASE_URL"
            )

    def _check_known(self, revision: str) -> None:
        from alembic.script import ScriptDirectory

        known = {script.revision for script in ScriptDirectory.from_config(self._alembic(None)).walk_revisions()}
        if revision not in known:
            raise SchemaMismatch(
                f"database {self.label} has revision {revision}, which is newer than this program ({HEAD}): "
                "upgrade lightnas, or name another database in LIGHTNAS_DATABASE_URL"
            )

    def _alembic(self, connection: sa.Connection | None) -> Any:
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        return config

    @contextlib.contextmanager
    def _migration_lock(self) -> Iterator[None]:
        if self.path is not None:
            with file_lock(self.path.with_name(self.path.name + ".upgrade-lock"), wait=True):
                yield
            return
        with self.errors(), self.engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(_MIGRATION_LOCK)))
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_MIGRATION_LOCK)))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


_ADVICE = (
    ("database or disk is full|No space left|File too large|disk I/O error", "the disk is full or failing; make room"),
    ("readonly database|unable to open database|permission denied", "it cannot be written; check its permissions"),
    ("not a database|malformed|file is encrypted", "the file is corrupt or no SQLite database; restore a backup"),
    ("database is locked", "another program holds it; end that one"),
    ("authentication failed|no password supplied", "the server refused the login; check LIGHTNAS_DATABASE_URL"),
    ("connect|resolve|server closed|terminat", "it cannot be reached; is the server running?"),
)


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."


def _parse_url(settings: Settings) -> sa.URL:
    if settings.database_url is None:
        return sa.URL.create("sqlite", database=str(settings.home / DEFAULT_NAME))
    text = re.sub(r"^(postgres|postgresql)://", "postgresql+psycopg://", settings.database_url)
    form = "write sqlite:////path/file.sqlite3 or postgresql+psycopg://user:password@host/database"
    try:
        url = sa.make_url(text)
    except (exc.SQLAlchemyError, ValueError):
        raise StoreError(f"LIGHTNAS_DATABASE_URL is no database URL: {form}") from None
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise StoreError(f"LIGHTNAS_DATABASE_URL names {url.drivername!r}, which is not supported: {form}")
    return url


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a new home is its user's own
    except OSError as e:
        raise StoreError(
            f"cannot make the folder {folder}: {e.strerror or e}; set LIGHTNAS_HOME to a folder you can write"
        ) from e


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold an exclusive lock on a file while the block runs; it dies with the process.

    Yields:
        Whether the lock was got; always True with `wait`.
    """
    make_folder(path.parent)
    try:
        handle = path.open("a")
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror or e}; check the permissions of its folder") from e
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def dump_json(value: Any) -> str:
    """Compact JSON every database takes: not-a-number and infinities become null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions lazily, at the first write: a reader that then writes could meet
    # SQLITE_BUSY at once. We begin them ourselves.
    connection.isolation_level = None
    cursor = connection.cursor()
    _log_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")  # NORMAL may lose the last commits when the power goes
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _prepare_postgresql(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(_SERVER_SIDE)
    cursor.close()
    connection.commit()  # undone with its transaction otherwise


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


@retry(retry=retry_if_exception(_is_busy), wait=wait_fixed(0.02), stop=stop_after_delay(BUSY_TIMEOUT_S), reraise=True)
def _log_ahead(cursor: sqlite3.Cursor) -> None:
    """Makes the journal a log ahead of writing; a file that is one already keeps it.

    Of those that make the same new file at once SQLite tells some that it is locked, without the wait they were
    granted.
    """
    cursor.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
