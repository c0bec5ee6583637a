"""`nas db`: the database."""

from __future__ import annotations

import typer

from api.commands.output import JsonFlag, out, print_json
from api.migrations import HEAD
from api.settings import Settings
from api.store import Store

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
