"""`nas demo`: the whole way on this machine, in a few minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table

from api.commands.export import EpochsBar
from api.commands.live import SearchView
from api.commands.output import JsonFlag, print_json, progress_bar, say, short, stderr_console, stdout_console
from api.commands.profile import VisitsBar, say_waiting
from api.store import Store
from latency.link import WaitSink
from latency.passes import ProgressSink
from nas.evaluator import Progress
from nas.search import SearchEvent


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


class ConsoleView:
    """Shows the demo on stderr."""

    def __init__(self) -> None:
        self._steps = 0

    def step(self, text: str) -> None:
        """A step begins."""
        self._steps += 1
        stderr_console().print(f"\n[bold cyan]{self._steps}[/] {text}", soft_wrap=True)

    def note(self, text: str) -> None:
        """Something worth telling."""
        stderr_console().print(f"  {text}", soft_wrap=True, markup=False)

    def waiting(self, board: str) -> WaitSink:
        """Told, now and then, that the board is waited for."""
        return say_waiting(board)

    @contextmanager
    def visits(self, text: str) -> Iterator[ProgressSink]:
        """A bar for measurements."""
        with progress_bar() as bar:
            yield VisitsBar(bar, text)

    @contextmanager
    def trials(self, total: int, done: int) -> Iterator[Callable[[SearchEvent], None]]:
        """A running table of trials."""
        with progress_bar() as bar:
            yield SearchView(bar, total, done=done)

    @contextmanager
    def epochs(self, text: str) -> Iterator[Callable[[Progress], None]]:
        """A bar for a training."""
        with progress_bar() as bar:
            yield EpochsBar(bar, text)


def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder for the winner.")] = Path("lightnas-demo"),
    trials: Annotated[int, typer.Option(min=1, help="Networks to train.")] = 16,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs a trial.")] = 6,
    as_json: JsonFlag = False,
) -> None:
    """Do everything once on this machine: profile it, search, train, verify and export. A few minutes.

    Example: nas demo --to ./winner

    A second run uses the same latency table; an interrupted one goes on.
    """
    from api.demo import Interrupted, run_demo
    from api.export.bundle import check_target

    check_target(to)
    with Store.open() as store:
        try:
            done = run_demo(store, to, ConsoleView(), trials=trials, epochs=epochs)
        except (KeyboardInterrupt, Interrupted):
            say("stopped; everything finished is saved. Go on with: nas demo")
            raise typer.Exit(130) from None
        database = store.database.label
    if as_json:
        print_json(done)
    else:
        _summary(done, to, database)


def _summary(done: dict[str, Any], folder: Path, database: str) -> None:
    best, seconds = done["best"], done["seconds"]
    table = Table.grid(padding=(0, 2))
    for line in (
        ("network", best["encoding"]),
        (
            "test accuracy",
            f"[bold green]{100 * best['test_accuracy']:.2f} %[/] (in the search {100 * best['accuracy']:.2f} %)",
        ),
        ("budget", f"{done['budget_ms']:.3f} ms on {done['board']}"),
        ("measured", f"[bold green]{best['measured_ms']:.3f} ms[/] (predicted {best['predicted_ms']:.3f} ms)"),
        ("size", f"{short(best['flops'])} multiply-adds, {short(best['params'])} parameters"),
        ("trials", f"{done['trials']} real trainings on digits"),
        (
            "latency table",
            f"{done['ops']} ops from {done['cover_networks']} networks, error {done['table_error_pct']:.1f} %",
        ),
        ("time", ", ".join(f"{k} {v:.0f} s" for k, v in seconds.items())),
        ("files", f"{folder.absolute()} (README.md is the model card)"),
        ("database", database),
    ):
        table.add_row(*line)
    console = stdout_console()
    console.print()
    console.print(Panel(table, title="lightnas demo", title_align="left", expand=False))
    console.print(
        "\nWith a real board:\n"
        "  nas boards add pi4 pi@raspberrypi.local     # SSH keys as usual; nas boards check pi4\n"
        "  nas profile pi4 --space light-nas --resolution 96 --classes 10\n"
        "  nas search --space light-nas --resolution 96 --board pi4 --latency-ms 30 --data folder:PICTURES\n"
        "  nas train SEARCH --seeds 3; nas export SEARCH --to ./winner; nas verify ./winner --accuracy",
        markup=False,
    )
