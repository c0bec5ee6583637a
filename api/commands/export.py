"""`nas export`: the winner, ready to be used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress as Bars

from api.commands.output import JsonFlag, out, print_json, progress_bar, say
from api.commands.remote import ServerOption, connect, follow, request
from api.commands.remote_files import fetch
from api.schemas.jobs import ExportRequest
from api.store import Store
from api.store.searches import SearchRecord
from nas.evaluator import Progress


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


class EpochsBar:
    """Shows a training's epochs."""

    def __init__(self, bar: Bars, description: str) -> None:
        self._bar, self._task = bar, bar.add_task(description, total=None)

    def __call__(self, progress: Progress) -> None:
        """Takes over where the training stands."""
        self._bar.update(self._task, completed=progress.step, total=progress.steps)


def _say_since(store: Store, record: SearchRecord) -> None:
    """The search may have gone on after its final."""
    known = record.winner or {}
    since = sum(store.searches.counts(record.id).values()) - known.get("trials", 0)
    if "report" in known and since > 0:
        say(f"{since} trials were made since the final that chose the winner; nas train {record.name} holds another")


def export(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="The search's name or number.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write: new, empty, or an earlier export.")],
    trial: Annotated[int | None, typer.Option(min=0, help="Another trial than the winner.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train it now, for so long (default: as it was trained last, else 60).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="CPU threads, if it has to be trained now (default: 1).")
    ] = None,
    license_name: Annotated[str, typer.Option("--license", help="Licence named in the model card.")] = "other",
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the winner as torch state, ONNX and ncnn with a model card and programs that run it.

    Example: nas export search-1 --to ./winner

    The winner is the network that `nas train` chose, with its weights; without that, the one the search recommends,
    trained to the end now, if it has not been. The exported forms are run on real pictures and must agree with torch to
    0.001, or nothing is written. Stopped, the training goes on where it was.
    """
    from api.compose import reopen
    from api.export.bundle import check_target
    from api.finals.deliver import describe_export, export_winner
    from api.finals.winner import choose_trial, train_winner

    check_target(to)
    if server is not None:
        given = {"search": search, "trial": trial, "epochs": epochs, "threads": threads, "license": license_name}
        _show(_export_there(server, to, given), to, as_json=as_json)
        return
    options = {} if threads is None else {"threads": threads}
    with Store.open() as store:
        record = store.searches.get(search)
        plan = reopen(store, record)
        best = choose_trial(store, record, trial)
        _say_since(store, record)
        try:
            with progress_bar() as bar:
                winner = train_winner(
                    store,
                    record,
                    plan,
                    best,
                    options=options if epochs is None else {**options, "epochs": epochs},
                    report=EpochsBar(bar, f"train trial {best.number} to the end"),
                )
        except KeyboardInterrupt:
            say("stopped; the training's checkpoint is saved. Go on with the same command")
            raise typer.Exit(130) from None
        bundle = export_winner(store, record, plan, winner, to, license_name=license_name)
    _show(describe_export(record, winner, bundle), bundle.folder, as_json=as_json)


def _export_there(server: str, to: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Have a server export, and download what it wrote."""
    with connect(server) as client:
        job = client.export(request(ExportRequest, **given))
        told = follow(client, job, detach=False, as_json=False) or {}
        files = [file for file in client.artifacts(job=job.id) if file.name in told["files"]]
        fetch(client, files, to)
    return told


def _show(about: dict[str, Any], folder: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**about, "folder": str(folder.absolute())})
        return
    out(
        f"trial {about['trial']} of {about['search']}: test accuracy {100 * about['test_accuracy']:.2f} %, trained "
        f"{about['epochs']} epochs on {about['pictures']} pictures"
    )
    out(f"torch, onnxruntime and ncnn agree to {max(about['differences'].values()):.1e} on real pictures")
    for name in about["files"]:
        out(f"  {folder / name}")
