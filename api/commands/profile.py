"""`nas profile`: the one measurement a board needs per space."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from api.boards.measured import describe_profile
from api.commands.durations import parse_duration
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
from api.commands.remote import DetachFlag, ServerOption, connect, follow, need_server, refuse, request
from api.schemas.jobs import ProfileRequest
from api.store import Store
from latency.link import PatientLink, WaitSink
from latency.passes import Progress as Visits
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


def print_profile(about: Mapping[str, Any]) -> None:
    """A profile's summary (`api.boards.measured.describe_profile`) for people."""
    noise = (
        "" if about["split_half_pct"] is None else f" (the measurement's own noise: {about['split_half_pct']:.1f} %)"
    )
    out(
        f"{about['ops']} ops: {about['timed_ops']} timed now in {about['cover_networks']} cover networks, "
        f"{about['passes']} passes, {about['seconds']:.1f} s of board time; median spread of an op "
        f"{about['spread_pct']:.1f} %"
    )
    if about["estimated_ops"]:
        out(f"{about['estimated_ops']} ops are estimated from others: the time was up; the same command goes on")
    out(f"on {about['calibration_networks']} fresh networks, mean error {about['error_pct']:.1f} %{noise}")
    if about["interval_pct"]:
        low, high = about["interval_pct"]
        out(f"90 % of networks take {low:+.1f} to {high:+.1f} % of what is predicted")
    if about["drift_significant"]:
        out(f"the board drifted by {about['drift_pct']:+.1f} % meanwhile: is it getting warm, or does other work run?")
    for line in about["skipped"]:
        out(f"skipped: {line}")
    for reason, batches in about["disturbed"].items():
        out(f"disturbed {batches} time(s), and repeated as far as there was time: {reason}")
    out(f"latency table {about['table'][:12]} of board {about['board']} is stored")


def profile(
    context: typer.Context,
    board: Annotated[str, typer.Argument(metavar="BOARD", help="The board's name.")],
    space: SpaceOption,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    passes: Annotated[
        int | None, typer.Option(min=1, help="Passes over all networks; default: as many as it needs.")
    ] = None,
    networks: Annotated[
        int | None,
        typer.Option(min=4, max=1000, help="Fresh networks run whole, to fit and to judge predictions; default: 48."),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Measure no longer than this (e.g. 5m); the rest is estimated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the fresh networks and the shuffles.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Time every op again, and drop what an interrupted profile has measured.")
    ] = False,
    accept: AcceptOption = False,
    server: ServerOption = None,
    detach: DetachFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure a space's ops on a board: the one thing to do per board and space. Ctrl-C or a cut link lose nothing.

    Example: nas profile pi4 --space light-nas --resolution 96

    Example: nas profile pi4 --space light-nas --time-limit 5m

    Every pass is saved as it ends; the same command goes on with an unfinished profile. A board that has a table times
    only what is new.
    """
    from api.boards.tables import plan_profile, run_profile

    limit_s = None if time_limit is None else parse_duration(time_limit, "--time-limit")
    need_server(server, detach)
    if server is not None:
        refuse(context, "accept")
        made = {"space": space, "resolution": resolution, "classes": classes, "channels": channels}
        how = {"passes": passes, "networks": networks, "time_limit_s": limit_s, "seed": seed, "fresh": fresh}
        with connect(server) as client:
            job = client.profile(request(ProfileRequest, board=board, **made, **how))
            told = follow(client, job, detach=detach, as_json=as_json)
        if told is not None:
            _tell(told, as_json=as_json)
        return
    built = build_space(space, resolution=resolution, classes=classes, channels=channels)
    with Store.open() as store:
        target = store.boards.get(board)
        try:
            with (
                PatientLink(target, accept_new_host_key=accept, on_wait=say_waiting(board)) as link,
                progress_bar() as bar,
            ):
                plan = plan_profile(
                    store,
                    link,
                    built,
                    passes=passes,
                    seed=seed,
                    fresh=fresh,
                    resume=not fresh,
                    fresh_networks=networks,
                )
                new = plan.profiler.new_ops
                known = "" if plan.known is None else f"; {new} ops are new to table {plan.known.digest[:12]}"
                resumed = f", {plan.passes_done} saved passes resumed" if plan.passes_done else ""
                say(f"{built.name} on {board}: {plan.profiler.networks} networks a pass{resumed}{known}")
                result = run_profile(
                    store,
                    plan,
                    time_limit_s=limit_s,
                    command=shlex.join(["nas", *sys.argv[1:]]),
                    on_progress=VisitsBar(bar, f"profile {board}"),
                )
        except KeyboardInterrupt:
            again = shlex.join([a for a in sys.argv[1:] if a != "--fresh"])
            say(f"stopped; every finished pass is saved. Go on with: nas {again}")
            raise typer.Exit(130) from None
    _tell(describe_profile(result), as_json=as_json)


def _tell(about: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(about)
    else:
        print_profile(about)


def say_waiting(board: str) -> WaitSink:
    """Tells, once an outage and then now and then, that a board is waited for."""

    def tell(reason: str, waited_s: float) -> None:
        say(f"{board}: waiting for it, {waited_s:.0f} s so far ({reason})")

    return tell
