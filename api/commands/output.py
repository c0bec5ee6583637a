"""What every command shares: options, JSON on stdout, everything else readable."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from api.redaction import visible

_WIDE = 400

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; progress stays on stderr.")]
SpaceOption = Annotated[
    str, typer.Option("--space", "-s", metavar="SPACE", help="A search space's name (`nas spaces`) or a YAML file.")
]
ResolutionOption = Annotated[
    list[int] | None,
    typer.Option("--resolution", metavar="PIXELS", help="Picture side; repeat it to search over several."),
]
ClassesOption = Annotated[int | None, typer.Option("--classes", metavar="N", help="Classes of the classifier.")]
ChannelsOption = Annotated[int | None, typer.Option("--channels", metavar="N", help="Input channels (1 or 3).")]
LatencyBoardOption = Annotated[
    str | None, typer.Option("--board", help="Board whose latency counts; its newest fitting table is used.")
]
LatencyTableOption = Annotated[
    str | None, typer.Option("--table", help="A certain latency table: its digest, or the beginning.")
]
LatencyBudgetOption = Annotated[float | None, typer.Option("--latency-ms", help="Largest latency in ms.")]
FlopsBudgetOption = Annotated[float | None, typer.Option("--flops", help="Most multiply-adds at batch 1.")]
ParamsBudgetOption = Annotated[float | None, typer.Option("--params", help="Most parameters.")]
ModelSizeBudgetOption = Annotated[
    float | None, typer.Option("--model-mb", help="Largest size of the weights in MB (10^6 bytes), fp32.")
]
PeakMemoryBudgetOption = Annotated[
    float | None,
    typer.Option("--peak-memory-mb", help="Most MB of activations alive at once, fp32; weights are not in it."),
]
ConfidenceOption = Annotated[
    float | None,
    typer.Option(
        "--confidence", help="That a network keeps --latency-ms when measured; default: 0.95. 0.5: as predicted."
    ),
]

AcceptOption = Annotated[
    bool, typer.Option("--accept-new-host-key", help="Trust an unknown SSH host key, this once, and remember it.")
]


def one_line(text: str) -> str:
    """The text with every line break and run of blanks made one blank."""
    return " ".join(text.split())


def printable(text: object) -> Text:
    """What others wrote, for a terminal: no markup, and whatever would steer it written as escapes."""
    return Text("\n".join(map(visible, str(text).split("\n"))))


def stdout_console() -> Console:
    """For what a person asked to see; wide where nobody looks at a screen."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def out(text: str = "") -> None:
    """A line for people on stdout."""
    stdout_console().print(printable(text), soft_wrap=True)


def stderr_console() -> Console:
    """For progress and remarks."""
    return Console(file=sys.stderr, highlight=False)


def print_json(value: Any) -> None:
    """One JSON value on one line of stdout."""
    print(json.dumps(value, default=str))


def say(text: str, *, quiet: bool = False) -> None:
    """A remark on stderr; nothing with `quiet`."""
    if not quiet:
        stderr_console().print(printable(text), soft_wrap=True)


def print_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; columns whose name begins with `>` are aligned right; texts are shown as they are."""
    table = Table(
        title=None if title is None else printable(title),
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(printable(column.lstrip(">")), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*("" if v is None else printable(v) for v in row))
    stdout_console().print(table)


def short(value: float, unit: str = "") -> str:
    """A number as people write it: 300.8 M, 3.2 ms."""
    if unit == "ms":
        return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g} {letter}"
    return f"{value:.4g}"


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress display on stderr, with the time left."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=stderr_console(),
    ) as progress:
        yield progress
