"""A search on the screen: a row per finished trial, bars for those running."""

from __future__ import annotations

from collections.abc import Mapping

from rich.progress import Progress, TaskID
from rich.text import Text

from api.commands.output import printable, short
from nas.search import SearchEvent, TrialEnded, TrialStarted, TrialStep
from nas.trial import Trial, TrialState

_COLUMNS = (("trial", 6), ("accuracy", 10), ("latency", 10), ("MACs", 9), ("params", 9), ("seconds", 8))


class SearchView:
    """Shows a search's events. Rows are printed above the bars, so they stay when the bars go.

    Args:
        bar: where to draw.
        trials: how many there will be.
        done: how many there are already.
        best: the highest accuracy so far.
    """

    def __init__(self, bar: Progress, trials: int, *, done: int = 0, best: float | None = None) -> None:
        self._bar, self._best = bar, best
        self._whole = bar.add_task("search", total=trials, completed=done)
        self._running: dict[int, TaskID] = {}
        head = "".join(f"{name:>{width}}" for name, width in _COLUMNS)
        bar.console.print(Text(head + "  encoding", style="bold"), soft_wrap=True)

    def __call__(self, event: SearchEvent) -> None:
        """Draw an event."""
        if isinstance(event, TrialStarted):
            missed = event.trial.attrs.get("expected_regret")
            if missed is not None:
                self._bar.update(self._whole, description=f"search, {100 * missed:.2f} points expected to be missed")
            label = f"  trial {event.trial.number}" + (" (resumed)" if event.resumed else "")
            self._running[event.trial.number] = self._bar.add_task(label, total=None)
        elif isinstance(event, TrialStep):
            step = event.progress
            self._bar.update(self._running[event.number], completed=step.step, total=step.steps)
        elif isinstance(event, TrialEnded):
            self._bar.remove_task(self._running.pop(event.trial.number))
            self._bar.advance(self._whole)
            self._print(event.trial)

    def _print(self, trial: Trial) -> None:
        if trial.state is TrialState.FAILED:
            told = printable(f"{trial.number:>6}  failed: {trial.error}")
            told.stylize("red")
            self._bar.console.print(told, soft_wrap=True)
            return
        accuracy, stopped = trial.accuracy or 0.0, trial.pruned_at
        better = stopped is None and (self._best is None or accuracy > self._best)
        self._best = accuracy if better else self._best
        remark = "  best" if better else "" if stopped is None else f"  stopped after {stopped}"
        style = "green" if better else "" if stopped is None else "dim"
        cells = (str(trial.number), f"{100 * accuracy:.2f} %", *_costs(trial.costs), f"{trial.seconds:.1f}")
        line = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
        encoding = ",".join(map(str, trial.encoding))
        self._bar.console.print(Text(f"{line}  {encoding}{remark}", style=style), soft_wrap=True)


def _costs(costs: Mapping[str, float]) -> tuple[str, str, str]:
    latency = costs.get("latency_ms")
    return (
        "-" if latency is None else f"{latency:.3f} ms",
        short(costs["flops"]) if "flops" in costs else "-",
        short(costs["params"]) if "params" in costs else "-",
    )
