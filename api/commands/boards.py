"""`nas boards`: the machines to profile."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.output import JsonFlag, print_json, print_table, stdout_console
from api.errors import OptionError
from api.store import Store
from latency.board import Board

app = typer.Typer(help="Boards: the machines to profile, and how to reach them.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="BOARD", help="The board's name.")]


def parse_cores(text: str | None) -> tuple[int, ...]:
    """`4,5,6,7` or `4-7` -> numbers.

    Raises:
        OptionError: neither.
    """
    cores: list[int] = []
    for part in (text or "").split(",") if text else []:
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first + last) > 8:
            raise OptionError(f"--cores {text!r} is no list of cores; write 4,5,6,7 or 4-7")
        cores += range(int(first), int(last or first) + 1)
        if len(cores) > 1024:
            raise OptionError(f"--cores {text!r} names more than 1024 cores")
    return tuple(cores)


@app.command()
def add(
    name: Name,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="`local`, or `[user@]host[:port]` for SSH.")],
    engine: Annotated[str, typer.Option(help="Inference engine.")] = "ncnn",
    threads: Annotated[int, typer.Option(help="Threads the engine uses.")] = 1,
    cores: Annotated[str | None, typer.Option(help="Cores to pin to, e.g. 4-7; default: the system chooses.")] = None,
    dtype: Annotated[str, typer.Option(help="Arithmetic: fp32, fp16 or bf16.")] = "fp32",
    identity: Annotated[str | None, typer.Option("--identity", "-i", help="Private key file, as in ssh -i.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Register a board. Nothing is sent to it yet; `nas boards check` does that.

    Examples: nas boards add pi4 pi@raspberrypi.local --cores 3 -- or: nas boards add here local
    """
    board = Board(name, address, engine, threads, parse_cores(cores), dtype, identity)
    from latency.engines import get_engine

    get_engine(engine)  # an unknown engine is told now
    with Store.open() as store:
        store.boards.add(board)
    if as_json:
        print_json(board.to_dict())
    else:
        stdout_console().print(f"board {name} added; try it: nas boards check {name}")


@app.command("list")
def list_boards(as_json: JsonFlag = False) -> None:
    """List the boards."""
    with Store.open() as store:
        boards = store.boards.all()
    if as_json:
        print_json([b.to_dict() for b in boards])
        return
    rows = [(b.name, b.address, b.engine, b.threads, ",".join(map(str, b.cores)) or "any", b.dtype) for b in boards]
    print_table(None, ("board", "address", "engine", ">threads", "cores", "dtype"), rows)
    if not boards:
        stdout_console().print("no board yet; add one: nas boards add NAME ADDRESS")


@app.command()
def show(name: Name, as_json: JsonFlag = False) -> None:
    """Show a board, what its last check found, and its latency tables."""
    with Store.open() as store:
        board, facts = store.boards.get(name), store.boards.facts(name)
        tables = store.tables.list(board=name)
    if as_json:
        print_json({**board.to_dict(), "facts": facts, "tables": [t.to_dict() for t in tables]})
        return
    print_table(None, ("", ""), [*board.to_dict().items(), *(facts or {}).items()])
    for table in tables:
        stdout_console().print(f"table {table.digest[:12]}: {table.space}, {table.created_at:%Y-%m-%d %H:%M} UTC")


@app.command()
def remove(name: Name, as_json: JsonFlag = False) -> None:
    """Forget a board. Its latency tables stay; files on the board stay too (see `nas boards clean`)."""
    with Store.open() as store:
        store.boards.remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        stdout_console().print(f"board {name} removed; its latency tables stay")
