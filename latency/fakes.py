"""Boards made of Python functions, for tests of what stands above the link."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from latency.errors import ConnectionLost, LatencyError
from latency.process import Process, ProcessEnded, TransportTimeout, encode_line
from latency.transport import Completed, Transport, absolute


class FakeTransport(Transport):
    """A board that a few functions play.

    Args:
        run: what a command answers: `(argv, input) -> Completed`.
        talk: what a spawned process answers to a line: the lines it writes. Returning None ends the process (exit
            status −11, as a crash does); raising `ConnectionLost` cuts the link.
        greeting: lines a process writes when it starts.

    Attributes:
        files: path → content of the board's files.
        commands: every argv run, in order.
        spawned: every argv spawned, in order.
        open: whether `close` has not been called.
    """

    def __init__(
        self,
        run: Callable[[Sequence[str], bytes | None], Completed] | None = None,
        talk: Callable[[str], Iterable[str] | None] | None = None,
        greeting: Sequence[str] = (),
        name: str = "fake",
    ) -> None:
        self.name = name
        self.files: dict[str, bytes] = {}
        self.commands: list[tuple[str, ...]] = []
        self.spawned: list[tuple[str, ...]] = []
        self.open = True
        self._run, self._talk, self._greeting = run, talk, greeting

    @property
    def alive(self) -> bool:
        """`open`."""
        return self.open

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Notes the command and asks the function."""
        self.commands.append(tuple(argv))
        return self._run(argv, input) if self._run else Completed(0)

    def put(self, data: bytes | Path, remote_path: str, *, mode: int = 0o644) -> None:
        """Keeps the content in `files`."""
        self.files[absolute(remote_path)] = data.read_bytes() if isinstance(data, Path) else data

    def get(self, remote_path: str) -> bytes:
        """Gives what `files` holds."""
        if absolute(remote_path) not in self.files:
            raise LatencyError(f"{self.name}: cannot read {remote_path}: No such file or directory")
        return self.files[remote_path]

    def exists(self, remote_path: str) -> bool:
        """Whether `files` holds it."""
        return absolute(remote_path) in self.files

    def spawn(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> FakeProcess:
        """Notes the command and makes a `FakeProcess`."""
        self.spawned.append(tuple(argv))
        return FakeProcess(self._talk or (lambda line: ()), self._greeting, self.name)

    def close(self) -> None:
        """Clears `open`."""
        self.open = False


class FakeProcess(Process):
    """The process of a `FakeTransport`: answers at once, and times out at once when it has nothing to say."""

    def __init__(self, talk: Callable[[str], Iterable[str] | None], greeting: Sequence[str], board: str) -> None:
        self._talk, self._lines, self._board = talk, deque(greeting), board
        self._exit_status: int | None = None
        self._cut = False
        self.sent: list[str] = []

    def send_line(self, line: str) -> None:
        """Notes the line and queues the answer."""
        encode_line(line)
        self._check_alive()
        self.sent.append(line)
        try:
            answer = self._talk(line)
        except ConnectionLost:
            self._cut = True  # as with a real link: the write went through, the loss shows when reading
            return
        if answer is None:
            self._exit_status = -signal.SIGSEGV
        else:
            self._lines.extend(answer)

    def read_line(self, timeout_s: float) -> str:
        """The next queued line."""
        if self._lines:
            return self._lines.popleft()
        self._check_alive()
        raise TransportTimeout(f"{self._board}: no answer within {timeout_s:g} s")

    def _check_alive(self) -> None:
        if self._cut:
            raise ConnectionLost(f"{self._board}: the link broke; start again to resume")
        if self._exit_status is not None:
            raise ProcessEnded(f"{self._board}: process ended with exit status {self._exit_status}", self._exit_status)

    @property
    def stderr_tail(self) -> str:
        """Always empty."""
        return ""

    @property
    def exit_status(self) -> int | None:
        """None while open or cut; −11 after a crash."""
        return None if self._cut else self._exit_status

    def close(self) -> None:
        """Ends it with exit status 0."""
        if self._exit_status is None:
            self._exit_status = 0
