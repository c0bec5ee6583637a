"""A link to a board that mends itself: a fault of cable, power or board ends in a reconnection, not in an error.

A runner that a cut cable left behind on the board, where nobody told it, would hold the board's lock. It is known by
what its environment says of its owner, and ended; one of an earlier run of ours ends by itself, when it has not been
asked for long (`onboard.server.IDLE_S`).
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import tenacity

from latency.board import Board
from latency.deploy import Deployment, deploy
from latency.engines import Engine, get_engine
from latency.errors import (
    AuthenticationRefused,
    BoardBusy,
    BoardUnfit,
    BoardUnreachable,
    ConnectionLost,
    LatencyError,
    RunnerCrashed,
)
from latency.process import TransportTimeout
from latency.reach import connect
from latency.session import OWNER_VARIABLE, RunnerSession, owner
from latency.transport import Transport

PATIENCE_S: Final = 300.0
"""Seconds an outage may last: a reboot takes up to two minutes, a runner that an earlier run of ours left three."""
FRUITLESS: Final = 5
"""Losses in a row without one finished visit between them: it is what we do that brings the board down."""

_TRANSIENT: Final = (ConnectionLost, BoardUnreachable, TransportTimeout)
_DOUBTFUL: Final = (AuthenticationRefused, BoardUnfit, RunnerCrashed)
"""What a board says in earnest, but also one that is just going down: the second time in a row counts."""
_SAME: Final = ("model", "cpu", "machine", "engine", "engine_version", "cores")
"""The runner's facts that belong to the identity of what is measured."""
_WAIT_S: Final = (1.0, 10.0)
_END_TIMEOUT_S: Final = 60.0
_END_RUNNERS: Final = """
import os, signal, sys, time
mark = sys.argv[1].encode()
def ours():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/" + pid + "/environ", "rb") as file:
                if mark in file.read().split(b"\\0"):
                    yield int(pid)
        except OSError:
            pass
for number, patience_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
    for pid in ours():
        try:
            os.kill(pid, number)
        except OSError:
            pass
    end = time.monotonic() + patience_s
    while list(ours()) and time.monotonic() < end:
        time.sleep(0.05)
"""
"""A killed process has no environment, though it may still be a zombie: its lock is gone with it."""

WaitSink = Callable[[str, float], None]


