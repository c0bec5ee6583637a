"""`nas boards`: the machines to profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from api.commands.output import AcceptOption, JsonFlag, out, print_json, print_table
from api.commands.remote import ServerOption, connect
from api.errors import OptionError
from api.schemas.boards import BoardOut
from api.store import Store
from latency.board import Board

if TYPE_CHECKING:
    from latency.health import Health

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
        out(f"board {name} added; try it: nas boards check {name}")


@app.command("list")
def list_boards(server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """List the boards."""
    boards: Sequence[Board | BoardOut]
    if server is not None:
        with connect(server) as client:
            told = list(client.boards())
        boards, found = told, [b.model_dump() for b in told]
    else:
        with Store.open() as store:
            own = store.boards.all()
        boards, found = own, [b.to_dict() for b in own]
    if as_json:
        print_json(found)
        return
    rows = [(b.name, b.address, b.engine, b.threads, ",".join(map(str, b.cores)) or "any", b.dtype) for b in boards]
    print_table(None, ("board", "address", "engine", ">threads", "cores", "dtype"), rows)
    if not boards:
        out("no board yet; add one: nas boards add NAME ADDRESS")


@app.command()
def show(name: Name, as_json: JsonFlag = False) -> None:
    """Show a board, what its last check found, and its latency tables."""
    with Store.open() as store:
        board, facts = store.boards.get(name), store.boards.facts(name)
        tables = store.tables.list(board=name)
    if as_json:
        print_json({**board.to_dict(), "facts": facts, "tables": [t.to_dict() for t in tables]})
        return
    known = {key: value for key, value in (facts or {}).items() if value and not isinstance(value, list | dict)}
    print_table(None, ("", ""), [*board.to_dict().items(), *known.items()])
    for table in tables:
        out(f"table {table.digest[:12]}: {table.spaces}, {table.created_at:%Y-%m-%d %H:%M} UTC")


@app.command()
def remove(name: Name, as_json: JsonFlag = False) -> None:
    """Forget a board. Its latency tables stay; files on the board stay too (see `nas boards clean`)."""
    with Store.open() as store:
        store.boards.remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        out(f"board {name} removed; its latency tables stay")


@app.command()
def check(
    name: Name,
    accept: AcceptOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Reach a board and tell what it is made of, what would spoil measurements, and how to mend that. Reads only."""
    from latency.health import check as examine
    from latency.reach import connect

    with Store.open() as store:
        board = store.boards.get(name)
        with connect(board, accept_new_host_key=accept) as link:
            health = examine(link, board)
        facts = {
            **dataclasses.asdict(health),
            "clusters": [dataclasses.asdict(cluster) for cluster in health.clusters],
            "recommended_cores": list(health.recommended(board)),
        }
        store.boards.set_facts(name, facts)
    if as_json:
        print_json(facts)
        return
    rows = [(label, text) for label, text in describe(health, board) if text]
    print_table(None, ("", f"board {name}"), rows)
    for word, lines in (("problem", health.problems), ("warning", health.warnings)):
        for line in lines:
            out(f"{word}: {line}")
    if health.problems:
        raise typer.Exit(2)
    out(f"\nboard {name} can be profiled: nas profile {name} --space SPACE")


def describe(health: Health, board: Board) -> Iterator[tuple[str, str]]:
    """What a check found, as (label, text); the text is empty where the board does not tell."""
    from latency.disturbance import throttling
    from latency.health import format_list

    yield "system", health.os
    yield "model", health.model
    for cluster in health.clusters:
        cores = [core for core in health.cores if core.number in cluster.cores]
        yield "cores", f"{format_list(cluster.cores)}: {cluster.label}"
        core = cores[0]
        if core.governor:
            held = "" if core.governor == "performance" else ", held at performance while profiling"
            yield "  governor", f"{core.governor}{held if core.may_set else ''} (of {', '.join(core.governors)})"
            now = format_range(core.now_mhz for core in cores)
            yield "  frequency", f"{now} MHz now, {core.floor_mhz}-{core.cap_mhz} allowed"
    yield "isolated cores", format_list(health.isolated)
    if len(health.allowed) < len(health.cores):
        yield "cores for us", format_list(health.allowed)
    yield "CPU quota", "" if health.quota_cores is None else f"{health.quota_cores:g} cores"
    pinned = format_list(board.cores) or "none"
    yield "cores to pin", f"--cores {format_list(health.recommended(board)) or '?'} is best (now {pinned})"
    yield "CPU features", ", ".join(health.features)
    for zone in health.zones:
        limit = f", slows down at {zone.limit_celsius:.0f} °C" if zone.is_cpu and zone.limit_celsius else ""
        yield "temperature", f"{zone.celsius:.0f} °C {zone.name}{limit}"
    yield "cooling", "; ".join(f"{device.name} {device.level} of {device.highest}" for device in health.cooling)
    if health.throttled is not None:
        now, past = (", ".join(throttling(health.throttled, since_boot=b)) or "nothing" for b in (False, True))
        yield "throttling", f"now {now}; since boot {past}"
    yield "load", f"{health.load:.2f}"
    yield "busiest", "; ".join(f"{name} {share} %" for share, name in health.busiest)
    yield "memory free", f"{health.memory_free_bytes / 2**20:.0f} of {health.memory_bytes / 2**20:.0f} MiB"
    yield "swap in use", f"{health.swap_used_bytes / 2**20:.0f} MiB"
    yield "disk free", f"{health.facts.disk_free_bytes / 2**20:.0f} MiB"
    python = health.facts.python
    yield "python", "" if python is None else f"{'.'.join(map(str, python.version))} at {python.executable}"
    yield "libc", f"{health.facts.libc} {health.facts.libc_version}".strip()
    yield "engine", f"{health.engine} {health.engine_version or '(is sent with the first profile)'}"


def format_range(values: Iterable[int]) -> str:
    """`1500`, or `408-1800` where they differ."""
    known = sorted({*values})
    return "-".join(map(str, (known[0], known[-1]) if len(known) > 1 else known))


@app.command()
def clean(name: Name, as_json: JsonFlag = False) -> None:
    """Remove everything lightnas put on a board: one folder in the account's cache."""
    from latency.deploy import clean as clean_board
    from latency.reach import connect

    with Store.open() as store:
        board = store.boards.get(name)
    with connect(board) as link:
        removed = clean_board(link)
    if as_json:
        print_json({"board": name, **dataclasses.asdict(removed)})
    else:
        size = f"{removed.files} files, {removed.size_bytes / 2**20:.1f} MiB"
        out(f"{name}: {removed.folder} removed ({size})")
