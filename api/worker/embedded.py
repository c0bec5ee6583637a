"""The server's own worker: a process beside the API that dies with it and is started again when it dies."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from api.executors.choice import TrialExecutor
from api.worker.supervisor import Supervisor

_AGAIN_S = 2.0
log = logging.getLogger("lightnas.serve")


class EmbeddedWorker:
    """Keeps a worker process running.

    Args:
        jobs: at a time.
        executor: where trials run.
    """

    def __init__(self, jobs: int, executor: TrialExecutor) -> None:
        self._setup = {"jobs": jobs, "executor": executor.to_dict(), "parent": os.getpid()}
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel ends the worker with the thread that started it, so this thread lives as long as the server.
        self._thread = threading.Thread(target=self._keep, name="embedded-worker")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Let the worker's jobs end their running steps and give them back; returns when it has ended."""
        self._stop.set()
        process = self._process
        if process is not None:
            process.terminate()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stop.is_set():
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "api.worker.embedded"],
                stdin=subprocess.PIPE,
                stdout=sys.stderr,
                start_new_session=True,
            )
            self._process = process
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(self._setup).encode() + b"\n")
                process.stdin.flush()
            if self._stop.is_set():
                process.terminate()
            process.wait()
            process.stdin.close()
            if not self._stop.is_set():
                log.warning("the embedded worker ended with %d; it is started again", process.returncode)
                self._stop.wait(_AGAIN_S)


def main() -> None:
    """Be the worker."""
    from api.operations.log import configure
    from api.store import Store
    from nas.lifeline import die_with_parent

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setup: dict[str, Any] = json.loads(sys.stdin.readline())
    die_with_parent(setup["parent"])
    with Store.open() as store:
        supervisor = Supervisor(store, jobs=setup["jobs"], executor=TrialExecutor(**setup["executor"]))
        configure(worker=supervisor.name)
        supervisor.run(stop)


if __name__ == "__main__":
    main()