class PatientLink:
    """A board and the way to it, opened again whenever it is lost. A context manager, connected inside; one thread.

    Patience begins when the board has been reached once: a wrong address or a board that is off fails at once.

    Args:
        board: where to, and how its engine runs.
        accept_new_host_key: trust an unknown host key, the first time only.
        wheel_cache: where this machine keeps wheels; None for the user's cache folder.
        patience_s: how long an outage may last, about: the last attempt is finished.
        on_wait: told why, and for how many seconds so far, before each wait for the next attempt.

    Attributes:
        board: as given.
    """

    def __init__(
        self,
        board: Board,
        *,
        accept_new_host_key: bool = False,
        wheel_cache: Path | None = None,
        patience_s: float = PATIENCE_S,
        on_wait: WaitSink | None = None,
    ) -> None:
        self.board = board
        self._engine: Engine = get_engine(board.engine)
        self._accept, self._wheel_cache = accept_new_host_key, wheel_cache
        self._patience_s, self._on_wait = patience_s, on_wait
        self._transport: Transport | None = None
        self._deployment: Deployment | None = None
        self._session: RunnerSession | None = None
        self._facts: dict[str, object] | None = None
        self._fruitless, self._stale = 0, False
        self._unsure: type[LatencyError] | None = None
        self._given_up: ConnectionLost | None = None

    @property
    def transport(self) -> Transport:
        """The link as it is now; another one after an outage.

        Raises:
            ConnectionLost: there is none; `open_session` makes one.
        """
        if self._transport is None:
            raise ConnectionLost(f"{self.board.name}: the link is closed; start again to resume")
        return self._transport

    @property
    def deployment(self) -> Deployment:
        """Where the runner is on the board, as last deployed.

        Raises:
            ConnectionLost: nothing has been deployed yet.
        """
        if self._deployment is None:
            raise ConnectionLost(f"{self.board.name}: the link is closed; start again to resume")
        return self._deployment

    def open_session(self) -> RunnerSession:
        """Starts a runner, over a new link where the old one is gone; the caller closes it.

        Raises:
            ConnectionLost: patience is used up, or the board is lost again and again before anything is measured; from
                then on at once.
            HostKeyRejected, AuthenticationRefused, BoardUnfit: as `connect` and `deploy`, and no patience helps.
            BoardBusy: somebody else measures on the board.
            RunnerCrashed: the runner dies at once.
            LatencyError: it is not the same board, or not the same engine, any more.
        """
        if self._given_up is not None:
            raise self._given_up
        self._note_loss()
        self._unsure = None
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._may_pass),
            stop=tenacity.stop_before_delay(self._patience_s),
            wait=tenacity.wait_exponential(multiplier=_WAIT_S[0], max=_WAIT_S[1]),
            before_sleep=self._tell,
            retry_error_callback=self._give_up,
        )
        return attempts(self._open)

    def _note_loss(self) -> None:
        """Counts the losses in a row before anything was measured."""
        session, self._session = self._session, None
        if session is None:
            return
        if session.visits:
            self._fruitless = 0
        if session.lost:
            self._fruitless, self._stale = self._fruitless + 1, True
        if self._fruitless >= FRUITLESS:
            self._given_up = ConnectionLost(
                f"{self.board.name}: lost {FRUITLESS} times in a row before one network had run: does the board "
                "restart, or its power supply or cable fail? Mend it, then run the same command again to resume"
            )
            raise self._given_up

    def _open(self) -> RunnerSession:
        if self._transport is not None and not self._transport.alive:
            self.close()
        if self._transport is None:
            self._connect()
        try:
            if self._stale:
                self._end_runners()
            session = RunnerSession(self.transport, self.deployment, self.board, self._engine)
        except _TRANSIENT:
            self.close()
            raise
        self._stale, self._session = False, session
        self._require_same(session)
        return session

    def _connect(self) -> None:
        first = self._deployment is None
        transport = connect(self.board, accept_new_host_key=self._accept and first)
        try:
            self._deployment = deploy(transport, self._engine.name, wheel_cache=self._wheel_cache)
            if self._deployment.uploaded_bytes:
                transport.run(["sync"], timeout_s=_END_TIMEOUT_S)  # a power cut must not take what was unpacked
        except BaseException:
            transport.close()
            raise
        self._transport, self._stale = transport, not first

    def _end_runners(self) -> None:
        mark = f"{OWNER_VARIABLE}={owner()}"
        self.transport.run([self.deployment.python, "-c", _END_RUNNERS, mark], timeout_s=_END_TIMEOUT_S)

    def _require_same(self, session: RunnerSession) -> None:
        facts = {key: session.facts.get(key) for key in _SAME}
        if self._facts is None:
            self._facts = facts
        for key, before in self._facts.items():
            if facts[key] != before:
                session.close()
                raise LatencyError(
                    f"{self.board.name}: after the link came back this is another board or engine ({key} was {before}, "
                    f"now it is {facts[key]}): bring the former one back and start again, or profile anew"
                )

    def _may_pass(self, error: BaseException) -> bool:
        """Whether waiting may help."""
        if isinstance(error, BoardBusy):
            return _left_by_us(error.holder)
        if self._deployment is None:
            return False  # never reached yet
        if isinstance(error, _DOUBTFUL):
            doubted, self._unsure = self._unsure, type(error)
            return doubted is not type(error)
        self._unsure = None
        return isinstance(error, _TRANSIENT)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if self._on_wait:
            self._on_wait(str(error), state.seconds_since_start or 0.0)

    def _give_up(self, state: tenacity.RetryCallState) -> RunnerSession:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, _TRANSIENT):
            raise error or AssertionError("given up without a reason")
        self._given_up = ConnectionLost(
            f"{self.board.name}: not back after {state.seconds_since_start or 0.0:.0f} s of trying ({error}); "
            "once it is, run the same command again to resume"
        )
        raise self._given_up from error

    def close(self) -> None:
        """Closes the link and the runner on it. Idempotent; `open_session` opens it again."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()

    def __enter__(self) -> Self:
        if self._transport is None:
            self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _left_by_us(holder: str) -> bool:
    """Whether the holder of a board's lock is a runner that we, or an earlier run of ours, have lost."""
    if holder.startswith(owner()):
        return True
    found = re.match(r"(\S+) pid (\d+) ", holder)
    return found is not None and found[1] == f"{getpass.getuser()}@{socket.gethostname()}" and not _runs(found[2])


def _runs(pid: str) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
