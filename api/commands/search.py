"""`nas search`: run a search here, to its end or until it is stopped; go on with one."""

from __future__ import annotations

import signal
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
    ModelSizeBudgetOption,
    ParamsBudgetOption,
    PeakMemoryBudgetOption,
    ResolutionOption,
    out,
    print_json,
    progress_bar,
    say,
)
from api.commands.remote import DetachFlag, ServerOption, check_named, need_server, refuse
from api.commands.told import describe_aims, print_result, store_names
from api.errors import OptionError
from api.plans.spec import SearchSpec, absolute_data, check_name, parse_options
from api.store import Store
from api.store.searches import SearchRecord
from api.submit.searches import Asked, plan_search
from nas.objective import MNASNET_EXPONENT
from nas.search import Stopped
from nas.spaces.recipe import SpaceSpec

_RESUMABLE = ("--resume", "--trials", "--stop-when", "--max-hours", "--json", "--server", "--detach")
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
    model_mb: ModelSizeBudgetOption = None,
    peak_memory_mb: PeakMemoryBudgetOption = None,
    strategy: Annotated[
        str, typer.Option(help="guided, annealing, random, tpe, nsga2, gp, or a plug-in's.")
    ] = "guided",
    chains: Annotated[int | None, typer.Option(min=1, help="annealing: chains at most (default: 4).")] = None,
    start: Annotated[str | None, typer.Option(help="annealing: the first encoding.")] = None,
    t0: Annotated[float | None, typer.Option("--t0", help="annealing: first temperature; default: calibrated.")] = None,
    theta: Annotated[float | None, typer.Option(help="annealing: the temperature's factor per trial.")] = None,
    evaluator: Annotated[
        str, typer.Option(help="training, table, a plug-in's, or remote: clients of a server train.")
    ] = "training",
    data: Annotated[
        str | None,
        typer.Option(help="digits, cluttered-digits, folder:PATH, cifar10:PATH, npz:PATH; a CSV file for `table`."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="training: epochs a trial.")] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="training: weights every network starts from, where they fit: of torch, safetensors or an export.",
        ),
    ] = None,
    inherit: Annotated[
        bool, typer.Option("--inherit", help="training: start each trial from the weights of the one most like it.")
    ] = False,
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
            metavar="METRIC",
            help="guided: search the whole front of accuracy against latency_ms, flops, params, model_mb, "
            "peak_memory_mb.",
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
    server: ServerOption = None,
    detach: DetachFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Search the most accurate network inside a budget. Ctrl-C, a crash or a power cut lose nothing: --resume.

    Example: nas search --space light-nas --board pi4 --latency-ms 30 --flops 300e6 --data folder:~/pictures

    Example: nas search --resume search-1

    Example: nas search --server https://nas.example.org --space light-nas --board pi4 --data folder:flowers
    """
    need_server(server, detach)
    if max_hours is not None and not 0 < max_hours < 1e5:
        raise OptionError(f"--max-hours must be above 0, not {max_hours:g}")
    if resume is not None:
        _refuse_more(context)
    elif space is None:
        raise OptionError("name a search space with --space (nas spaces lists them), or a search with --resume")
    if name is not None:
        check_name(name)
    budgets = {
        "latency_ms": latency_ms,
        "flops": flops,
        "params": params,
        "model_mb": model_mb,
        "peak_memory_mb": peak_memory_mb,
    }
    asked: dict[str, Any] = {
        "board": board,
        "table": table,
        "budgets": _given(budgets),
        "strategy": strategy,
        "strategy_options": _given({"start": start, "t0": t0, "theta": theta, "chains": chains}),
        "evaluator": evaluator,
        "evaluator_options": parse_options(option or []),
        "epochs": epochs,
        "init": None if init is None else str(init),
        "inherit": inherit,
        "reward": reward,
        "reward_exponent": reward_exponent,
        "confidence": confidence,
        "rungs": _rungs(rungs),
        "eta": eta,
        "front": front,
        "stop_when": stop_when,
        "earlier": earlier,
        "trials": trials,
        "parallel": parallel,
        "seed": seed,
    }
    if server is not None:
        from api.commands.watch import resume_there, search_there

        refuse(context, "max_hours", "dry_run")
        if resume is not None:
            resume_there(server, resume, trials=trials, stop_when=stop_when, detach=detach, as_json=as_json)
            return
        check_named(space, server)
        asked |= {"space": space, "resolution": resolution, "classes": classes, "channels": channels, "data": data}
        search_there(server, {**asked, "name": name}, detach=detach, as_json=as_json)
        return
    from api.compose import create_search, estimate_hours
    from api.plans.checkpoints import describe_init
    from api.plans.checks import check_evaluator

    with Store.open() as store:
        if resume is not None:
            record = _resumed(store, resume, _given({"trials": trials, "stop_when": stop_when}))
            run_here(store, record, max_hours=max_hours, as_json=as_json)
            return
        if data is not None:
            data = str(Path(data).expanduser().absolute()) if evaluator == "table" else absolute_data(data)
        recipe = SpaceSpec.of(space or "", tuple(resolution or ()), classes, channels)
        plan, for_board = plan_search(store, Asked(space=recipe, data=data, **asked))
        if dry_run:
            check_evaluator(plan, store.settings)
            _print_estimate(estimate_hours(plan, store.settings), plan.spec, as_json=as_json)
            return
        record = create_search(store, plan, board=for_board, name=name)
        told = describe_init(plan)
        if told is not None:
            say(told)
        run_here(store, record, max_hours=max_hours, as_json=as_json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}


def _rungs(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(step) for step in text.split(","))
    except ValueError:
        raise OptionError(f"--rungs is {text!r}; it must be epochs joined by commas, e.g. 2,4") from None


def _refuse_more(context: typer.Context) -> None:
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.opts[0] not in _RESUMABLE:
            raise OptionError(
                f"--resume goes on with a search as it was asked; {parameter.opts[0]} cannot change "
                f"({', '.join(_RESUMABLE[1:4])} can)"
            )


def _resumed(store: Store, name: str, changes: dict[str, Any]) -> SearchRecord:
    record = store.searches.get(name)
    wanted = {**record.spec, **changes}
    if wanted != record.spec:
        SearchSpec.from_dict(wanted)  # tells what cannot be
        store.searches.set_spec(record.id, wanted)
    return store.searches.by_id(record.id)


def run_here(store: Store, record: SearchRecord, *, max_hours: float | None = None, as_json: bool = False) -> None:
    """Run a stored search in this process, show it, print what it came to."""
    from api.compose import run_search

    again = f"go on with: nas search --resume {record.name}"
    terminated = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    try:
        aims = "".join(f"; {name} {text}" for name, text in describe_aims(store_names(store), record.spec))
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
            result = run_search(
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
    print_result(record, result, as_json=as_json)
    if result.stopped in (Stopped.INTERRUPTED, Stopped.STOPPED):
        say(f"stopped; every finished trial and checkpoint is saved. {again.capitalize()}")
        raise typer.Exit(130 if result.stopped is Stopped.INTERRUPTED else 143)
    if result.stopped is Stopped.TIME:
        say(f"the time is up. {again.capitalize()}")


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
