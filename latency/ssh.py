"""A board over SSH: the only module that knows paramiko.

Every step has a time limit (`Timeouts`), every failure is one of `latency.errors`, in one line. The host key is always
verified, for every hop; what `StrictHostKeyChecking` says makes no difference. A keepalive asks the board every 15 s and
gives the link up after three unanswered ones, as OpenSSH's ServerAliveInterval does: TCP alone needs a quarter of an hour.

Processes: each runs under `sh`, which tells its process id first, so that `close` and time limits can end it by signal.
When the link itself is cut, sshd closes the process's standard input, at the end of which it must exit by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import paramiko

from latency import known_hosts
from latency.board import Address, Board, parse_address
from latency.errors import AuthenticationRefused, BoardUnfit, BoardUnreachable, ConnectionLost, LatencyError
from latency.process import GRACE_S, Process, StreamProcess, TransportTimeout, encode_line, one_line
from latency.ssh_config import HostConfig, lookup
from latency.transport import Completed, Transport, absolute

# Without a handler of its own, paramiko's log of each failure would reach the terminal beside our one line.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_MAX_HOPS: Final = 8
_CHUNK_BYTES: Final = 65536
_PID_MARK: Final = b"lightnas-pid:"
_START: Final = 'echo "lightnas-pid:$$"; exec "$@"'
_START_IN_FOLDER: Final = 'echo "lightnas-pid:$$"; cd "$1" || exit 126; shift; exec "$@"'


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Limits of each step, in seconds.

    Attributes:
        connect_s: TCP, unless ConnectTimeout is configured.
        handshake_s: the banner, and then the key exchange.
        auth_s: each key offered.
        channel_s: opening a channel; starting a command's shell.
        transfer_s: a file transfer standing still.
        keepalive_s: between two questions whether the board is there.
        keepalive_answer_s: for the answer, before the link is given up.
    """

    connect_s: float = 15.0
    handshake_s: float = 30.0
    auth_s: float = 30.0
    channel_s: float = 30.0
    transfer_s: float = 60.0
    keepalive_s: float = 15.0
    keepalive_answer_s: float = 45.0


DEFAULT_TIMEOUTS: Final = Timeouts()


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
        hops: list[paramiko.Transport] = []
        try:
            _open_hops(_Login(board, accept_new_host_key, timeouts), parse_address(board.address), None, hops, True)
        except BaseException:
            _close_links(hops)
            raise
        return cls(board.name, hops, timeouts)

    def _keep_alive(self) -> None:
        while not self._closed.wait(self._timeouts.keepalive_s) and self._link.is_active():
            asked = threading.Thread(target=self._ask, daemon=True, name="lightnas-keepalive-ask")
            asked.start()
            asked.join(self._timeouts.keepalive_answer_s)
            if asked.is_alive():
                _close_links(self._hops)
                return

    def _ask(self) -> None:
        with contextlib.suppress(Exception):  # a link dying under the question is what its readers will report
            self._link.global_request("keepalive@openssh.com", wait=True)

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:
        command = one_line(" ".join(argv), 80)
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
            if not self._link.is_active():
                raise self._lost(command)
            if not channel.status_event.is_set() or any(worker.is_alive() for worker in workers[:2]):
                self._kill(pid, "KILL")
                raise TransportTimeout(f"{self.name}: {command} took longer than {timeout_s:g} s and was killed")
        except KeyboardInterrupt:
            self._kill(pid, "KILL")
            raise
        finally:
            channel.close()
        return Completed(channel.exit_status, bytes(stdout), bytes(stderr))

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None) -> Process:
        full = [*(["env", *(f"{key}={value}" for key, value in env.items())] if env else []), *argv]
        script, full = (_START, full) if cwd is None else (_START_IN_FOLDER, [cwd, *full])
        channel, pid, head = self._start(full, script, self._timeouts.channel_s)
        process = SshProcess(self, channel, pid, head, one_line(" ".join(argv), 80))
        self._processes.append(process)
        return process

    def _start(self, argv: Sequence[str], script: str, timeout_s: float) -> tuple[paramiko.Channel, int, bytes]:
        """Starts `sh script argv`; returns its channel, process id, and what of its output has already come."""
        command = "exec " + " ".join(shlex.quote(word) for word in ["sh", "-c", script, "sh", *argv])
        with self._errors(f"starting {one_line(' '.join(argv), 80)}"):
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
                        if not self._link.is_active():
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
            channel.exec_command(f"kill -{signal} -- -{pid} 2>/dev/null || kill -{signal} {pid} 2>/dev/null")
            channel.status_event.wait(self._timeouts.channel_s)
            channel.close()

    def put(self, data: bytes | Path, remote_path: str, *, mode: int = 0o644) -> None:
        temporary = f"{absolute(remote_path)}.{secrets.token_hex(4)}.part"
        sftp = self._sftp()
        with self._errors(f"writing {remote_path}", sftp), _opened(data) as source:
            try:
                sftp.putfo(source, temporary)
                sftp.chmod(temporary, mode)
                sftp.posix_rename(temporary, remote_path)
            except BaseException:
                with contextlib.suppress(Exception):
                    sftp.remove(temporary)
                raise

    def get(self, remote_path: str) -> bytes:
        sftp, target = self._sftp(), io.BytesIO()
        with self._errors(f"reading {absolute(remote_path)}", sftp):
            sftp.getfo(remote_path, target)
        return target.getvalue()

    def exists(self, remote_path: str) -> bool:
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
                    if not self._link.is_active():
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
            raise TransportTimeout(f"{self.name}: {doing} stood still for too long; is the board overloaded?") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not self._link.is_active() or isinstance(error, EOFError):
                raise self._lost(doing) from error
            reason = getattr(error, "strerror", None) or one_line(str(error)) or type(error).__name__
            hint = "; is the disk full, or the folder not ours?" if reason == "Failure" else ""
            raise LatencyError(f"{self.name}: {doing} failed: {reason}{hint}") from error

    def _lost(self, doing: str) -> ConnectionLost:
        return ConnectionLost(f"{self.name}: the link broke while {doing}; start again to resume")

    def close(self) -> None:
        while self._processes:
            self._processes.pop().close()
        self._closed.set()
        _close_links(self._hops)


