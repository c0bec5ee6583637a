"""`nas db`: the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.commands.output import JsonFlag, out, print_json
from api.migrations import HEAD
from api.settings import Settings
from api.store import Store

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
app = typer.Typer(help="The database.", no_args_is_help=True)


@app.command()
def upgrade(as_json: JsonFlag = False) -> None:
    """Bring the database's schema to this program's revision.

    SQLite in LIGHTNAS_HOME by default, or what LIGHTNAS_DATABASE_URL names. Back a database up first.
    """
    with Store(Settings.from_env()) as store:
        before = store.database.upgrade()
        label = store.database.label
    if as_json:
        print_json({"database": label, "before": before, "revision": HEAD})
    elif before == HEAD:
        out(f"{label} is at revision {HEAD} already")
    else:
        out(f"{label}: revision {before or 'none'} -> {HEAD}")


@app.command()
def backup(file: BackupFile, as_json: JsonFlag = False) -> None:
    """Write the database to a new file, as it is at one moment. The service may go on working.

    Copy LIGHTNAS_HOME's files (checkpoints, artifacts) after it, not before. Needs pg_dump for PostgreSQL.

    Example: nas db backup /backups/nas-$(date +%F).backup
    """
    from api.operations.backup import back_up

    with Store(Settings.from_env()) as store:
        made, label = back_up(store.database, file), store.database.label
    if as_json:
        print_json({"database": label, "file": str(made.path), "bytes": made.size, "revision": made.revision})
    else:
        out(f"{label} is in {made.path} ({made.size / 1e6:.1f} MB, revision {made.revision})")


@app.command()
def restore(
    file: BackupFile,
    force: Annotated[bool, typer.Option("--force", help="Replace all that is in the database now.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a backup in the place of the database. End the service and all workers first.

    Into the same kind of database it came from; all or nothing. Searches go on from where the backup has them.
    """
    from api.operations.backup import restore as put_back

    with Store(Settings.from_env()) as store:
        revision, label = put_back(store, file, force=force), store.database.label
    if as_json:
        print_json({"database": label, "file": str(file), "revision": revision})
    else:
        then = "" if revision == HEAD else f", this program needs {HEAD}: run nas db upgrade"
        out(f"{file} is restored to {label} (revision {revision}{then})")
