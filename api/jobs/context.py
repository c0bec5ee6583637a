"""JobContext: what a running job is given, and all it may do to the outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.errors import NotFound
from api.executors.choice import TrialExecutor
from api.store import Store
from api.store.fence import Fence
from api.store.jobs import JobRecord
from nas.errors import LightnasError

_EVERY_S = 0.5


class Interrupted(LightnasError):
    """A job ended early because it was asked to; what it has is kept, and it can go on."""


@dataclass
class JobContext:
    """A claimed job on its way.

    Attributes:
        store: everything.
        job: what is to be done.
        fence: the claim; writing that belongs to the job passes it.
        stopping: whether the job should end after its running step.
        executor: where trials run.
    """

    store: Store
    job: JobRecord
    fence: Fence
    stopping: Callable[[], bool]
    executor: TrialExecutor = field(default_factory=TrialExecutor)
    _told: tuple[float, float, str] = field(default=(0.0, 0.0, ""), init=False)
    _told_at: float = field(default=0.0, init=False)

    def progress(self, done: float, of: float, text: str = "") -> None:
        """Tell how far the job is: at most twice a second until it is done, and nothing twice.

        Raises:
            Interrupted: the job should end.
            JobLost: it is another worker's by now.
        """
        if self.stopping():
            raise Interrupted(f"job {self.job.id} was stopped")
        told = (done, of, text)
        if told == self._told or (done < of and time.monotonic() - self._told_at < _EVERY_S):
            return
        self._told, self._told_at = told, time.monotonic()
        self.store.jobs.progress(self.fence, {"done": done, "of": of, "text": text})

    def keep(self, path: Path, name: str, media_type: str) -> None:
        """Copy a file to where artifacts are, and list it under a relative name.

        Raises:
            JobLost: the job is another worker's by now.
            StoreError: it cannot be kept.
        """
        from api.results.artifacts import ArtifactStore

        ArtifactStore(self.store).keep(self.fence, path, name, media_type)

    @property
    def spec(self) -> dict[str, Any]:
        """What was asked."""
        return self.job.spec

    def search_id(self) -> int:
        """The search the job is about.

        Raises:
            NotFound: it has none.
        """
        if self.job.search_id is None:
            raise NotFound(f"job {self.job.id} names no search")
        return self.job.search_id