class SshProcess(StreamProcess):
    """A process on the board."""

    def __init__(self, transport: SshTransport, channel: paramiko.Channel, pid: int, head: bytes, command: str) -> None:
        super().__init__(command, transport.name)
        self._transport, self._channel, self._pid = transport, channel, pid
        self._start_reading(_after(head, channel.recv), lambda: channel.recv_stderr(_CHUNK_BYTES))

    def send_line(self, line: str) -> None:
        data = encode_line(line)
        try:
            self._channel.sendall(data)
        except (OSError, EOFError, paramiko.SSHException):
            raise self._end_error() from None

    @property
    def exit_status(self) -> int | None:
        return self._wait(0.0)

    def _wait(self, timeout_s: float) -> int | None:
        # A channel torn down with its link sets the event, too, with paramiko's −1: that is not an exit status.
        if not self._channel.status_event.wait(timeout_s):
            return None
        if self._channel.exit_status == -1 and not self._transport._link.is_active():
            return None
        return self._channel.exit_status

    def close(self) -> None:
        if not self._channel.closed:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._channel.shutdown_write()
            # No grace over a dead link: nothing of it can be heard any more.
            for signal, patience_s in (("TERM", GRACE_S), ("KILL", 2.0)):
                if self._channel.status_event.wait(patience_s):
                    break
                self._transport._kill(self._pid, signal)
        self._channel.close()
        for thread in self._threads:
            thread.join(timeout=1.0)


@dataclasses.dataclass(frozen=True)
class _Login:
    """What all hops of one connection share."""

    board: Board
    accept_new_host_key: bool
    timeouts: Timeouts


def _open_hops(
    login: _Login, address: Address, jumps: Sequence[str] | None, hops: list[paramiko.Transport], last: bool
) -> None:
    """Opens the link to `address`, first the hops before it; appends each link to `hops`.

    Args:
        login: the board and what applies to all hops.
        address: where to.
        jumps: the hops before it; None takes them from the address's own configuration.
        hops: the links open so far.
        last: whether this is the board itself, for which its identity file is meant.
    """
    config = lookup(address)
    name = login.board.name
    if config.proxy_command is not None and not config.proxy_jump and jumps is None:
        raise BoardUnreachable(f"{name}: ProxyCommand is set for {address.host} but not supported: use ProxyJump in ~/.ssh/config")
    chain = list(config.proxy_jump if jumps is None else jumps)
    if chain:
        before = parse_address(chain[-1].removeprefix("ssh://").rstrip("/"))
        resolved = lookup(before)
        # A 'Host *' block's ProxyJump matches the jump host itself; OpenSSH skips it there, too.
        if (resolved.host, resolved.port, resolved.user) == (config.host, config.port, config.user):
            chain = []
    if len(chain) + len(hops) > _MAX_HOPS or _depth.value > _MAX_HOPS:
        raise BoardUnreachable(f"{name}: more than {_MAX_HOPS} jumps to reach {address.host}: does ProxyJump go round in a circle?")
    if chain:
        _depth.value += 1
        try:
            _open_hops(login, before, chain[:-1] or None, hops, False)
        finally:
            _depth.value -= 1
        sock: socket.socket | paramiko.Channel = _tunnel(login, hops[-1], config)
    else:
        sock = _tcp(login, config)
    link = _handshake(login, config, sock, bool(chain))
    hops.append(link)
    _authenticate(login, config, link, last)
