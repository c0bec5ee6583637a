"""The job that trains a search's best networks to the end, with the obvious choices beside them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from api.compose import reopen
from api.data.root import DataRoot
from api.finals.final import final_curves, run_final
from api.finals.spec import FinalSpec
from api.finals.teachers import search_teacher
from api.finals.train import FinalEvent, Stopped
from api.jobs.board import JobLink
from api.jobs.context import Interrupted, JobContext
from api.results.artifacts import media_type
from latency.passes import Progress, ProgressSink

_SPEC = ("top", "seeds", "per_family", "options", "parallel", "passes")


def run(context: JobContext) -> dict[str, Any]:
    """Hold the final that the spec (`api.schemas.jobs.TrainRequest`) asks for; keep its report and learning curves.

    Returns:
        What `nas train --json` prints.

    Raises:
        Interrupted: it was to stop; run again, it goes on from its measurements and checkpoints.
        OptionError: a file a request named is not below the data root any more.
    """
    store, asked = context.store, context.spec
    record = store.searches.by_id(context.search_id())
    root = DataRoot.of(store.settings)
    if record.owner is not None:
        root.check_stored(record.spec["evaluator"], record.spec["evaluator_options"])
    if context.job.owner is not None:
        root.check_stored("training", asked["options"])
    plan = reopen(store, record)
    spec = {name: asked[name] for name in _SPEC}
    spec["parallel"] = context.executor.at_once(asked["parallel"])
    if asked["teacher_search"] is not None:
        teacher = store.searches.by_id(asked["teacher_search"])
        spec["options"] = {**spec["options"], **search_teacher(store, teacher, record)}
    final_spec = FinalSpec(**spec, baselines=tuple(asked["baselines"]))
    with contextlib.ExitStack() as stack:
        link = None
        if asked["measure"] and record.board is not None and plan.table is not None:
            link = stack.enter_context(JobLink(context, store.boards.get(record.board)))
        try:
            final = run_final(store, record, plan, final_spec, link, _View(context), should_stop=context.stopping)
        except Stopped:
            raise Interrupted(f"job {context.job.id} was stopped; its checkpoints are kept") from None
    result = {"search": record.name, **final.report}
    files = {"report.json": json.dumps(result, indent=1) + "\n", "curves.svg": final_curves(store, record, final)}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            context.keep(path, name, media_type(name))
    return result


class _View:
    """A final as the progress of its job."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._at = (0.0, 0.0)

    def note(self, text: str) -> None:
        """Beside where it stands."""
        self._context.progress(*self._at, text)

    @contextlib.contextmanager
    def visits(self, text: str) -> Iterator[ProgressSink]:
        """The visits of the board."""

        def tell(progress: Progress) -> None:
            self._context.progress(progress.visits_done, progress.visits, text)

        yield tell

    @contextlib.contextmanager
    def trainings(self, total: int) -> Iterator[Callable[[FinalEvent], None]]:
        """Trainings done, those running by their epochs."""
        parts: dict[str, float] = {}

        def tell(event: FinalEvent) -> None:
            training, at = event.training, event.progress
            parts[training.key] = 1.0 if at is None else at.step / at.steps
            self._at = (sum(parts.values()), float(total))
            text = f"{training.contestant.label}, seed {training.seed}: "
            if at is not None:
                text += f"epoch {at.step} of {at.steps}, {100 * at.metrics.get('val_accuracy', 0):.1f} %"
            elif training.evaluation is None:
                text += f"failed: {training.error}"
            else:
                text += f"validation {100 * training.evaluation.accuracy:.2f} %"
            try:
                self.note(text)
            except Interrupted:
                raise Stopped from None  # the other trainings get to their next checkpoint

        yield tell
