"""The job that exports a search's winner: every file of the bundle, and all of them in one archive."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from api.compose import reopen
from api.finals.deliver import describe_export, export_winner
from api.finals.winner import choose_trial, train_winner
from api.jobs.context import JobContext
from api.results.artifacts import media_type
from nas.evaluator import Progress

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can tell: equal files make equal archives."""
_MODE: Final = 0o644


def run(context: JobContext) -> dict[str, Any]:
    """Export what the spec (`api.schemas.jobs.ExportRequest`) asks for.

    Returns:
        What `nas export --json` prints, with `archive`, the artifact that holds all files, in place of `folder`.

    Raises:
        Interrupted: it was to stop while it trained; run again, it goes on from the checkpoint.
    """
    store, spec = context.store, context.spec
    record = store.searches.by_id(context.search_id())
    plan = reopen(store, record)
    trial = choose_trial(store, record, spec["trial"])

    def report(at: Progress) -> None:
        context.progress(at.step, at.steps, f"train trial {trial.number} to the end")

    given = {name: spec[name] for name in ("epochs", "threads") if spec[name] is not None}
    winner = train_winner(store, record, plan, trial, options=given, report=report)
    context.progress(0, 0, "write the files and check them")
    archive = f"{record.name}.zip"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / record.name
        bundle = export_winner(store, record, plan, winner, folder, license_name=spec["license"])
        total = len(bundle.files) + 1
        for number, name in enumerate(bundle.files):
            context.progress(number, total, "keep the files")
            context.keep(folder / name, name, media_type(name))
        _zip(folder, bundle.files, Path(temporary) / archive)
        context.keep(Path(temporary) / archive, archive, media_type(archive))
    context.progress(total, total, "keep the files")
    return {**describe_export(record, winner, bundle), "archive": archive}


def _zip(folder: Path, names: Iterable[str], to: Path) -> None:
    """Puts files of a folder into an archive, below the folder's name."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(names):
            entry = zipfile.ZipInfo(f"{folder.name}/{name}", _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _MODE << 16
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target)
