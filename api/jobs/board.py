"""A job's way to its board."""

from __future__ import annotations

import time
from typing import Final

from api.errors import OptionError
from api.jobs.context import Interrupted, JobContext
from latency.board import Board
from latency.errors import BoardBusy
from latency.link import PatientLink
from latency.passes import Progress, ProgressSink
from latency.session import RunnerSession

_TRY_EVERY_S: Final = 10.0
_TICK_S: Final = 0.5


class JobLink(PatientLink):
    """A link for a job: while somebody else measures on the board it waits, and it can be stopped while it waits.

    Nobody stands beside a job to try again, and boards are shared: that one is busy is no failure.

    Args:
        context: of the job.
        board: where to.
    """

    def __init__(self, context: JobContext, board: Board) -> None:
        super().__init__(board, on_wait=lambda reason, waited_s: self._say(reason))
        self._context = context

    def open_session(self) -> RunnerSession:
        """As `PatientLink.open_session`, but waits for as long as the board is busy.

        Raises:
            Interrupted: the job was stopped meanwhile.
        """
        while True:
            try:
                return super().open_session()
            except BoardBusy as e:
                self._say(str(e))
                self._sleep()

    def _say(self, reason: str) -> None:
        self._context.progress(0, 0, f"waiting for {self.board.name}: {reason}")

    def _sleep(self) -> None:
        until = time.monotonic() + _TRY_EVERY_S
        while time.monotonic() < until:
            if self._context.stopping():
                raise Interrupted(f"job {self._context.job.id} was stopped while it waited for {self.board.name}")
            time.sleep(_TICK_S)


def job_board(context: JobContext) -> Board:
    """The board the job needs.

    Raises:
        OptionError: it names none.
        NotFound: it is not there any more.
    """
    if context.job.board is None:
        raise OptionError(f"job {context.job.id} names no board")
    return context.store.boards.get(context.job.board)


def visits(context: JobContext) -> ProgressSink:
    """What a measurement calls after each visit of a network: tells how far the job is, and ends it when asked to."""

    def tell(at: Progress) -> None:
        left = f"{at.networks} networks, {at.passes} passes, about {at.remaining_s:.0f} s left"
        context.progress(at.visits_done, at.visits, left)

    return tell
