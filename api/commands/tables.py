"""`nas tables`: what was measured."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from api.commands.output import JsonFlag, out, print_json, print_table, say
from api.store import Store
from latency.errors import InvalidTable
from latency.table import LatencyTable

app = typer.Typer(help="Latency tables: op -> measured ms, immutable, named by digest.", no_args_is_help=True)
Digest = Annotated[str, typer.Argument(metavar="TABLE", help="The table's digest, or its beginning.")]
LARGEST_BYTES = 256 * 2**20


@app.command("list")
def list_tables(
    board: Annotated[str | None, typer.Option(help="Only this board's.")] = None, as_json: JsonFlag = False
) -> None:
    """List the latency tables, newest first."""
    with Store.open() as store:
        found = store.tables.list(board=board)
    if as_json:
        print_json([t.to_dict() for t in found])
        return
    rows = [(t.digest[:12], t.board, t.spaces, t.engine, t.ops, f"{t.created_at:%Y-%m-%d %H:%M}") for t in found]
    print_table(None, ("table", "board", "spaces", "engine", ">ops", "made (UTC)"), rows)


@app.command()
def show(
    table: Digest,
    ops: Annotated[bool, typer.Option("--ops", help="Every op with its time.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what a table holds for, how it came about and how good it is."""
    with Store.open() as store:
        found = store.tables.get(table)
    content = json.loads(found.to_json())
    entries = content.pop("entries")
    if as_json:
        print_json({**content, "ops": len(entries), **({"entries": entries} if ops else {})})
        return
    rows = [("digest", found.digest), ("ops", len(entries)), ("offset_ms", found.offset_ms)]
    rows += [(k, v) for part in ("identity", "calibration", "provenance") for k, v in content[part].items()]
    print_table(None, ("", "latency table"), rows)
    if ops:
        print_table(
            "\nms are before the scale",
            ("op", ">ms", ">spread", ">samples"),
            [(key, f"{e.ms:.5f}", f"{100 * e.spread:.1f} %", e.samples) for key, e in found.entries.items()],
        )


@app.command("export")
def export_table(
    table: Digest,
    to: Annotated[Path | None, typer.Option("--to", help="File to write; default: stdout.")] = None,
) -> None:
    """Write a table as one JSON file that `nas tables import` reads elsewhere.

    Example: nas tables export 3f2a --to pi4.json
    """
    with Store.open() as store:
        text = store.tables.get(table).to_json() + "\n"
    if to is None:
        sys.stdout.write(text)
        return
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(to)
    finally:
        temporary.unlink(missing_ok=True)
    say(f"written: {to}")


@app.command("import")
def import_table(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `nas tables export` wrote.")],
    as_json: JsonFlag = False,
) -> None:
    """Store a table from a file; a damaged or foreign one is refused."""
    if file.is_file() and file.stat().st_size > LARGEST_BYTES:
        raise InvalidTable(f"{file} is not a latency table: it is larger than {LARGEST_BYTES >> 20} MiB")
    found = LatencyTable.from_json(file.read_bytes(), source=str(file))
    with Store.open() as store:
        new = store.tables.add(found)
    if as_json:
        print_json({"digest": found.digest, "board": found.identity.board, "ops": len(found.entries), "new": new})
    else:
        state = "stored" if new else "was there already"
        out(f"latency table {found.digest[:12]} of board {found.identity.board} {state}")
