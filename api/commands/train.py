"""`nas train`: the best networks of a search, and the obvious choices beside them, trained to the end and compared."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress as Bars
from rich.progress import TaskID

from api.client import Client, ServerError
from api.commands.output import (
    AcceptOption,
    JsonFlag,
    out,
    print_json,
    print_table,
    printable,
    progress_bar,
    say,
    short,
)
from api.commands.profile import VisitsBar, say_waiting
from api.commands.remote import DetachFlag, ServerOption, connect, follow, need_server, refuse, request
from api.errors import OptionError
from api.plans.spec import absolute_data, parse_options
from api.schemas.jobs import TrainRequest
from api.store import Store
from latency.link import PatientLink
from latency.passes import ProgressSink

if TYPE_CHECKING:
    from api.finals.train import FinalEvent


_OWN_OPTIONS = {
    "init": "--init",
    "init_digest": "--init",
    "teacher": "--teacher",
    "teacher_digest": "--teacher",
    "inherit": "nas search --inherit",
    "cache_dir": "LIGHTNAS_HOME",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    context: typer.Context,
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="The search's name or number.")],
    top: Annotated[int, typer.Option(min=1, max=100, help="So many of the search's best networks.")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each training (default: 60).")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each network, to know their spread.")] = 1,
    baselines: Annotated[
        int,
        typer.Option(min=0, max=1000, help="So many MobileNetV2 and so many ShuffleNetV2 that fit the same budgets."),
    ] = 3,
    measure: Annotated[
        bool, typer.Option(help="Run the networks on the search's board first; who breaks the budget there is out.")
    ] = True,
    init: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Weights to start from, where they fit.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT|SEARCH", help="Learn from this network's answers, too (distillation)."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="Of the training: lr, ema, augment, distil, …"),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=1024, help="Trainings at once.")] = 1,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs that share each training.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads of each training.")] = None,
    passes: Annotated[
        int | None, typer.Option(min=1, help="Runs of each network on the board; default: as many as it needs.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the learning curves of all trainings.")
    ] = None,
    accept: AcceptOption = False,
    server: ServerOption = None,
    detach: DetachFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a search's best networks to the end, with the obvious choices beside them, and choose the winner.

    Example: nas train flowers --top 5 --epochs 120 --seeds 3

    Example: nas train flowers --teacher big-search --init earlier-winner/

    All networks are first run on the board, interleaved. Among the search's networks that keep the budget there, the
    one of the highest validation accuracy wins; it and the baselines are then tested. Every training resumes where it
    stopped, with the same command.
    """
    need_server(server, detach)
    asked = _options(option, {"device": device, "gpus": gpus, "threads": threads})
    if server is not None:
        refuse(context, "curves", "accept")
        given = {"search": search, "top": top, "epochs": epochs, "seeds": seeds, "baselines": baselines}
        given |= {"measure": measure, "init": None if init is None else str(init), "options": asked}
        given |= {"parallel": parallel, "passes": passes}
        with connect(server) as client:
            job = client.train(request(TrainRequest, **given, **_teacher_there(client, teacher)))
            told = follow(client, job, detach=detach, as_json=as_json)
        if told is not None:
            _tell(told, as_json=as_json)
        return
    from api.compose import reopen
    from api.finals.final import final_curves, run_final
    from api.finals.spec import BASELINES, FinalSpec
    from api.finals.teachers import teacher_options
    from api.finals.train import Stopped
    from api.plans.checkpoints import pin

    if curves is not None and not curves.parent.is_dir():
        raise OptionError(f"{curves.parent} is no folder; --curves names a file in one that exists")
    terminated = threading.Event()

    def terminate(*_: object) -> None:
        terminated.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with Store.open() as store, contextlib.ExitStack() as stack:
            record = store.searches.get(search)
            plan = reopen(store, record)
            options = asked if epochs is None else {**asked, "epochs": epochs}
            if "data" in options:
                options["data"] = absolute_data(str(options["data"]))
            options |= {} if init is None else pin("init", init)
            options |= teacher_options(store, teacher, record)
            link = None
            if measure and record.board is not None and plan.table is not None:
                board = store.boards.get(record.board)
                link = stack.enter_context(
                    PatientLink(board, accept_new_host_key=accept, on_wait=say_waiting(board.name))
                )
            families = BASELINES if baselines else ()
            spec = FinalSpec(top, seeds, families, max(1, baselines), options, parallel, passes)
            try:
                final = run_final(store, record, plan, spec, link, _View())
            except (Stopped, KeyboardInterrupt):
                say("stopped; every finished training and checkpoint is saved. Go on with the same command")
                raise typer.Exit(143 if terminated.is_set() else 130) from None
            if curves is not None:
                curves.write_text(final_curves(store, record, final), encoding="utf-8")
    finally:
        signal.signal(signal.SIGTERM, before)
    _tell({"search": record.name, **final.report}, as_json=as_json)


