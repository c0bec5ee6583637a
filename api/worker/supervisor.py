"""The supervisor: claims jobs, runs each in a child process, holds the claims while the children live."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from api.errors import OptionError, StoreError
from api.executors.choice import REMOTE, TrialExecutor
from api.store import Store
from api.store.jobs import Claim, JobRecord, Wanted
from api.worker.child import STORE_FAILED

LEASE_S = 30.0
GRACE_S = 90.0  # a step and the notes after it
_POLL_S = 0.5
_WAITING = 32  # searches of remote evaluators beside the jobs at work
_CLEAN_EVERY_S = 3600.0
_NAME_LENGTH = 64  # what the store's columns hold
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_NAME_LENGTH - 1}}}")
_RETRY_S = 3.0  # before a job whose process died or whose store failed is claimed again

log = logging.getLogger("lightnas.worker")


def check_worker_name(name: str) -> str:
    """A name for a worker.

    Raises:
        OptionError: it is too long, or has other characters.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"worker name {name!r}: use 1 to {_NAME_LENGTH} letters, digits, '.', '_' or '-', beginning with a letter "
            "or digit"
        )
    return name


def default_name() -> str:
    """Host and process. Of a host's name that is too long there is the beginning, and a digest that tells it apart."""
    host, process = socket.gethostname(), f"-{os.getpid()}"
    if len(host + process) > _NAME_LENGTH:
        process = f"-{hashlib.sha256(host.encode()).hexdigest()[:8]}{process}"
        host = host[: _NAME_LENGTH - len(process)]
    return host + process


@dataclass
class _Child:
    """A job's process."""

    claim: Claim
    process: subprocess.Popen[bytes]
    waits: bool = False
    told_to_stop: float | None = None
    lost: bool = False


class Supervisor:
    """Runs jobs until it is told to stop.

    SIGKILL at any moment loses nothing: the children die with the supervisor, the claims run out, and another worker
    goes on where the store says.

    Args:
        store: where jobs are.
        name: of this worker, unique; default: host and process.
        jobs: at once.
        executor: where trials of searches run.
        boards: whether this machine reaches the boards.
        lease_s: how long a claim holds without being renewed.
        grace_s: how long a job may take to stop before its process is killed.

    Raises:
        OptionError: the name cannot be one.
    """

    def __init__(
        self,
        store: Store,
        *,
        name: str | None = None,
        jobs: int = 2,
        executor: TrialExecutor | None = None,
        boards: bool = True,
        lease_s: float = LEASE_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self.store, self.jobs, self.boards = store, jobs, boards
        self.executor = executor or TrialExecutor()
        self.name = default_name() if name is None else check_worker_name(name)
        self.lease_s, self.grace_s = lease_s, grace_s
        self._children: list[_Child] = []
        # Claims to give back when the store can be written, and whether they count as attempts.
        self._owed: list[tuple[Claim, bool]] = []
        self._renewed_at = self._cleaned_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Work until `stop`; then let each job end its running step, and give back what is not done."""
        log.info("worker %s takes up to %d jobs at a time", self.name, self.jobs)
        while not stop.is_set():
            with self._patience():
                self._turn()
            stop.wait(_POLL_S)
        self._shut_down()

    # Parts -------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._reap()
        self._give_back_owed()
        self._renew()
        self._clean()
        while self._busy() < self.jobs:
            claim = self.store.jobs.claim(self.name, self.lease_s, boards=self.boards)
            if claim is None:
                return
            self._start(claim)

    def _busy(self) -> int:
        """Jobs that work here. A search whose trials others evaluate mostly waits, so a few of them cost no place."""
        waiting = sum(child.waits for child in self._children)
        return len(self._children) - min(waiting, _WAITING)

    def _waits(self, job: JobRecord) -> bool:
        if job.kind != "search" or job.search_id is None:
            return False
        return bool(self.store.searches.by_id(job.search_id).spec.get("evaluator") == REMOTE)

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """The database may be away for a while: the next turn tries again."""
        try:
            yield
        except StoreError as e:
            log.warning("%s; trying again", e)
            time.sleep(_POLL_S)

    def _start(self, claim: Claim) -> None:
        job = claim.job
        waits = self._waits(job)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "api.worker.child"],
            stdin=subprocess.PIPE,
            stdout=sys.stderr,  # whatever a library prints
            env=dict(os.environ),
            start_new_session=True,  # signals of a terminal reach the supervisor only
        )
        setup = {
            "job": job.id,
            "token": claim.fence.token,
            "worker": self.name,
            "parent": os.getpid(),
            "executor": self.executor.to_dict(),
        }
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died already: the next turn notices
            process.stdin.write(json.dumps(setup).encode() + b"\n")
            process.stdin.flush()
        self._children.append(_Child(claim, process, waits))
        log.info("job %d (%s) begins, attempt %d", job.id, job.kind, job.attempts)

    def _reap(self) -> None:
        for child in [c for c in self._children if c.process.poll() is not None]:
            self._children.remove(child)
            with suppress(BrokenPipeError):
                child.process.stdin and child.process.stdin.close()
            job, status = child.claim.job, child.process.returncode
            log.info("job %d (%s): its process ended with %d", job.id, job.kind, status)
            if status != 0 and not child.lost:
                self._owed.append((child.claim, status != STORE_FAILED))

    def _give_back_owed(self) -> None:
        """Jobs whose process ended without a word: killed, or without a database."""
        while self._owed:
            claim, spent = self._owed[0]
            self.store.jobs.give_back(claim.fence, wait_s=_RETRY_S, spent=spent)
            self._owed.pop(0)

    def _renew(self) -> None:
        """Hold the claims, hear what users want, tell that this worker lives."""
        fences = [c.claim.fence for c in self._children]
        wanted = self.store.jobs.watch(fences)
        if time.monotonic() - self._renewed_at > self.lease_s / 6:
            wanted = self.store.jobs.renew(fences, self.lease_s)
            facts: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "capacity": self.jobs}
            self.store.workers.seen(self.name, executor=self.executor.kind, **facts)
            self._renewed_at = time.monotonic()
        for child in self._children:
            now = wanted.get(child.claim.job.id)
            if now is None:
                child.lost = True
                child.process.kill()
            elif now is not Wanted.RUN:
                self._tell_to_stop(child)

    def _clean(self) -> None:
        """Forget what nobody asks for any more."""
        if time.monotonic() - self._cleaned_at > _CLEAN_EVERY_S:
            self._cleaned_at = time.monotonic()
            self.store.answers.forget()

    def _tell_to_stop(self, child: _Child) -> None:
        if child.told_to_stop is None:
            child.told_to_stop = time.monotonic()
            child.process.terminate()
        elif time.monotonic() - child.told_to_stop > self.grace_s:
            log.warning("job %d does not stop: its process is killed", child.claim.job.id)
            child.process.kill()

    def _shut_down(self) -> None:
        log.info("worker %s ends after the running steps of %d jobs", self.name, len(self._children))
        deadline = time.monotonic() + self.grace_s
        while self._children:
            for child in self._children:
                self._tell_to_stop(child)
            with self._patience():
                self._renew()
            self._reap()
            if time.monotonic() > deadline + self.lease_s:
                break
            time.sleep(0.1)
        with self._patience():
            self._give_back_owed()
            self.store.workers.gone(self.name)
