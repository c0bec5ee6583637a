"""`nas verify`: predicted beside measured; with `--accuracy`, an export's answers on the board beside those here."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

from api.boards.measured import describe_verified
from api.commands.output import (
    AcceptOption,
    ChannelsOption,
    ClassesOption,
    JsonFlag,
    ResolutionOption,
    out,
    print_json,
    print_table,
    progress_bar,
)
from api.commands.profile import VisitsBar, say_waiting
from api.commands.remote import DetachFlag, ServerOption, connect, follow, need_server, refuse, request
from api.commands.spaces import format_encoding
from api.commands.verify_accuracy import show_accuracy, verify_accuracy
from api.errors import NotFound, OptionError
from api.schemas.jobs import VerifyRequest
from api.store import Store
from latency.board import Board
from latency.link import PatientLink
from latency.verify import verify as verify_graphs
from nas.spaces import build_space

_SHOW_DRIFT, _DRIFT_PCT = 5, 2.0
"""From so many networks on, a common error is told, if it is larger than this."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="BOARD|SEARCH|FOLDER", help="A board (with --space), a search, or an export (with --accuracy)."
        ),
    ],
    encodings: Annotated[list[str] | None, typer.Argument(metavar="[ENCODING…]", help="Networks to run.")] = None,
    space: Annotated[str | None, typer.Option("--space", "-s", help="Of a board: the space of the networks.")] = None,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    random: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="So many random networks: of --space or, on a server, the search's."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --random: which networks are drawn.")] = 0,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Of a search: its best so many.")] = 1,
    table: Annotated[str | None, typer.Option(help="Of a board: a certain latency table.")] = None,
    passes: Annotated[
        int | None, typer.Option(min=1, help="Runs of each network; default: as many as it needs.")
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Run the test pictures through what nas export wrote to FOLDER.")
    ] = False,
    export_board: Annotated[
        str | None, typer.Option("--board", help="With --accuracy: on this board; default: the export's.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(min=1, help="With --accuracy: so many, spread over all; default: all.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="With --accuracy: where the data is now, if it was moved.")
    ] = None,
    accept: AcceptOption = False,
    server: ServerOption = None,
    detach: DetachFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Run networks on a board: predicted latency beside measured or, with --accuracy, an export's answers beside here.

    Example: nas verify pi4 --space light-nas --random 20

    Example: nas verify search-1 --top 5

    Example: nas verify winner/ --accuracy --board pi4
    """
    need_server(server, detach)
    if server is not None:
        refuse(context, "encodings", "space", "resolution", "classes", "channels", "table", "data", "accept")
        given = {"search": target, "board": export_board, "accuracy": accuracy or None, "pictures": pictures}
        given |= {"random": random, "seed": seed or None, "passes": passes, "top": None if top == 1 else top}
        with connect(server) as client:
            told = follow(client, client.verify(request(VerifyRequest, **given)), detach=detach, as_json=as_json)
        if told is not None and accuracy:
            show_accuracy(told if as_json else {**told, "export": f"export job {told['export']}"}, as_json=as_json)
        elif told is not None:
            _show(told, as_json=as_json)
        return
    if accuracy:
        if encodings or space or random is not None or table or passes:
            raise OptionError("--accuracy runs one export: it goes with --board, --pictures and --data only")
        verify_accuracy(target, board=export_board, pictures=pictures, data=data, accept=accept, as_json=as_json)
        return
    if export_board or pictures or data:
        raise OptionError("--board, --pictures and --data go with --accuracy and the folder of an export")
    from api.boards.tables import find_table
    from api.compose import reopen
    from api.finals.deliver import format_trial, measure_trials
    from api.results.picks import pick_trials

    with Store.open() as store:
        if space is None:
            record = _search(store, target)
            plan = reopen(store, record)
            if record.board is None or plan.table is None:
                raise OptionError(
                    f"search {record.name!r} had no board; verify on one: nas verify BOARD --space … ENCODING"
                )
            board, used, built = store.boards.get(record.board), plan.table, plan.space
            if encodings or random is not None:
                raise OptionError("a search brings its own networks (--top N); name a board and --space for others")
            trials = pick_trials(store, record, top)
            texts = [format_trial(t) for t in trials]
            with _connect(board, accept) as link, progress_bar() as bar:
                bar_of = VisitsBar(bar, f"verify on {board.name}")
                results = measure_trials(store, record, plan, link, trials, passes=passes, on_progress=bar_of)
        else:
            board = store.boards.get(target)
            built = build_space(space, resolution=resolution, classes=classes, channels=channels)
            used = find_table(store, table or board.name, built)
            rows = [built.parse(text) for text in encodings or []]
            if random is not None:
                rows += list(built.sample(np.random.default_rng(seed), random))
            if not rows:
                raise OptionError("name networks to run, or --random N")
            texts = [format_encoding(row) for row in rows]
            graphs = [built.graph(row) for row in rows]
            with _connect(board, accept) as link, progress_bar() as bar:
                results = verify_graphs(
                    board,
                    link.open_session,
                    graphs,
                    used,
                    passes=passes,
                    seed=seed,
                    on_progress=VisitsBar(bar, f"verify on {board.name}"),
                )
    _show(describe_verified(board.name, used.digest, texts, results), as_json=as_json)


def _connect(board: Board, accept_new_host_key: bool) -> PatientLink:
    return PatientLink(board, accept_new_host_key=accept_new_host_key, on_wait=say_waiting(board.name))


def _search(store: Store, name: str) -> Any:
    try:
        return store.searches.get(name)
    except NotFound:
        if any(b.name == name for b in store.boards.all()):
            raise OptionError(f"{name} is a board: say with --space of which space the networks are") from None
        raise


def _show(about: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(about)
        return
    rows = [
        (
            f"{n['predicted_ms']:.4g}",
            "-" if n["low_ms"] is None else f"{n['low_ms']:.4g}…{n['high_ms']:.4g}",
            f"{n['measured_ms']:.4g}",
            f"{n['p95_ms']:.4g}",
            f"{n['error_pct']:+.1f} %",
            n["encoding"],
        )
        for n in about["networks"]
    ]
    print_table(None, (">predicted ms", ">90 %", ">measured ms", ">p95", ">error", "encoding"), rows)
    if rows:
        noise = f"; the measurement's own noise {about['noise_pct']:.1f} %" if about["noise_pct"] is not None else ""
        out(
            f"\n{len(rows)} networks on {about['board']}: mean error {about['mean_error_pct']:.1f} %, largest "
            f"{about['max_error_pct']:.1f} %{noise}"
        )
    known = [n["inside"] for n in about["networks"] if n["inside"] is not None]
    if known:
        out(f"{sum(known)} of {len(known)} lie in their 90 % interval")
    if len(rows) >= _SHOW_DRIFT and abs(about["drift_pct"]) > _DRIFT_PCT:
        out(
            f"all of them are {about['drift_pct']:+.1f} % off together: the board is faster or slower than when it was "
            f"profiled; without that the mean error is {about['mean_error_without_drift_pct']:.1f} %"
        )
