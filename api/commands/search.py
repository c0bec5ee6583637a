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
    ConfidenceOption,
    FlopsBudgetOption,
    JsonFlag,
    LatencyBoardOption,
    LatencyBudgetOption,
    LatencyTableOption,
    ParamsBudgetOption,
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

_RESUMABLE = ("--resume", "--trials", "--stop-when", "--max-hours", "--json")
"""What a search that goes on may be told: when to end. All else decides its trials."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(search)


def search(
    context: typer.Context,
    space: Annotated[str | None, typer.Option("--space", "-s", help="Search space: a name or a YAML file.")] = None,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    board: LatencyBoardOption = None,
    table: LatencyTableOption = None,
    latency_ms: LatencyBudgetOption = None,
    flops: FlopsBudgetOption = None,
    params: ParamsBudgetOption = None,
    strategy: Annotated[
        str, typer.Option(help="guided, annealing, random, tpe, nsga2, gp, or a plug-in's.")
    ] = "guided",
    chains: Annotated[int | None, typer.Option(min=1, help="annealing: chains at most (default: 4).")] = None,
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
    confidence: ConfidenceOption = None,
    rungs: Annotated[
        str | None,
        typer.Option(metavar="EPOCHS", help="E.g. 2,4: epochs after which only the best 1/eta of the trials go on."),
    ] = None,
    eta: Annotated[
        float | None, typer.Option(help="With --rungs; default: 3, the worse two thirds are stopped.")
    ] = None,
    front: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC", help="guided: search the whole front of accuracy against latency_ms, flops or params."
        ),
    ] = None,
    stop_when: Annotated[
        float | None,
        typer.Option(
            metavar="REGRET", help="guided: end when no more accuracy than this is expected to be missed, e.g. 0.002."
        ),
    ] = None,
    earlier: Annotated[
        str | None, typer.Option("--from", metavar="SEARCH", help="Start from the trials of an earlier search.")
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
    from api.earlier import earlier_trials, pin_earlier

    if max_hours is not None and not 0 < max_hours < 1e5:
        raise OptionError(f"--max-hours must be above 0, not {max_hours:g}")
    with Store.open() as store:
        if resume is not None:
            _refuse_more(context)
            record = _resumed(store, resume, _given({"trials": trials, "stop_when": stop_when}))
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
        strategy_options = _given({"start": start, "t0": t0, "theta": theta, "chains": chains})
        if strategy_options and strategy == "guided":
            raise OptionError(f"--{next(iter(strategy_options))} is for --strategy annealing; name that, too")
        spec = SearchSpec(
            space=SpaceSpec.of(space, tuple(resolution or ()), classes, channels),
            budgets=_given({"latency_ms": latency_ms, "flops": flops, "params": params}),
            strategy=strategy,
            strategy_options=strategy_options,
            evaluator=evaluator,
            evaluator_options=options,
            trials=100 if trials is None else trials,
            parallel=parallel,
            seed=seed,
            reward=reward,
            reward_exponent=reward_exponent,
            front=front,
            stop_when=stop_when,
            **_rungs(rungs, eta),
        )
        if earlier is not None:
            spec = dataclasses.replace(spec, earlier=pin_earlier(store, earlier, spec.space.build()))
        measured = _table(store, spec, board, table)
        if measured is not None and "latency_ms" in spec.hard_budgets:
            sure = compose.default_confidence(measured) if confidence is None else confidence
            spec = dataclasses.replace(spec, confidence=sure)
        elif confidence is not None:
            raise OptionError("--confidence says how surely --latency-ms is kept; give both, and a board or table")
        plan = compose.build_plan(spec, measured, earlier_trials(store, spec))
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


def _rungs(text: str | None, eta: float | None) -> dict[str, Any]:
    if text is None:
        if eta is not None:
            raise OptionError("--eta says how many trials go on at --rungs; give both")
        return {}
    try:
        steps = tuple(int(step) for step in text.split(","))
    except ValueError:
        raise OptionError(f"--rungs is {text!r}; it must be epochs joined by commas, e.g. 2,4") from None
    return {"rungs": steps, **_given({"eta": eta})}


def _table(store: Store, spec: SearchSpec, board: str | None, table: str | None) -> Any:
    from api.boards import find_table

    if table is None and board is None:
        return None
    if board is not None:
        store.boards.get(board)
    return find_table(store, table or board or "", spec.space.build())


def _refuse_more(context: typer.Context) -> None:
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.opts[0] not in _RESUMABLE:
            raise OptionError(
                f"--resume goes on with a search as it was asked; {parameter.opts[0]} cannot change "
                f"({', '.join(_RESUMABLE[1:-1])} can)"
            )


def _resumed(store: Store, name: str, changes: dict[str, Any]) -> SearchRecord:
    record = store.searches.get(name)
    wanted = {**record.spec, **changes}
    if wanted != record.spec:
        SearchSpec.from_dict(wanted)  # tells what cannot be
        store.searches.set_spec(record.id, wanted)
    return store.searches.by_id(record.id)


def describe_aims(store: Store, spec: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, text for people) of what a stored spec asks beyond a good network inside its budgets."""
    found = []
    if spec.get("rungs"):
        found.append(("rungs", f"{', '.join(map(str, spec['rungs']))}: the best 1/{spec['eta']:g} go on"))
    if spec.get("front"):
        found.append(("front", f"of accuracy against {spec['front']}"))
    if spec.get("earlier"):
        name = store.searches.by_id(spec["earlier"]["search"]).name
        found.append(("starts from", f"the first {spec['earlier']['trials']} trials of search {name}"))
    if spec.get("stop_when"):
        found.append(("stops when", f"at most {100 * spec['stop_when']:g} points are expected to be missed"))
    return found


