"""`nas verify`: predicted beside measured."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

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
from api.commands.spaces import format_encoding
from api.errors import NotFound, OptionError
from api.store import Store
from latency.board import Board
from latency.link import PatientLink
from latency.verify import Verified, common_scale
from latency.verify import verify as verify_graphs
from nas.spaces import build_space

_SHOW_DRIFT, _DRIFT = 5, 0.02
"""From so many networks on, a common error is told, if it is larger than this share."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    target: Annotated[str, typer.Argument(metavar="BOARD|SEARCH", help="A board (with --space), or a search.")],
    encodings: Annotated[list[str] | None, typer.Argument(metavar="[ENCODING…]", help="Networks to run.")] = None,
    space: Annotated[str | None, typer.Option("--space", "-s", help="Of a board: the space of the networks.")] = None,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    random: Annotated[int | None, typer.Option(min=1, max=10_000, help="Of a board: so many random networks.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random networks.")] = 0,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Of a search: its best so many.")] = 1,
    table: Annotated[str | None, typer.Option(help="Of a board: a certain latency table.")] = None,
    passes: Annotated[
        int | None, typer.Option(min=1, help="Runs of each network; default: as many as it needs.")
    ] = None,
    accept: AcceptOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Run networks on a board and show the predicted latency beside the measured one.

    Example: nas verify pi4 --space light-nas --random 20

    Example: nas verify search-1 --top 5
    """
    from api.boards import find_table
    from api.compose import pick_trials, reopen
    from api.deliver import format_trial, measure_trials

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
    _show(board.name, used.digest, texts, results, as_json=as_json)


def _connect(board: Board, accept_new_host_key: bool) -> PatientLink:
    return PatientLink(board, accept_new_host_key=accept_new_host_key, on_wait=say_waiting(board.name))


def _search(store: Store, name: str) -> Any:
    try:
        return store.searches.get(name)
    except NotFound:
        if any(b.name == name for b in store.boards.all()):
            raise OptionError(f"{name} is a board: say with --space of which space the networks are") from None
        raise


def _show(board: str, digest: str, texts: list[str], results: list[Verified], *, as_json: bool) -> None:
    errors = [abs(r.error_pct) for r in results]
    noises = [r.noise_pct for r in results if r.noise_pct is not None]
    known = [r.inside for r in results if r.inside is not None]
    scale = common_scale(results) if results else 1.0
    steady = [100 * abs(scale * r.predicted_ms / r.measured_ms - 1) for r in results]
    about: dict[str, Any] = {
        "board": board,
        "table": digest,
        "networks": [
            {
                "encoding": text,
                "predicted_ms": r.predicted_ms,
                "low_ms": r.low_ms,
                "high_ms": r.high_ms,
                "inside": r.inside,
                "measured_ms": r.measured_ms,
                "p95_ms": r.p95_ms,
                "error_pct": r.error_pct,
                "noise_pct": r.noise_pct,
                "runs": r.runs,
            }
            for text, r in zip(texts, results, strict=True)
        ],
        "mean_error_pct": float(np.mean(errors)) if errors else None,
        "max_error_pct": max(errors, default=None),
        "noise_pct": float(np.mean(noises)) if noises else None,
        "inside_pct": 100 * float(np.mean(known)) if known else None,
        "drift_pct": 100 * (scale - 1),
        "mean_error_without_drift_pct": float(np.mean(steady)) if errors else None,
    }
    if as_json:
        print_json(about)
        return
    rows = [
        (
            f"{r.predicted_ms:.4g}",
            "-" if r.low_ms is None else f"{r.low_ms:.4g}…{r.high_ms:.4g}",
            f"{r.measured_ms:.4g}",
            f"{r.p95_ms:.4g}",
            f"{r.error_pct:+.1f} %",
            text,
        )
        for text, r in zip(texts, results, strict=True)
    ]
    print_table(None, (">predicted ms", ">90 %", ">measured ms", ">p95", ">error", "encoding"), rows)
    if errors:
        noise = f"; the measurement's own noise {about['noise_pct']:.1f} %" if noises else ""
        out(
            f"\n{len(errors)} networks on {board}: mean error {about['mean_error_pct']:.1f} %, largest "
            f"{about['max_error_pct']:.1f} %{noise}"
        )
    if known:
        out(f"{sum(known)} of {len(known)} lie in their 90 % interval")
    if len(errors) >= _SHOW_DRIFT and abs(scale - 1) > _DRIFT:
        out(
            f"all of them are {100 * (scale - 1):+.1f} % off together: the board is faster or slower than when it was "
            f"profiled; without that the mean error is {about['mean_error_without_drift_pct']:.1f} %"
        )