def _options(pairs: list[str] | None, others: Mapping[str, Any]) -> dict[str, Any]:
    """Of the trainings, as given by --option and by options of their own."""
    options = parse_options(pairs or [])
    for name in options:
        if name in _OWN_OPTIONS:
            raise OptionError(f"-o {name}: say it with {_OWN_OPTIONS[name]}")
    return options | {name: value for name, value in others.items() if value is not None}


def _teacher_there(client: Client, teacher: str | None) -> dict[str, Any]:
    """A search of the server, or else a checkpoint below its data root."""
    if teacher is None:
        return {}
    try:
        return {"teacher_search": client.search(teacher).name}
    except ServerError as e:
        if e.status != 404:
            raise
        return {"teacher": teacher}


def _tell(about: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(about)
        return
    show_report(about)
    out(f"take it home: nas export {about['search']} --to ./{about['search']}-net")


class _View:
    """A final on the screen."""

    def note(self, text: str) -> None:
        """On stderr, like all progress."""
        say(text)

    @contextlib.contextmanager
    def visits(self, text: str) -> Iterator[ProgressSink]:
        """A bar of visits."""
        with progress_bar() as bar:
            yield VisitsBar(bar, text)

    @contextlib.contextmanager
    def trainings(self, total: int) -> Iterator[Callable[[FinalEvent], None]]:
        """A row per finished training, bars for those running."""
        with progress_bar() as bar:
            yield _TrainingsView(bar, total)


class _TrainingsView:
    def __init__(self, bar: Bars, total: int) -> None:
        self._bar, self._running = bar, dict[str, TaskID]()
        self._whole = bar.add_task("train", total=total)

    def __call__(self, event: FinalEvent) -> None:
        training = event.training
        label = f"{training.contestant.label}, seed {training.seed}"
        if event.progress is not None:
            if training.key not in self._running:
                self._running[training.key] = self._bar.add_task(f"  {label}", total=event.progress.steps)
            told = f"  {label}, {100 * event.progress.metrics.get('val_accuracy', 0):.1f} %"
            self._bar.update(self._running[training.key], completed=event.progress.step, description=told)
            return
        if training.key in self._running:
            self._bar.remove_task(self._running.pop(training.key))
        self._bar.advance(self._whole)
        if training.evaluation is None:
            failed = printable(f"{label}: failed: {training.error}")
            failed.stylize("red")
            self._bar.console.print(failed, soft_wrap=True)
            return
        init = training.evaluation.extras.get("init")
        began = f", began with {100 * init['share']:.0f} % of its weights known" if init else ""
        text = f"{label}: validation {100 * training.evaluation.accuracy:.2f} %, {training.seconds:.0f} s{began}"
        self._bar.console.print(printable(text), soft_wrap=True)


def show_report(report: dict[str, Any]) -> None:
    """A final's report for people."""
    from api.export.card import points
    from api.finals.report import spread

    rows = []
    for n in report["networks"]:
        latency = n["measured_ms"] if n["measured_ms"] is not None else n["predicted_ms"]
        better = n["winner_is_better_by"]
        rows.append(
            (
                f"{n['label']}{'  WINNER' if n['role'] == 'winner' else ''}",
                "-" if latency is None else f"{latency:.4g}",
                short(n["flops"]),
                short(n["params"]),
                spread(n["val_accuracies"]),
                spread(n["test_accuracies"]),
                "" if better is None else points(better),
            )
        )
    heads = ("network", ">ms", ">multiply-adds", ">parameters", ">validation %", ">test %", ">winner better by")
    print_table(None, heads, rows)
    comparison = report["comparison"]
    if comparison is None:
        return
    words = {
        "wins": "the winner beats the best baseline, {}, by {} points of test accuracy",
        "level": "the winner and the best baseline, {}, are level: {} points of test accuracy apart",
        "loses": "the winner does NOT beat the best baseline, {}: {} points of test accuracy",
        "one seed": "against the best baseline, {}: {} points of test accuracy; one seed tells nothing of the luck of "
        "trainings (--seeds 3)",
    }
    out("\n" + words[comparison["verdict"]].format(comparison["baseline"], points(comparison)))
    known = [n for n in report["networks"] if n["known_at_start"]]
    if known:
        shares = ", ".join(f"{n['label']} {100 * n['known_at_start']:.0f} %" for n in known)
        out(f"the initial weights gave, of their parameters: {shares}; of the other networks nothing")
