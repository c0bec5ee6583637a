"""The job that verifies on a board: a search's networks, predicted beside measured; or its export, answer by answer."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from api.boards.measured import describe_verified
from api.boards.tables import find_table
from api.compose import reopen
from api.errors import OptionError
from api.export.accuracy import load_test_pictures, read_export, verify_accuracy
from api.export.bundle import MARK
from api.finals.deliver import measure_trials
from api.jobs.board import JobLink, job_board, visits
from api.jobs.context import JobContext
from api.results.artifacts import ArtifactStore, media_type
from api.results.picks import pick_trials
from latency.verify import verify


def run(context: JobContext) -> dict[str, Any]:
    """Verify what the spec (`api.schemas.jobs.VerifyRequest`) asks for.

    Returns:
        What `nas verify --json` prints; with `accuracy`, `export` is the job whose files were run.

    Raises:
        Interrupted: it was to stop; run again, it begins anew.
    """
    return _accuracy(context) if context.spec["accuracy"] else _latency(context)


def _latency(context: JobContext) -> dict[str, Any]:
    store, spec = context.store, context.spec
    record, board = store.searches.by_id(context.search_id()), job_board(context)
    plan = reopen(store, record)
    pinned = plan.table if board.name == record.board else None
    table = find_table(store, board.name, plan.space) if pinned is None else pinned
    passes, told = spec["passes"], visits(context)
    if spec["random"] is not None:
        rows = plan.space.sample(np.random.default_rng(spec["seed"]), spec["random"])
        encodings, trials = [tuple(map(int, row)) for row in rows], []
    else:
        trials = pick_trials(store, record, spec["top"])
        encodings = [t.encoding for t in trials]
    with JobLink(context, board) as link:
        if pinned is not None and trials:  # what the search's own board says of them is kept with the search
            results = measure_trials(store, record, plan, link, trials, passes=passes, on_progress=told)
        else:
            graphs, seed = [plan.space.graph(e) for e in encodings], spec["seed"]
            results = verify(board, link.open_session, graphs, table, passes=passes, seed=seed, on_progress=told)
    return describe_verified(board.name, table.digest, [",".join(map(str, e)) for e in encodings], results)


def _accuracy(context: JobContext) -> dict[str, Any]:
    store, board = context.store, job_board(context)
    job_id = _export_job(context)
    export = read_export(ArtifactStore(store).folder(job_id))
    part = load_test_pictures(export, context.spec["pictures"], cache=store.settings.home / "cache" / "pictures")
    with JobLink(context, board) as link:
        found = verify_accuracy(
            link, export, part, on_progress=lambda done, of: context.progress(done, of, f"pictures on {board.name}")
        )
    about = {"export": job_id, **found}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"verified-{board.name}.json"
        path.write_text(json.dumps(about, indent=1) + "\n")
        context.keep(path, path.name, media_type(path.name))
    return about


def _export_job(context: JobContext) -> int:
    """The job of the search whose files are run.

    Raises:
        NotFound: it was deleted.
        OptionError: it is none, or its files were removed.
    """
    store, asked = context.store, int(context.spec["export"])
    job = store.jobs.get(asked)
    if (job.kind, job.search_id, job.state) != ("export", context.search_id(), "complete"):
        raise OptionError(f"job {asked} is no finished export of search {context.search_id()}")
    if store.artifacts.find(asked, MARK) is None:
        raise OptionError(f"the files of export job {asked} were removed; export again")
    return asked
