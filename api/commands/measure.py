"""`nas measure`: a user's own model run on a board; with `--sustain`, for minutes without a pause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from api.boards.user_models import describe_price, find_model_table, format_prediction, parse_shape
from api.commands.durations import parse_duration
from api.commands.output import AcceptOption, JsonFlag, out, print_json, progress_bar, say, short
from api.commands.predict import ShapeOption
from api.errors import NotFound, OptionError
from api.store import Store
from latency.link import PatientLink
from latency.measure import LoadedModel, Measured, load_model
from latency.priced import price
from latency.sustained import Interval, Sustained
from latency.table import LatencyTable


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(measure)


def measure(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="The board's name.")],
    model: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX model, or an ncnn .param.")],
    shape: ShapeOption = None,
    passes: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Visits, a run that does not count first; default: 5 to 100, in 10 s."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Runs that count a visit; default 1, as in a profile.")
    ] = None,
    sustain: Annotated[
        str | None, typer.Option(metavar="TIME", help="Run it back to back so long (90s, 10m, 1h): cold against hot.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="Compare with this latency table; default: the board's that fits best.")
    ] = None,
    accept: AcceptOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Run your own model on a board and tell its latency, beside the predicted one where a table prices all of it.

    Example: nas measure pi4 mine.onnx

    Example: nas measure pi4 mine.param --shape 3x96x96 --sustain 10m
    """
    duration_s = None if sustain is None else parse_duration(sustain, "--sustain")
    if duration_s is not None and (passes or runs):
        raise OptionError("--sustain runs without a pause: it goes with neither --passes nor --runs")
    size = parse_shape(shape)
    with Store.open() as store:
        target = store.boards.get(board)
        with (
            PatientLink(target, accept_new_host_key=accept) as link,
            load_model(target, link.transport, link.deployment, model, size) as loaded,
        ):
            found, why_not = _find_table(store, table, loaded, board)
            if duration_s is None:
                with progress_bar() as bar:
                    task = bar.add_task(f"measure on {board}", total=None)
                    result: Measured | Sustained = loaded.measure(
                        passes=passes,
                        runs=runs or 1,
                        on_progress=lambda done, all_: bar.update(task, completed=done, total=all_),
                    )
            else:
                tell = _row if not as_json else lambda interval: None
                result = _sustain(loaded, duration_s, tell)
    about = _describe(board, model, loaded, result, found, why_not)
    if as_json:
        print_json(about)
    else:
        _show(about)
    if isinstance(result, Sustained) and result.stopped:
        say("stopped; this is what there was", quiet=as_json)
        raise typer.Exit(130)


def _sustain(loaded: LoadedModel, duration_s: float, tell: Callable[[Interval], None]) -> Sustained:
    say(f"running without a pause for {duration_s:.0f} s; Ctrl-C ends it with what there is")
    return loaded.sustain(duration_s, on_interval=tell)


def _find_table(store: Store, name: str | None, loaded: LoadedModel, board: str) -> tuple[LatencyTable | None, str]:
    """The table to compare with, or why there is none."""
    if loaded.imported is None:
        return None, loaded.obstacle
    try:
        return find_model_table(store, name or board, loaded.imported.graph, loaded.identity), ""
    except NotFound as e:
        if name is not None:
            raise
        return None, str(e)


def _describe(
    board: str, file: Path, loaded: LoadedModel, result: Measured | Sustained, table: LatencyTable | None, why_not: str
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "board": board,
        "model": str(file),
        "identity": asdict(loaded.identity),
        "emulated": loaded.emulated,
        "converted": loaded.converted,
        "memory_bytes": loaded.memory_bytes,
    }
    if isinstance(result, Measured):
        about |= {
            "median_ms": result.median_ms,
            "p95_ms": result.p95_ms,
            "min_ms": result.min_ms,
            "runs": len(result.runs_ms),
            "passes": result.passes,
            "disturbed": list(result.disturbed),
            "runs_ms": list(result.runs_ms),
        }
        measured_ms = result.median_ms
    else:
        about |= {
            "cold_ms": result.cold_ms,
            "hot_ms": result.hot_ms,
            "slower_pct": result.slower_pct,
            "seconds": result.seconds,
            "runs": result.runs,
            "stopped": result.stopped,
            "intervals": [asdict(i) for i in result.intervals],
        }
        measured_ms = result.cold_ms
    about |= {"prediction": None, "no_prediction": why_not}
    if table is not None and loaded.imported is not None:
        told = describe_price(table, price(table, loaded.imported))
        about["prediction"] = {
            **told,
            "unsupported": len(loaded.imported.unsupported),
            "error_pct": None if told["latency_ms"] is None else (told["latency_ms"] / measured_ms - 1) * 100,
            "identity_differences": table.identity.differences(loaded.identity),
        }
    return about


