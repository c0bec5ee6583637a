"""`nas export`: the winner, ready to be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress as Bars

from api.commands.output import JsonFlag, out, print_json, progress_bar, say
from api.errors import NotFound, OptionError
from api.store import Store
from nas.evaluator import Progress
from nas.trial import TrialState


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


def export(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="The search's name or number.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write: new, empty, or an earlier export.")],
    trial: Annotated[int | None, typer.Option(min=0, help="Another trial than the best.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of the final training (default: as one made before, else 20).")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads of the final training.")] = 1,
    license_name: Annotated[str, typer.Option("--license", help="Licence named in the model card.")] = "other",
    as_json: JsonFlag = False,
) -> None:
    """Train the winner to the end, test it once, and write it as torch state, ONNX and ncnn with a model card.

    Example: nas export search-1 --to ./winner

    The exported forms are run on real pictures and must agree with torch to 0.001, or nothing is written. Stopped, the
    training goes on where it was.
    """
    from api.compose import pick_trial, reopen, train_winner
    from api.deliver import export_winner, remember_training
    from api.export import check_target

    check_target(to)
    with Store.open() as store:
        record = store.searches.get(search)
        plan = reopen(store, record)
        best = pick_trial(store, record)
        if trial is not None:
            page = store.searches.log(record.id).load()
            found = next((t for t in page if t.number == trial), None)
            if found is None:
                raise NotFound(f"search {record.name!r} has no trial {trial}")
            if found.state is not TrialState.COMPLETE:
                raise OptionError(f"trial {trial} of {record.name!r} is {found.state.value}; choose a complete one")
            best = found
        try:
            with progress_bar() as bar:
                winner = train_winner(
                    store,
                    record,
                    plan,
                    best,
                    epochs=epochs,
                    threads=threads,
                    report=EpochsBar(bar, f"train trial {best.number} to the end"),
                )
        except KeyboardInterrupt:
            say("stopped; the training's checkpoint is saved. Go on with the same command")
            raise typer.Exit(130) from None
        remember_training(store, record, winner)
        bundle = export_winner(store, record, plan, winner, to, license_name=license_name)
    if as_json:
        print_json(
            {
                "search": record.name,
                "trial": best.number,
                "test_accuracy": winner.model.test_accuracy,
                "folder": str(bundle.folder.absolute()),
                "files": bundle.files,
                "differences": bundle.differences,
            }
        )
        return
    out(
        f"trial {best.number} of {record.name}: test accuracy {100 * winner.model.test_accuracy:.2f} %, trained "
        f"{winner.epochs} epochs on {winner.model.pictures} pictures"
    )
    worst = max(bundle.differences.values())
    out(f"torch, onnxruntime and ncnn agree to {worst:.1e} on real pictures")
    for name in bundle.files:
        out(f"  {bundle.folder / name}")