def run_here(store: Store, record: SearchRecord, *, max_hours: float | None = None, as_json: bool = False) -> None:
    """Run a stored search in this process, show it, print what it came to."""
    from api import compose

    again = f"go on with: nas search --resume {record.name}"
    terminated = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    try:
        aims = "".join(f"; {name} {text}" for name, text in describe_aims(store, record.spec))
        say(
            f"search {record.name}: {record.space}, {record.spec['trials']} trials by {record.spec['strategy']}{aims}; "
            f"Ctrl-C stops it, {again}"
        )
        counts = store.searches.counts(record.id)
        best = store.searches.best(record.id)
        with progress_bar() as bar:
            view = SearchView(
                bar,
                record.spec["trials"],
                done=sum(counts.values()) - counts["running"],
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
                "pruned": result.pruned,
                "failed": result.failed,
                "stopped": result.stopped.value,
                "seconds": result.seconds,
                "best": best,
                "beliefs": None if result.beliefs is None else dataclasses.asdict(result.beliefs),
            }
        )
        sys.stdout.flush()
        return
    if result.stopped is Stopped.SURE:
        out("sure enough: no further trial is worth it")
    if result.stopped is Stopped.EXHAUSTED:
        out("nothing is left inside the budget that was not tried")
    stopped = f"{result.pruned} stopped at a rung, " if record.spec.get("rungs") else ""
    out(
        f"search {record.name}: {result.complete} trials complete, {stopped}{result.failed} failed, "
        f"{result.seconds:.0f} s in this run"
    )
    if best is not None:
        latency = "" if best["predicted_ms"] is None else f", predicted {short(best['predicted_ms'], 'ms')}"
        out(
            f"best: trial {best['number']}, accuracy {100 * best['accuracy']:.2f} %, "
            f"{short(best['flops'])} multiply-adds, {short(best['params'])} parameters{latency}"
        )
        out(f"encoding: {best['encoding']}")
    if result.beliefs is not None:
        out(
            f"recommended: trial {result.beliefs.recommended}; the best network of all is expected to be "
            f"{100 * result.beliefs.expected_regret:.2f} points better"
        )
    if record.spec.get("front") and best is not None:
        out(f"the front: nas searches front {record.name}")


def _print_estimate(estimate: dict[str, Any], spec: SearchSpec, *, as_json: bool) -> None:
    if as_json:
        print_json({**estimate, "trials": spec.trials, "parallel": spec.parallel})
        return
    timed = ", ".join(f"{seconds:.1f}" for seconds in estimate["trial_seconds"])
    out(
        f"{spec.trials} trials, {spec.parallel} at once, about {estimate['seconds_per_trial']:.1f} s each "
        f"(candidates timed: {timed} s): about {estimate['hours']:.2f} hours"
        + (", at most: rungs stop the worse trials before their end" if spec.rungs else "")
    )
