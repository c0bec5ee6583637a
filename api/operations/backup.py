"""Backups of the database: taken while the service works, put back while it rests.

SQLite goes through its online backup interface, PostgreSQL through pg_dump and pg_restore, whose version must not be
older than the server's. The files beside the database (checkpoints, artifacts) are copied by other means, afterwards:
a trial whose checkpoint is newer than the database repeats nothing, while a missing file would be one lost.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from api.errors import StoreError
from api.store import Store
from api.store.engine import Database
from api.store.models import metadata
from nas.durable import to_disk

_SQLITE, _POSTGRESQL = b"SQLite format 3\x00", b"PGDMP"
_OURS = frozenset({*metadata.tables, "alembic_version"})


@dataclass(frozen=True)
class Backup:
    """A backup file.

    Attributes:
        path: of the file.
        size: in bytes.
        revision: of the schema in it.
    """

    path: Path
    size: int
    revision: str | None


def back_up(database: Database, path: Path) -> Backup:
    """Write one consistent state of the database to a new file, readable by its owner only.

    The file appears when it is whole and on the disk; writers are not held up.

    Raises:
        StoreError: the file is there already or cannot be written, or the database cannot be read.
    """
    if path.exists():
        raise StoreError(f"{path} exists already; a backup replaces nothing: name another file")
    revision = database.revision()
    if revision is None:
        raise StoreError(f"database {database.label} is empty; there is nothing to back up")
    with _file_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        os.close(handle)
    partial = Path(name)
    try:
        with _file_errors(path):
            if database.path is not None:
                _copy_sqlite(database, database.path, partial)
            else:
                _run(database, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={partial}")
            to_disk(partial)
            partial.rename(path)
            to_disk(path.absolute().parent)
    finally:
        partial.unlink(missing_ok=True)
    return Backup(path, path.stat().st_size, revision)


def restore(store: Store, path: Path, *, force: bool = False) -> str | None:
    """Put a backup in the place of the database, in one transaction.

    Args:
        store: whose database is replaced; no worker may be at work on it.
        path: what `back_up` wrote, from the same kind of database.
        force: replace a database that is not empty. Of PostgreSQL, tables that are not ours are never dropped.

    Returns:
        The schema's revision now; it may be an older one.

    Raises:
        StoreError: the file is no such backup, the database is not empty or in use, or the restore failed; the
            database is then as before.
    """
    database = store.database
    with _file_errors(path), path.open("rb") as file:
        head = file.read(len(_SQLITE))
    wanted, kind = (_SQLITE, "SQLite") if database.is_sqlite else (_POSTGRESQL, "PostgreSQL")
    if not head.startswith(wanted):
        raise StoreError(f"{path} is no backup of a {kind} database; `nas db backup` of the same kind makes one")
    _refuse(store, force=force)
    if database.path is not None:
        _replace_sqlite(database, database.path, path)
    else:
        _replace_postgresql(database, path)
    return database.revision()


def _refuse(store: Store, *, force: bool) -> None:
    database = store.database
    tables = _tables(database)
    if tables and not force:
        raise StoreError(f"database {database.label} is not empty; --force replaces all that is in it")
    alive = store.workers.alive() if "workers" in tables else []
    if alive:
        raise StoreError(
            f"worker {alive[0].name} was at work on {database.label} a moment ago; end the service and all workers, "
            "and wait a minute if they were killed"
        )


def _tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names())


# SQLite ---------------------------------------------------------------------------------------------------------


def _copy_sqlite(database: Database, source: Path, target: Path) -> None:
    with database.errors(), _sqlite(source) as live, _sqlite(target) as backup:
        live.backup(backup)  # in one step: one state, and readers hold up no writer of a database with WAL
        backup.execute("PRAGMA journal_mode = DELETE")  # one file, not three
        _check(backup, source)


def _replace_sqlite(database: Database, target: Path, source: Path) -> None:
    database.close()
    with database.errors(), _sqlite(source) as backup, _sqlite(target) as live:
        _check(backup, source)
        live.execute("PRAGMA journal_mode = WAL")
        backup.backup(live)  # through the live one's log: after a crash in the middle it is as before


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(f"{path} is corrupt ({found}); use another backup")


@contextlib.contextmanager
def _sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, timeout=30.0, isolation_level=None)) as connection:
        yield connection


# PostgreSQL -----------------------------------------------------------------------------------------------------


def _replace_postgresql(database: Database, path: Path) -> None:
    listed = _run(database, "pg_restore", "--list", str(path), connect=False)
    kept = set(re.findall(r"^\d+; \d+ \d+ TABLE (?!DATA )\S+ (\S+) ", listed, re.MULTILINE))
    newer = _tables(database) - kept
    if strange := newer - _OURS:
        raise StoreError(
            f"database {database.label} holds {', '.join(sorted(strange)[:3])}, which the backup does not: restore "
            "into an empty database and name that in LIGHTNAS_DATABASE_URL"
        )
    database.close()
    options = ("--clean", "--if-exists", "--no-owner", "--no-privileges")
    if not newer:
        _run(database, "pg_restore", *options, "--single-transaction", "--exit-on-error", str(path))
        return
    # Tables of an upgrade since may refer to those that are replaced. pg_restore cannot drop what it has not, so its
    # statements follow the drop in one transaction of psql's; first all of them into a file, for a cut backup shows
    # at its end only.
    with tempfile.TemporaryDirectory(prefix="lightnas-restore-") as folder:
        script = f"--file={folder}/restore.sql"
        _run(database, "pg_restore", *options, script, str(path), connect=False)
        drop = f"--command=DROP TABLE {', '.join(sorted(newer))}"
        in_one = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
        _run(database, "psql", *in_one, drop, script)


def _run(database: Database, program: str, *arguments: str, connect: bool = True) -> str:
    """Run a client program of PostgreSQL; the password travels in its environment, which only its user can read."""
    whole = database.url
    query = {key: value for key, value in whole.query.items() if key != "password"}
    address = sa.URL.create("postgresql", whole.username, None, whole.host, whole.port, whole.database, query)
    password = whole.password or whole.query.get("password")
    environment: Mapping[str, str] = os.environ
    if password:
        environment = {**os.environ, "PGPASSWORD": str(password)}
    command = [_find(program), "--no-password", f"--dbname={address}"] if connect else [_find(program)]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        said = said.replace(str(password), "***") if password else said
        raise StoreError(f"database {database.label}: {program} failed: {said[:400]}")
    return done.stdout


def _find(program: str) -> str:
    """The newest on this machine: an old one refuses a newer server."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda p: float(p.parts[4]))
    found = str(packaged[-1]) if packaged else shutil.which(program)
    if found is None:
        raise StoreError(f"{program} is not installed here; it comes with PostgreSQL's client (postgresql-client)")
    return found


# Files ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise StoreError(f"{path}: {e.strerror or e}") from e
