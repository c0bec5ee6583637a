"""`nas tables`: what was measured."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from api.commands.output import JsonFlag, out, print_json, print_table, say
from api.commands.remote import ServerOption, connect
from api.schemas.tables import TableOut
from api.store import Store
from latency.errors import InvalidTable
from latency.interval import interval_pct
from latency.table import LatencyTable
from latency.table_diff import TableDiff, diff_tables

app = typer.Typer(help="Latency tables: op -> measured ms, immutable, named by digest.", no_args_is_help=True)
Digest = Annotated[str, typer.Argument(metavar="TABLE", help="The table's digest, or its beginning.")]
LARGEST_BYTES = 256 * 2**20


@app.command("list")
def list_tables(
    board: Annotated[str | None, typer.Option(help="Only this board's.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the latency tables, newest first."""
    if server is not None:
        with connect(server) as client:
            found = list(client.tables(board))
    else:
        with Store.open() as store:
            found = [TableOut(**t.to_dict()) for t in store.tables.list(board=board)]
    if as_json:
        print_json([t.model_dump() for t in found])
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
    rows += [(k, _value(k, v)) for part in ("identity", "calibration", "provenance") for k, v in content[part].items()]
    if interval := interval_pct(found):
        rows.append(("90 % interval", "{:+.1f} to {:+.1f} % of a prediction".format(*interval)))
    estimated = sum(e.estimated for e in found.entries.values())
    if estimated:
        rows.append(("estimated", f"{estimated} ops: their profile was cut short, and goes on when started again"))
    print_table(None, ("", "latency table"), rows)
    if ops:
        print_table(
            "\nms are before the scale",
            ("op", ">ms", ">spread", ">samples"),
            [
                (key, f"{e.ms:.5f}", f"±{100 * e.sigma:.0f} %" if e.estimated else f"{100 * e.spread:.1f} %", e.samples)
                for key, e in found.entries.items()
            ],
        )


def _value(name: str, value: Any) -> Any:
    """Of a table's description, as people read it."""
    if name == "residuals":
        return f"of {len(value)} networks (--json tells them)"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
    return value


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


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A digest's beginning, or a board: its newest table.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The same, of the table to compare with it.")],
    largest: Annotated[int, typer.Option(min=0, help="How many of the largest changes to list.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Compare two tables: what they hold for, the ops only one of them has, and how the times of the others changed.

    Example: nas tables diff 3f2a 9c41
    """
    with Store.open() as store:
        a, b = (_find(store, name) for name in (before, after))
    found = diff_tables(a, b)
    if as_json:
        sides = {"a": _side(a), "b": _side(b), "comparable": found.comparable}
        print_json({**sides, **asdict(found), "changes": [asdict(c) for c in found.changes[:largest]]})
        return
    _show_diff(a, b, found, largest)


@app.command()
def schema() -> None:
    """Print the JSON schema of exported tables (draft 2020-12).

    Example: nas tables schema > latency-table.schema.json
    """
    sys.stdout.write(resources.files("latency").joinpath("latency-table.schema.json").read_text())


def _find(store: Store, name: str) -> LatencyTable:
    found = store.tables.list(board=name)
    return store.tables.get(found[0].digest if found else name)


def _side(table: LatencyTable) -> dict[str, Any]:
    return {
        "digest": table.digest,
        "board": table.identity.board,
        "date": table.provenance.date,
        "spaces": [mark.name for mark in table.provenance.spaces],
        "ops": len(table.entries),
        "estimated": sum(e.estimated for e in table.entries.values()),
        "scale": table.scale,
        "offset_ms": table.offset_ms,
        "error_pct": table.calibration.error_pct,
    }


def _show_diff(a: LatencyTable, b: LatencyTable, found: TableDiff, largest: int) -> None:
    sides = [_side(table) for table in (a, b)]
    rows = [(name, *(_text(side[name]) for side in sides)) for name in sides[0]]
    print_table(None, ("", "A", "B"), rows)
    if found.comparable:
        out("\nthe same board, engine and way of running: the times may be compared")
    else:
        out(f"\nNOT to be compared as they are, the tables hold for different things: {'; '.join(found.identity)}")
    for letter, only in (("A", found.only_before), ("B", found.only_after)):
        if only:
            more = f", … and {len(only) - largest} more" if len(only) > largest else ""
            out(f"{len(only)} ops only in {letter}: {', '.join(only[:largest])}{more}")
    untimed = f" ({found.untimed} of them estimated in one or both, left out)" if found.untimed else ""
    out(f"{found.common} ops in both{untimed}")
    if found.median is None:
        return
    out(f"times B / A: median {found.median:.3f}, 5 % below {found.p5:.3f}, 5 % above {found.p95:.3f}")
    if largest:
        shown = [(f"{c.ratio:.3f}", f"{c.before_ms:.5f}", f"{c.after_ms:.5f}", c.key) for c in found.changes[:largest]]
        print_table(None, (">B / A", ">A ms", ">B ms", "largest changes"), shown)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else str(value)
