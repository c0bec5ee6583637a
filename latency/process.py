"""A long-lived program on a board, spoken to in lines; what all kinds of links share about it.

See `latency.transport` for the rules of ownership.
"""

from __future__ import annotations

import queue
import re
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from latency.errors import ConnectionLost, LatencyError

GRACE_S: Final = 10.0
"""Seconds a process gets after the end of its input to finish by itself."""
STDERR_TAIL_BYTES: Final = 8192


class TransportTimeout(LatencyError, TimeoutError):
    """A command or a line took longer than allowed; the link is still usable."""


class ProcessEnded(ConnectionLost):
    """The process itself ended (a crash, or it had nothing more to say) while the link still works.

    Attributes:
        exit_status: its exit status; negative when a signal ended it.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        self.exit_status = exit_status
        super().__init__(message)


def one_line(text: str, limit: int = 400) -> str:
    """The end of a text on one line, for messages."""
    flat = re.sub(r"\s*\n\s*", " | ", text.strip())
    return flat if len(flat) <= limit else "…" + flat[-limit:]


def label(argv: Sequence[str]) -> str:
    """A command as messages call it: its beginning, on one line."""
    flat = re.sub(r"\s+", " ", " ".join(argv))
    return flat if len(flat) <= 80 else flat[:79] + "…"


class Process(ABC):
    """A long-lived program on the board, spoken to in lines. See the module for who ends it."""

    @abstractmethod
    def send_line(self, line: str) -> None:
        """Writes one line; a newline inside it is an error.

        Raises:
            ProcessEnded: the process is gone.
            ConnectionLost: the link is gone.
        """

    @abstractmethod
    def read_line(self, timeout_s: float) -> str:
        """The next line of its standard output, without the newline.

        Raises:
            TransportTimeout: no whole line within `timeout_s`; what has come so far is kept for the next call.
            ProcessEnded: the process ended; the message holds the end of its standard error.
            ConnectionLost: the link is gone.
        """

    @property
    @abstractmethod
    def stderr_tail(self) -> str:
        """The last 8 KiB of its standard error."""

    @property
    @abstractmethod
    def exit_status(self) -> int | None:
        """None while it runs, and for ever if the link died before it could be told."""

    @abstractmethod
    def close(self) -> None:
        """Ends the process and leaves none behind. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StreamProcess(Process):
    """The half that all real processes share: two threads empty the streams, so a full pipe never stalls it."""

    def __init__(self, command: str, board: str) -> None:
        self._command, self._board = command, board
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stderr: deque[bytes] = deque()
        self._stderr_bytes = 0
        self._ended = False
        self._threads: list[threading.Thread] = []

    def _start_reading(self, stdout: Callable[[], bytes], stderr: Callable[[], bytes]) -> None:
        for pump, read in ((self._pump_lines, stdout), (self._pump_stderr, stderr)):
            thread = threading.Thread(target=pump, args=(read,), daemon=True, name=f"lightnas-{pump.__name__}")
            self._threads.append(thread)
            thread.start()

    def _pump_lines(self, read: Callable[[], bytes]) -> None:
        pending: list[bytes] = []
        while chunk := _read_or_end(read):
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                self._lines.put((b"".join(pending) + line).decode("utf-8", "replace"))
                pending = []
            pending.append(rest)
        self._lines.put(None)

    def _pump_stderr(self, read: Callable[[], bytes]) -> None:
        while chunk := _read_or_end(read):
            self._stderr.append(chunk)
            self._stderr_bytes += len(chunk)
            while self._stderr_bytes - len(self._stderr[0]) >= STDERR_TAIL_BYTES:
                self._stderr_bytes -= len(self._stderr.popleft())

    def read_line(self, timeout_s: float) -> str:
        """Waits for the thread that splits standard output into lines."""
        if not self._ended:
            try:
                line = self._lines.get(timeout=max(timeout_s, 0.0))
            except queue.Empty:
                raise TransportTimeout(
                    f"{self._board}: no answer from {self._command} within {timeout_s:g} s"
                    f"{self._tail_note()}; the board may be busy or hung"
                ) from None
            if line is not None:
                return line
            self._ended = True
        raise self._end_error()

    def _end_error(self) -> ConnectionLost:
        for thread in self._threads:
            thread.join(timeout=1.0)  # the last words on standard error belong into the message
        status = self._wait(2.0)
        if status is None:
            return ConnectionLost(
                f"{self._board}: the link broke while {self._command} ran{self._tail_note()}; start again to resume"
            )
        return ProcessEnded(
            f"{self._board}: {self._command} ended with exit status {status}{self._tail_note()}", status
        )

    @abstractmethod
    def _wait(self, timeout_s: float) -> int | None:
        """The exit status, waited for at most `timeout_s` seconds."""

    def _tail_note(self) -> str:
        tail = one_line(self.stderr_tail)
        return f": {tail}" if tail else ""

    @property
    def stderr_tail(self) -> str:
        """What the thread that empties standard error has kept."""
        return b"".join(tuple(self._stderr))[-STDERR_TAIL_BYTES:].decode("utf-8", "replace")


def _read_or_end(read: Callable[[], bytes]) -> bytes:
    """A stream torn down under a reader is an ended stream."""
    try:
        return read()
    except (OSError, ValueError, EOFError):
        return b""


def encode_line(line: str) -> bytes:
    """One line as bytes, with its newline."""
    if "\n" in line:
        raise LatencyError(f"a line sent to the board contains a newline: {line[:80]!r}…")
    return line.encode() + b"\n"
