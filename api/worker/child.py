"""A job's own process: `python -m api.worker.child`, started by the supervisor with one line of JSON on its input."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import threading
from typing import Any

from api.errors import AlreadyExists, Conflict, DatabaseAway, JobLost, NotFound, SchemaMismatch, SearchBusy, StoreError
from api.executors.choice import TrialExecutor
from api.jobs.context import Interrupted, JobContext
from api.operations.log import configure
from api.store import Store
from api.store.fence import Fence
from nas.errors import LightnasError
from nas.lifeline import die_with_parent

STORE_FAILED = 75
"""Exit status: the database could not be used, which is not the job's fault."""
_BUSY_WAIT_S = 5.0
_RETRY_S = 30.0
_OURS = (NotFound, AlreadyExists, Conflict, SchemaMismatch)  # of the store's errors those that waiting does not mend

log = logging.getLogger("lightnas.job")


def run_job(context: JobContext) -> None:
    """Run a claimed job and write how it ended.

    Raises:
        StoreError: the store failed; nothing is written about the end.
    """
    jobs, fence = context.store.jobs, context.fence
    try:
        result = importlib.import_module(f"api.jobs.{context.job.kind}").run(context)
    except Interrupted:
        jobs.give_back(fence)
    except SearchBusy:
        jobs.give_back(fence, wait_s=_BUSY_WAIT_S)
    except JobLost as e:
        log.warning("%s", e)
    except LightnasError as e:
        if isinstance(e, DatabaseAway):
            raise
        if isinstance(e, StoreError) and not isinstance(e, _OURS):  # a full disk, a folder that cannot be written
            log.error("%s", e)
            jobs.give_back(fence, wait_s=_RETRY_S, spent=True, error=str(e))
            return
        jobs.finish(fence, "failed", error=str(e))
    except Exception as e:
        log.exception("job %s failed by a mistake of lightnas", context.job.id)
        jobs.finish(fence, "failed", error=f"{type(e).__name__}: {' '.join(str(e).split())}")
    else:
        jobs.finish(fence, "complete", result=result)


def main() -> int:
    """Run the job named on the input; the exit status."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the supervisor's to handle
    setup: dict[str, Any] = json.loads(sys.stdin.readline())
    die_with_parent(setup["parent"])
    threading.Thread(target=_end_with_input, daemon=True).start()
    configure(worker=setup["worker"], job_id=setup["job"])
    try:
        with Store.open() as store:
            fence = Fence(setup["job"], setup["token"])
            executor = TrialExecutor(**setup["executor"])
            run_job(JobContext(store, store.jobs.get(setup["job"]), fence, stopping.is_set, executor))
    except StoreError as e:
        log.error("%s", e)
        return STORE_FAILED
    return 0


def _end_with_input() -> None:
    """The end of the input means that the supervisor is gone: leave in the middle of everything."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
