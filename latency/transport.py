"""How to reach a board: run commands, move files, keep one process talking in lines.

Data model: a `Transport` is one open link to one board; `run` is one command with its whole output, `spawn` one
long-lived `Process` that is written and read line by line (UTF-8).

Ownership:

- Who opens a transport closes it; both transports and processes are context managers, and `close` may be called twice.
- A transport owns the processes it spawned: closing it closes them first. `Process.close` ends the process wherever it
  runs: end of input first, so that it can put back what it changed, then SIGTERM, then SIGKILL.
- If the link itself dies, nobody can signal the process any more: **a program spawned on a board must exit at the end
  of its standard input**, which is what it then sees.
- Paths on the board are absolute. `put` never leaves half a file under the final name, not even after a power cut, and
  needs the folder to exist.
- One thread at a time uses a transport or a process. `close` may come from any thread.

Errors: see `latency.errors`. Exit statuses are returned, not raised; a negative one means that a signal ended it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from latency.errors import LatencyError
from latency.process import (
    GRACE_S,
    Process,
    ProcessEnded,
    StreamProcess,
    TransportTimeout,
    encode_line,
    label,
)

__all__ = [
    "Completed",
    "LocalProcess",
    "LocalTransport",
    "Process",
    "ProcessEnded",
    "Transport",
    "TransportTimeout",
]

_CHUNK_BYTES: Final = 65536


@dataclasses.dataclass(frozen=True)
class Completed:
    """A finished command.

    Attributes:
        exit_status: 0 is success; negative when a signal ended it.
        stdout: everything it wrote there.
        stderr: everything it wrote there.
    """

    exit_status: int
    stdout: bytes = b""
    stderr: bytes = b""


class Transport(ABC):
    """One open link to one board. See the module for the rules of ownership."""

    name: str
    """The board, as messages call it."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the link is still up, as far as we have been told; a link once gone never comes back."""

    @abstractmethod
    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Runs a command to its end; `argv` reaches it unchanged, whatever the board's shell.

        Args:
            argv: the program and its arguments.
            timeout_s: seconds until the command is killed.
            input: its standard input; None is an empty one.

        Raises:
            TransportTimeout: it took too long, and was killed.
            ConnectionLost: the link broke.
            LatencyError: the program could not be started (over SSH that is exit status 126 or 127).
        """

    @abstractmethod
    def put(self, data: bytes | Path, remote_path: str, *, mode: int = 0o644) -> None:
        """Writes a file under a temporary name beside `remote_path`, then renames it into place.

        Raises:
            LatencyError: the file cannot be written (no folder, no permission, no space).
            ConnectionLost: the link broke; nothing lies under the final name.
        """

    @abstractmethod
    def get(self, remote_path: str) -> bytes:
        """The content of a file.

        Raises:
            LatencyError: there is no such file, or it cannot be read.
        """

    @abstractmethod
    def exists(self, remote_path: str) -> bool:
        """Whether something lies under the path."""

    @abstractmethod
    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None) -> Process:
        """Starts a long-lived process; `env` is added to the board's own environment."""

    @abstractmethod
    def close(self) -> None:
        """Closes the processes, then the link. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def absolute(remote_path: str) -> str:
    """Checks the contract on paths: a relative one would depend on where a transport happens to stand."""
    if not remote_path.startswith("/"):
        raise LatencyError(f"path {remote_path!r} on the board is relative: give an absolute one")
    return remote_path


class LocalTransport(Transport):
    """This machine. Processes get a session of their own: a Ctrl-C reaches us, and we end them in order."""

    def __init__(self) -> None:
        self.name = "local"
        self._processes: list[LocalProcess] = []

    @property
    def alive(self) -> bool:
        """Always: there is no link to lose."""
        return True

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Runs it as a child process; a time-out kills its whole group."""
        process = _popen(argv)
        try:
            stdout, stderr = process.communicate(input or b"", timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise TransportTimeout(f"local: {label(argv)} took longer than {timeout_s:g} s and was killed") from None
        finally:
            if process.returncode is None:
                _signal_group(process, signal.SIGKILL)
                process.communicate()
        return Completed(process.returncode, stdout, stderr)

    def put(self, data: bytes | Path, remote_path: str, *, mode: int = 0o644) -> None:
        """Writes and syncs the temporary file, then renames it."""
        temporary = f"{absolute(remote_path)}.{secrets.token_hex(4)}.part"
        try:
            content = data.read_bytes() if isinstance(data, Path) else data
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            Path(temporary).rename(remote_path)
        except OSError as error:
            raise LatencyError(f"local: cannot write {remote_path}: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()

    def get(self, remote_path: str) -> bytes:
        """Reads the file."""
        try:
            return Path(absolute(remote_path)).read_bytes()
        except OSError as error:
            raise LatencyError(f"local: cannot read {remote_path}: {error.strerror or error}") from error

    def exists(self, remote_path: str) -> bool:
        """Whether a file, folder or link lies there."""
        return os.path.lexists(absolute(remote_path))

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None) -> Process:
        """Starts a child process in a session of its own."""
        process = LocalProcess(_popen(argv, env=env, cwd=cwd), label(argv))
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Closes the processes."""
        while self._processes:
            self._processes.pop().close()


class LocalProcess(StreamProcess):
    """A child process of ours."""

    def __init__(self, process: subprocess.Popen[bytes], command: str) -> None:
        super().__init__(command, "local")
        self._process = process
        self._start_reading(_reader(process.stdout), _reader(process.stderr))

    def send_line(self, line: str) -> None:
        """Writes to the pipe and flushes it."""
        data = encode_line(line)
        assert self._process.stdin is not None
        if self._process.poll() is not None:  # whoever has opened its end of the pipe, too, would let us write
            raise self._end_error()
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._end_error() from None

    @property
    def exit_status(self) -> int | None:
        """As the system tells it."""
        return self._process.poll()

    def _wait(self, timeout_s: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode

    def close(self) -> None:
        """Ends the process and whatever it started."""
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                stdin.close()
        if self._wait(GRACE_S) is None:
            _signal_group(self._process, signal.SIGTERM)
            self._wait(2.0)
        # Its children too, even after it ended by itself: nothing of ours stays behind.
        _signal_group(self._process, signal.SIGKILL)
        self._process.wait()
        for thread in self._threads:
            thread.join(timeout=1.0)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()


def _reader(stream: IO[bytes] | None) -> Callable[[], bytes]:
    assert stream is not None
    descriptor = stream.fileno()
    return lambda: os.read(descriptor, _CHUNK_BYTES)


def _popen(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise LatencyError(f"local: cannot start {argv[0]}: {error.strerror or error}") from error


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
