"""The job that profiles a space on a board."""

from __future__ import annotations

from typing import Any

from api.boards.measured import describe_profile
from api.boards.tables import plan_profile, run_profile
from api.jobs.board import JobLink, job_board, visits
from api.jobs.context import JobContext
from nas.spaces import build_space


def run(context: JobContext) -> dict[str, Any]:
    """Measure what the spec (`api.schemas.jobs.ProfileRequest`) asks for; every pass is saved as it ends.

    Returns:
        What `nas profile --json` prints.

    Raises:
        Interrupted: it was to stop; run again, it goes on from its passes.
    """
    store, spec = context.store, context.spec
    space = build_space(
        spec["space"], resolution=spec["resolution"] or None, classes=spec["classes"], channels=spec["channels"]
    )
    with JobLink(context, job_board(context)) as link:
        plan = plan_profile(
            store,
            link,
            space,
            passes=spec["passes"],
            seed=spec["seed"],
            fresh=spec["fresh"],
            resume=not spec["fresh"] or context.job.progress is not None,  # its own passes, not an earlier one's
            fresh_networks=spec["networks"],
        )
        found = run_profile(
            store,
            plan,
            time_limit_s=spec["time_limit_s"],
            command=f"job {context.job.id}",
            on_progress=visits(context),
        )
    return describe_profile(found)
