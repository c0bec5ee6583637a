"""`nas search`: run a search here, to its end or until it is stopped; go on with one."""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from api.commands.live import SearchView
from api.commands.output import (
    ChannelsOption,
    ClassesOption,
    JsonFlag,
    ResolutionOption,
    out,
    print_json,
    progress_bar,
    say,
    short,
)
from api.errors import OptionError
from api.specs import SearchSpec, absolute_data, check_name, parse_options
from api.store import Store
from api.store.searches import SearchRecord
from nas.objective import MNASNET_EXPONENT
from nas.search import SearchResult, Stopped
from nas.spaces.recipe import SpaceSpec


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(search)


def search(
    space: Annotated[str | None, typer.Option("--space", "-s", help="Search space: a name or a YAML file.")] = None,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    board: Annotated[
        str | None, typer.Option(help="Board whose latency counts; its newest fitting table is used.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="A certain latency table: its digest, or the beginning.")] = None,
    latency_ms: Annotated[float | None, typer.Option("--latency-ms", help="Largest latency in ms.")] = None,
    flops: Annotated[float | None, typer.Option(help="Most multiply-adds at batch 1.")] = None,
    params: Annotated[float | None, typer.Option(help="Most parameters.")] = None,
    strategy: Annotated[str, typer.Option(help="annealing, random, tpe, nsga2, gp, or a plug-in's.")] = "annealing",
    start: Annotated[str | None, typer.Option(help="annealing: the first encoding.")] = None,
    t0: Annotated[float | None, typer.Option("--t0", help="annealing: first temperature; default: calibrated.")] = None,
    theta: Annotated[float | None, typer.Option(help="annealing: the temperature's factor per trial.")] = None,
    evaluator: Annotated[str, typer.Option(help="training, table, or a plug-in's.")] = "training",
    data: Annotated[
        str | None,
        typer.Option(help="digits, cluttered-digits, folder:PATH, cifar10:PATH, npz:PATH; a CSV file for `table`."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="training: epochs a trial.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="Another option of the evaluator.")
    ] = None,
    reward: Annotated[str, typer.Option(help="hard (accuracy inside the budget) or soft (MnasNet's).")] = "hard",
    reward_exponent: Annotated[float, typer.Option(help="soft: w of accuracy·(latency/target)^w.")] = MNASNET_EXPONENT,
    confidence: Annotated[
        float | None,
        typer.Option(help="That a network keeps --latency-ms when measured; default: 0.95. 0.5: as predicted."),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="How many trials (default: 100; resuming: as before).")] = None,
    parallel: Annotated[int, typer.Option(help="Trials at once; decides the proposals, too.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides all randomness.")] = 0,
    max_hours: Annotated[float | None, typer.Option(help="Stop cleanly after so many hours; resume later.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Time a few candidates and tell the hours it will take.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the search (default: search-ID).")] = None,
    resume: Annotated[str | None, typer.Option(metavar="SEARCH", help="Go on with this search.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search the most accurate network inside a budget. Ctrl-C, a crash or a power cut lose nothing: --resume.

    Example: nas search --space light-nas --board pi4 --latency-ms 30 --flops 300e6 --data folder:~/pictures

    Example: nas search --resume search-1
    """
    from api import compose

    if max_hours is not None and not 0 < max_hours < 1e5:
        raise OptionError(f"--max-hours must be above 0, not {max_hours:g}")
    with Store.open() as store:
        if resume is not None:
            record = _resumed(store, resume, trials)
            run_here(store, record, max_hours=max_hours, as_json=as_json)
            return
        if space is None:
            raise OptionError("name a search space with --space (nas spaces lists them), or a search with --resume")
        if name is not None:
            check_name(name)
        options = parse_options(option or [])
        if data is not None:
            if evaluator == "table":
                options["path"] = str(Path(data).expanduser().absolute())
            else:
                options["data"] = absolute_data(data)
        if epochs is not None:
            options["epochs"] = epochs
        if evaluator == "training":
            options.setdefault("data", "digits")
            classes = classes or compose.count_classes(str(options["data"]))
        strategy_options = {"start": start, "t0": t0, "theta": theta}
        spec = SearchSpec(
            space=SpaceSpec.of(space, tuple(resolution or ()), classes, channels),
            budgets=_given({"latency_ms": latency_ms, "flops": flops, "params": params}),
            strategy=strategy,
            strategy_options=_given(strategy_options),
            evaluator=evaluator,
            evaluator_options=options,
            trials=100 if trials is None else trials,
            parallel=parallel,
            seed=seed,
            reward=reward,
            reward_exponent=reward_exponent,
        )
        measured = _table(store, spec, board, table)
        if measured is not None and "latency_ms" in spec.hard_budgets:
            sure = compose.default_confidence(measured) if confidence is None else confidence
            spec = dataclasses.replace(spec, confidence=sure)
        elif confidence is not None:
            raise OptionError("--confidence says how surely --latency-ms is kept; give both, and a board or table")
        plan = compose.build_plan(spec, measured)
        if dry_run:
            compose.check_evaluator(plan, store.settings)
            _print_estimate(compose.estimate_hours(plan, store.settings), spec, as_json=as_json)
            return
        if board is None and plan.table is not None:
            board = plan.table.identity.board
        record = compose.create_search(store, plan, board=board, name=name)
        run_here(store, record, max_hours=max_hours, as_json=as_json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def _table(store: Store, spec: SearchSpec, board: str | None, table: str | None) -> Any:
    from api.boards import find_table

    if table is None and board is None:
        return None
    if board is not None:
        store.boards.get(board)
    return find_table(store, table or board or "", spec.space.build())


def _resumed(store: Store, name: str, trials: int | None) -> SearchRecord:
    record = store.searches.get(name)
    if trials is not None and trials != record.spec["trials"]:
        if trials < 1:
            raise OptionError(f"trials must be at least 1, not {trials}")
        store.searches.set_spec(record.id, {**record.spec, "trials": trials})
        record = store.searches.by_id(record.id)
    return record


def run_here(store: Store, record: SearchRecord, *, max_hours: float | None = None, as_json: bool = False) -> None:
    """Run a stored search in this process, show it, print what it came to."""
    from api import compose

    again = f"go on with: nas search --resume {record.name}"
    terminated = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    try:
        say(f"search {record.name}: {record.space}, {record.spec['trials']} trials; Ctrl-C stops it, {again}")
        counts = store.searches.counts(record.id)
        best = store.searches.best(record.id)
        with progress_bar() as bar:
            view = SearchView(
                bar,
                record.spec["trials"],
                done=counts["complete"] + counts["failed"],
                best=best[0].accuracy if best else None,
            )
            result = compose.run_search(
                store,
                record,
                on_event=view,
                should_stop=terminated.is_set,
                max_seconds=None if max_hours is None else max_hours * 3600,
            )
    except KeyboardInterrupt:
        say(f"stopped; every finished trial and checkpoint is saved. {again.capitalize()}")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    _print_result(record, result, as_json=as_json)
    if result.stopped in (Stopped.INTERRUPTED, Stopped.STOPPED):
        say(f"stopped; every finished trial and checkpoint is saved. {again.capitalize()}")
        raise typer.Exit(130 if result.stopped is Stopped.INTERRUPTED else 143)
    if result.stopped is Stopped.TIME:
        say(f"the time is up. {again.capitalize()}")


def _print_result(record: SearchRecord, result: SearchResult, *, as_json: bool) -> None:
    from api.compose import describe_trial

    best = None if result.best is None else describe_trial(result.best)
    if as_json:
        print_json(
            {
                "search": record.name,
                "id": record.id,
                "trials": result.trials,
                "complete": result.complete,
                "failed": result.failed,
                "stopped": result.stopped.value,
                "seconds": result.seconds,
                "best": best,
            }
        )
        sys.stdout.flush()
        return
    if result.stopped is Stopped.EXHAUSTED:
        out("nothing is left inside the budget that was not tried")
    out(
        f"search {record.name}: {result.complete} trials complete, {result.failed} failed, "
        f"{result.seconds:.0f} s in this run"
    )
    if best is not None:
        latency = "" if best["predicted_ms"] is None else f", predicted {short(best['predicted_ms'], 'ms')}"
        out(
            f"best: trial {best['number']}, accuracy {100 * best['accuracy']:.2f} %, "
            f"{short(best['flops'])} multiply-adds, {short(best['params'])} parameters{latency}"
        )
        out(f"encoding: {best['encoding']}")


def _print_estimate(estimate: dict[str, Any], spec: SearchSpec, *, as_json: bool) -> None:
    if as_json:
        print_json({**estimate, "trials": spec.trials, "parallel": spec.parallel})
        return
    timed = ", ".join(f"{seconds:.1f}" for seconds in estimate["trial_seconds"])
    out(
        f"{spec.trials} trials, {spec.parallel} at once, about {estimate['seconds_per_trial']:.1f} s each "
        f"(candidates timed: {timed} s): about {estimate['hours']:.2f} hours"
    )