_COLUMNS = (("until s", 9), ("runs", 8), ("median ms", 11), ("p95 ms", 11), ("MHz", 7), ("°C", 7), ("throttled", 11))


def _row(interval: Interval) -> None:
    """A line of a sustained run, as soon as it is known."""
    if interval.start_s == 0:
        out("".join(f"{name:>{width}}" for name, width in _COLUMNS) + "  marks")
    cells = (
        f"{interval.end_s:.1f}",
        f"{interval.runs}",
        f"{interval.median_ms:.4g}",
        f"{interval.p95_ms:.4g}",
        "-" if interval.mhz is None else f"{interval.mhz}",
        "-" if interval.celsius is None else f"{interval.celsius:.1f}",
        "-" if interval.throttled is None else f"{interval.throttled:#x}",
    )
    marks = f"  {'; '.join(interval.marks)}" if interval.marks else ""
    out("".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True)) + marks)


def _show(about: dict[str, Any]) -> None:
    identity = about["identity"]
    how = ", converted, with zero weights" if about["converted"] else ""
    threads = f"{identity['threads']} thread{'s' if identity['threads'] > 1 else ''}"
    out(
        f"{about['model']} on {about['board']} ({identity['model']}; {identity['engine']} "
        f"{identity['engine_version']}, {identity['dtype']}, {threads}{how})"
    )
    if about["emulated"]:
        out("an emulated board: its milliseconds count instructions and are no real board's")
    memory = f"{about['memory_bytes'] / 2**20:.1f} MiB"
    if "median_ms" in about:
        out(
            f"median {about['median_ms']:.4g} ms, p95 {about['p95_ms']:.4g} ms, min {about['min_ms']:.4g} ms "
            f"({about['runs']} runs in {about['passes']} passes); memory {memory}"
        )
        if about["disturbed"]:
            out(f"{len(about['disturbed'])} of {about['passes']} passes were disturbed: {about['disturbed'][0]}")
    else:
        marked = sum(bool(i["marks"]) for i in about["intervals"])
        out(
            f"cold {about['cold_ms']:.4g} ms, hot {about['hot_ms']:.4g} ms ({about['slower_pct']:+.1f} %) in "
            f"{about['runs']} runs over {about['seconds']:.0f} s; memory {memory}"
        )
        out(
            f"{marked} of {len(about['intervals'])} intervals are marked: the board was slowed down or disturbed"
            if marked
            else "nothing is known to have slowed the board down"
        )
    _show_prediction(about)


def _show_prediction(about: dict[str, Any]) -> None:
    told = about["prediction"]
    if told is None:
        out(f"not compared with a prediction: {about['no_prediction']}")
        return
    if told["latency_ms"] is None:
        gaps = [f"{len(told['missing'])} ops are not in it"] if told["missing"] else []
        gaps += [f"{told['unsupported']} nodes cannot be priced"] if told["unsupported"] else []
        out(f"latency table {told['table'][:12]} does not price all of it: {', '.join(gaps)} (nas predict lists them)")
        out(f"what it prices takes {short(told['known_ms'], 'ms')}")
        return
    out(f"predicted {format_prediction(told)} by latency table {told['table'][:12]}: error {told['error_pct']:+.1f} %")
    if told["identity_differences"]:
        out(f"that table is of another setting (table, now: {'; '.join(told['identity_differences'])})")
