"""A board over SSH. Only this module and `login` know paramiko.

Every step has a time limit (`Timeouts`), every failure is one of `latency.errors`, in one line. A keepalive asks the
board after 10 s of silence and gives the link up 20 s later, as OpenSSH's ServerAliveInterval does: TCP alone would
need a quarter of an hour. It is the board's sshd that answers, so a board busy with one large network is not taken for
dead; and while a process talks nothing is asked, for answering costs the board time that a measurement would see.

Processes: each runs under `sh`, which tells its process id first, so that `close` and time limits can end it by signal.
When the link itself is cut, sshd closes the process's standard input, at the end of which it must exit by itself.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import paramiko

from latency.board import Board
from latency.errors import BoardUnfit, ConnectionLost, LatencyError
from latency.process import GRACE_S, Process, StreamProcess, TransportTimeout, encode_line, label, one_line
from latency.ssh.login import DEFAULT_TIMEOUTS, Timeouts, close_links, open_links
from latency.transport import Completed, Transport, absolute

_CHUNK_BYTES: Final = 65536
_DEATH_S: Final = 2.0
"""Seconds for a killed process to be gone."""
_TORN_S: Final = 0.5
"""paramiko ends the channels of a link that is gone a moment before it says that the link is."""
_PID_MARK: Final = b"lightnas-pid:"
_START: Final = 'echo "lightnas-pid:$$"; exec "$@"'
_START_IN_FOLDER: Final = 'echo "lightnas-pid:$$"; cd "$1" || exit 126; shift; exec "$@"'


class SshTransport(Transport):
    """A link over SSH; made by `connect`."""

    def __init__(self, name: str, hops: Sequence[paramiko.Transport], timeouts: Timeouts) -> None:
        """Takes over the links, the board's own last."""
        self.name = name
        self._hops = list(hops)
        self._link = self._hops[-1]
        self._timeouts = timeouts
        self._sftp_client: paramiko.SFTPClient | None = None
        self._processes: list[SshProcess] = []
        self._closed = threading.Event()
        self._heard_s = time.monotonic()
        threading.Thread(target=self._keep_alive, daemon=True, name="lightnas-keepalive").start()

    @classmethod
    def connect(
        cls, board: Board, *, accept_new_host_key: bool = False, timeouts: Timeouts = DEFAULT_TIMEOUTS
    ) -> SshTransport:
        """Connects, verifies the host key of every hop, and logs in.

        Raises:
            BoardUnreachable: no name, no route, refused, timed out, or no algorithm in common.
            HostKeyRejected: an unknown or changed host key.
            AuthenticationRefused: the board accepts none of our keys.
        """
        return cls(board.name, open_links(board, accept_new_host_key, timeouts), timeouts)

    @property
    def alive(self) -> bool:
        """Until the link ends, or the keepalive gives it up."""
        return bool(self._link.is_active())

    def torn(self, channel: paramiko.Channel | None) -> bool:
        """Whether the link is gone; where a channel has ended without a status, as by a signal, after a moment."""
        if channel is not None and channel.closed and channel.exit_status == -1 and self.alive:
            self._link.join(_TORN_S)
        return not self.alive

    def _keep_alive(self) -> None:
        silence_s, answer_s = self._timeouts.keepalive_s, self._timeouts.keepalive_answer_s
        while not self._closed.wait(max(0.0, self._heard_s + silence_s - time.monotonic())) and self.alive:
            asked_s = time.monotonic()
            if asked_s < self._heard_s + silence_s:
                continue
            question = threading.Thread(target=self._ask, daemon=True, name="lightnas-keepalive-ask")
            question.start()
            question.join(answer_s)
            if question.is_alive() and self._heard_s < asked_s:
                close_links(self._hops)
                return
            self._heard_s = time.monotonic()

    def _ask(self) -> None:
        with contextlib.suppress(Exception):  # a link dying under the question is what its readers will report
            self._link.global_request("keepalive@openssh.com", wait=True)

    def heard(self) -> None:
        """Notes that the board has just said something."""
        self._heard_s = time.monotonic()

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Runs it under the board's `sh`, on a channel of its own; a time-out kills it there."""
        command = label(argv)
        deadline = time.monotonic() + timeout_s
        channel, pid, head = self._start(argv, _START, min(timeout_s, self._timeouts.channel_s))
        stdout, stderr = bytearray(head), bytearray()
        workers = [
            threading.Thread(target=_collect, args=(channel.recv, stdout), daemon=True),
            threading.Thread(target=_collect, args=(channel.recv_stderr, stderr), daemon=True),
            threading.Thread(target=_feed, args=(channel, input or b""), daemon=True),
        ]
        for worker in workers:
            worker.start()
        try:
            for worker in workers[:2]:
                worker.join(max(0.0, deadline - time.monotonic()))
            channel.status_event.wait(max(0.0, deadline - time.monotonic()))
            if self.torn(channel):
                raise self._lost(f"{command} ran")
            if not channel.status_event.is_set() or any(worker.is_alive() for worker in workers[:2]):
                self._kill(pid, "KILL")
                channel.status_event.wait(_DEATH_S)
                raise TransportTimeout(f"{self.name}: {command} took longer than {timeout_s:g} s and was killed")
        except KeyboardInterrupt:
            self._kill(pid, "KILL")
            raise
        finally:
            channel.close()
        return Completed(channel.exit_status, bytes(stdout), bytes(stderr))

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None) -> Process:
        """Starts it under the board's `sh`, which tells its process id."""
        full = [*(["env", *(f"{key}={value}" for key, value in env.items())] if env else []), *argv]
        script, full = (_START, full) if cwd is None else (_START_IN_FOLDER, [cwd, *full])
        channel, pid, head = self._start(full, script, self._timeouts.channel_s)
        process = SshProcess(self, channel, pid, head, label(argv))
        self._processes.append(process)
        return process

    def _start(self, argv: Sequence[str], script: str, timeout_s: float) -> tuple[paramiko.Channel, int, bytes]:
        """Starts `sh script argv`; returns its channel, process id, and what of its output has already come."""
        command = "exec " + " ".join(shlex.quote(word) for word in ["sh", "-c", script, "sh", *argv])
        with self._errors(f"starting {label(argv)}"):
            channel = self._link.open_session(timeout=timeout_s)
            channel.settimeout(timeout_s)
            channel.exec_command(command)
            head = bytearray()
            try:
                # What the login shell's startup files print comes before the mark, and is dropped with it.
                while (at := head.find(_PID_MARK)) < 0 or (end := head.find(b"\n", at)) < 0:
                    chunk = channel.recv(_CHUNK_BYTES)
                    if not chunk:
                        said = one_line((bytes(head) + channel.recv_stderr(4096)).decode("utf-8", "replace"))
                        if self.torn(channel):
                            raise self._lost("starting a command")
                        raise BoardUnfit(
                            f"{self.name}: the account runs no commands{f' ({said})' if said else ''}: "
                            "give it a POSIX shell, without a forced command"
                        )
                    head += chunk
            except BaseException:
                channel.close()
                raise
            channel.settimeout(None)
            return channel, int(head[at + len(_PID_MARK) : end]), bytes(head[end + 1 :])

    def _kill(self, pid: int, signal: str) -> None:
        """Signals a process and its group, on a channel of its own; there is nothing to do over a dead link."""
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            channel = self._link.open_session(timeout=self._timeouts.channel_s)
            channel.settimeout(self._timeouts.channel_s)
            channel.exec_command(f"exec sh -c 'kill -s {signal} -- -{pid} || kill -s {signal} {pid}' 2>&1")
            channel.status_event.wait(self._timeouts.channel_s)
            channel.close()

    def put(self, data: bytes | Path, remote_path: str, *, mode: int = 0o644) -> None:
        """Uploads over SFTP; the rename is atomic (posix-rename@openssh.com).

        SFTP as paramiko speaks it has no fsync: the board's `sync` stands in, or a power cut could leave the name
        without the content. Where there is none, nothing is lost but that.
        """
        temporary = f"{absolute(remote_path)}.{secrets.token_hex(4)}.part"
        sftp = self._sftp()
        with self._errors(f"writing {remote_path}", sftp), _opened(data) as source:
            try:
                sftp.putfo(source, temporary)
                sftp.chmod(temporary, mode)
                self.run(["sync"], timeout_s=self._timeouts.transfer_s)
                sftp.posix_rename(temporary, remote_path)
            except BaseException:
                with contextlib.suppress(Exception):
                    sftp.remove(temporary)
                raise

    def get(self, remote_path: str) -> bytes:
        """Downloads over SFTP."""
        sftp, target = self._sftp(), io.BytesIO()
        with self._errors(f"reading {absolute(remote_path)}", sftp):
            sftp.getfo(remote_path, target)
        return target.getvalue()

    def exists(self, remote_path: str) -> bool:
        """Asks over SFTP."""
        sftp = self._sftp()
        with self._errors(f"looking for {absolute(remote_path)}", sftp):
            try:
                sftp.lstat(remote_path)
            except FileNotFoundError:
                return False
            return True

    def _sftp(self) -> paramiko.SFTPClient:
        if self._sftp_client is None:
            with self._errors("opening SFTP"):
                try:
                    channel = self._link.open_session(timeout=self._timeouts.channel_s)
                    channel.settimeout(self._timeouts.transfer_s)
                    channel.invoke_subsystem("sftp")
                    self._sftp_client = paramiko.SFTPClient(channel)
                except (paramiko.SSHException, EOFError) as error:
                    if not self.alive:
                        raise
                    raise BoardUnfit(
                        f"{self.name}: the board's SSH server offers no SFTP: install openssh-sftp-server there, or "
                        "enable 'Subsystem sftp' in its sshd_config"
                    ) from error
        return self._sftp_client

    @contextlib.contextmanager
    def _errors(self, doing: str, sftp: paramiko.SFTPClient | None = None) -> Iterator[None]:
        """Turns paramiko's exceptions into ours."""
        try:
            yield
        except LatencyError:
            raise
        except TimeoutError as error:
            if sftp is not None:  # an answer still to come would be taken for that of the next request
                sftp.close()
                self._sftp_client = None
            raise TransportTimeout(
                f"{self.name}: {doing} stood still for too long; is the board overloaded?"
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if self.torn(sftp.get_channel() if sftp else None) or isinstance(error, EOFError):
                raise self._lost(doing) from error
            reason = getattr(error, "strerror", None) or one_line(str(error)) or type(error).__name__
            if "timeout" in reason.lower() or "timed out" in reason.lower():
                raise TransportTimeout(
                    f"{self.name}: {doing} stood still for too long; is the board overloaded?"
                ) from error
            hint = "; is the disk full, or the folder not ours?" if reason == "Failure" else ""
            raise LatencyError(f"{self.name}: {doing} failed: {reason}{hint}") from error

    def _lost(self, doing: str) -> ConnectionLost:
        return ConnectionLost(f"{self.name}: the link broke while {doing}; start again to resume")

    def close(self) -> None:
        """Closes the processes, then every hop."""
        while self._processes:
            self._processes.pop().close()
        self._closed.set()
        close_links(self._hops)


class SshProcess(StreamProcess):
    """A process on the board."""

    def __init__(self, transport: SshTransport, channel: paramiko.Channel, pid: int, head: bytes, command: str) -> None:
        super().__init__(command, transport.name)
        self._transport, self._channel, self._pid = transport, channel, pid
        self._start_reading(_after(head, self._hear), lambda: channel.recv_stderr(_CHUNK_BYTES))

    def _hear(self, size: int) -> bytes:
        chunk: bytes = self._channel.recv(size)
        if chunk:
            self._transport.heard()
        return chunk

    def send_line(self, line: str) -> None:
        """Writes to the channel."""
        data = encode_line(line)
        if self._channel.status_event.is_set():  # paramiko may still take what nobody will read
            raise self._end_error()
        try:
            self._channel.sendall(data)
        except (OSError, EOFError, paramiko.SSHException):
            raise self._end_error() from None

    @property
    def exit_status(self) -> int | None:
        """As the board tells it."""
        return self._wait(0.0)

    def _wait(self, timeout_s: float) -> int | None:
        # A channel torn down with its link sets the event, too, with paramiko's −1: that is not an exit status.
        if not self._channel.status_event.wait(timeout_s):
            return None
        if self._channel.exit_status == -1 and self._transport.torn(self._channel):
            return None
        return self._channel.exit_status

    def close(self) -> None:
        """End of input, then signals over a second channel; over a dead link there is nothing to do."""
        if not self._channel.closed:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._channel.shutdown_write()
            # No grace over a dead link: nothing of it can be heard any more.
            for signal, patience_s in (("TERM", GRACE_S), ("KILL", _DEATH_S)):
                if self._channel.status_event.wait(patience_s):
                    break
                self._transport._kill(self._pid, signal)
            self._channel.status_event.wait(_DEATH_S)
        self._channel.close()
        for thread in self._threads:
            thread.join(timeout=1.0)


def _collect(receive: Callable[[int], bytes], into: bytearray) -> None:
    with contextlib.suppress(OSError, EOFError):
        while chunk := receive(_CHUNK_BYTES):
            into += chunk


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # a command need not read its input
        channel.sendall(data)
        channel.shutdown_write()


def _after(head: bytes, receive: Callable[[int], bytes]) -> Callable[[], bytes]:
    """A reader that gives `head` first."""
    pending = [head] if head else []
    return lambda: pending.pop() if pending else receive(_CHUNK_BYTES)


def _opened(data: bytes | Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    return data.open("rb") if isinstance(data, Path) else io.BytesIO(data)
