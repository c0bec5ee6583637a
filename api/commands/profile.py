"""`nas profile`: the one measurement a board needs per space."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from api.commands.output import (
    AcceptOption,
    ChannelsOption,
    ClassesOption,
    JsonFlag,
    ResolutionOption,
    SpaceOption,
    out,
    print_json,
    progress_bar,
    say,
)
from api.store import Store
from latency.profiler import Profile
from latency.rounds import Progress as Visits
from nas.spaces import build_space


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(profile)


class VisitsBar:
    """Shows a measurement's visits on a progress bar."""

    def __init__(self, bar: Progress, description: str) -> None:
        self._bar = bar
        self._task: TaskID = bar.add_task(description, total=None)

    def __call__(self, visits: Visits) -> None:
        """Takes over where the measurement stands."""
        self._bar.update(self._task, completed=visits.visits_done, total=visits.visits)


def describe_profile(profile: Profile) -> dict[str, Any]:
    """A profile's summary as JSON types."""
    calibration = profile.table.calibration
    return {
        "board": profile.table.identity.board,
        "table": profile.table.digest,
        "spaces": [mark.name for mark in profile.table.provenance.spaces],
        "ops": profile.ops,
        "cover_networks": profile.networks,
        "passes": profile.passes,
        "seconds": profile.seconds,
        "spread_pct": profile.spread_pct,
        "stamp_us": profile.stamp_us,
        "scale": calibration.scale,
        "calibration_networks": calibration.networks,
        "error_pct": calibration.error_pct,
        "split_half_pct": calibration.split_half_pct,
        "deterministic": profile.deterministic,
        "skipped": list(profile.skipped),
    }


def print_profile(profile: Profile) -> None:
    """A profile's summary for people."""
    about = describe_profile(profile)
    noise = (
        "" if about["split_half_pct"] is None else f" (the measurement's own noise: {about['split_half_pct']:.1f} %)"
    )
    out(
        f"{about['ops']} ops in {about['cover_networks']} cover networks, {about['passes']} passes, "
        f"{about['seconds']:.1f} s of board time; median spread of an op {about['spread_pct']:.1f} %"
    )
    out(
        f"calibrated on {about['calibration_networks']} whole networks: scale {about['scale']:.3f}, mean error "
        f"{about['error_pct']:.1f} %{noise}"
    )
    for line in profile.skipped:
        out(f"skipped: {line}")
    out(f"latency table {about['table'][:12]} of board {about['board']} is stored")


def profile(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="The board's name.")],
    space: SpaceOption,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    passes: Annotated[
        int | None, typer.Option(min=1, help="Passes over all networks; default: as many as it needs.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the calibration networks and the shuffles.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Drop what an interrupted profile has measured.")] = False,
    accept: AcceptOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure a space's ops on a board: the one thing to do per board and space. Ctrl-C or a cut link lose nothing.

    Example: nas profile pi4 --space light-nas --resolution 96

    Every pass is saved as it ends; the same command goes on with an unfinished profile.
    """
    from api.boards import profile_space, reach

    built = build_space(space, resolution=resolution, classes=classes, channels=channels)
    with Store.open() as store:
        target = store.boards.get(board)

        def begin(networks: int, done: int) -> None:
            say(f"{built.name} on {board}: {networks} networks a pass" + (f", {done} passes resumed" if done else ""))

        try:
            with reach(target, accept_new_host_key=accept) as reached, progress_bar() as bar:
                result = profile_space(
                    store,
                    reached,
                    built,
                    passes=passes,
                    seed=seed,
                    fresh=fresh,
                    command=shlex.join(["nas", *sys.argv[1:]]),
                    on_start=begin,
                    on_progress=VisitsBar(bar, f"profile {board}"),
                )
        except KeyboardInterrupt:
            again = shlex.join([a for a in sys.argv[1:] if a != "--fresh"])
            say(f"stopped; every finished pass is saved. Go on with: nas {again}")
            raise typer.Exit(130) from None
    if as_json:
        print_json(describe_profile(result))
    else:
        print_profile(result)
