"""The patient link: a real sshd and the real runner, behind a cable that can be cut."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import is_running, wait_for

from latency import link as module
from latency.board import Board
from latency.engines import get_engine
from latency.errors import BoardBusy, BoardUnfit, BoardUnreachable, ConnectionLost, HostKeyRejected, LatencyError
from latency.link import PatientLink
from latency.onboard import main
from latency.session import IDLE_STATUS, RunnerSession, owner
from latency.ssh import SshTransport
from latency.ssh.login import Timeouts
from nas.graph import Graph

SFTP_SERVER = next(
    (path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
     if Path(path).exists()), "internal-sftp",
)  # fmt: skip
WATCHED = Timeouts(keepalive_s=0.3, keepalive_answer_s=5.0)
"""Finds out soon that a cable is cut. All other ends are told; who only waits gives a loaded machine its time."""


class Cable:
    """A TCP relay to a port of this machine. Cut, it takes what comes and tells nobody, as a cable does."""

    def __init__(self, port: int) -> None:
        self._target, self.whole = port, True
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._sockets: list[socket.socket] = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self._sockets.append(near)
                if not self.whole:
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._sockets.append(far)
                alive = threading.Event()
                alive.set()
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=(source, sink, alive), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, alive: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while True:
                try:
                    data = source.recv(65536)
                except ConnectionResetError:  # an end, too: of a far end that was killed with something unread
                    data = b""
                if not self.whole:
                    alive.clear()  # what one end has not heard cannot be made up for: this connection is dead
                if not alive.is_set():
                    return
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)

    def pull(self) -> None:
        """Ends every connection, and tells."""
        for each in self._sockets[1:]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.pull()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for each in self._sockets:
            each.close()


class PlayedBoard:
    """This machine as a board: a real sshd, our own Python as the board's, a cable to it."""

    def __init__(self, ssh_home: Any, start_sshd: Any, folder: Path) -> None:
        self.cache, self.entry = folder / "cache", folder / "entry"
        self.timeouts = Timeouts()
        self.write_entry("sh")
        self.server = start_sshd(f"ForceCommand {self.entry}", f"Subsystem sftp {SFTP_SERVER}", sftp=False)
        self.cable = Cable(self.server.port)
        self.home = ssh_home
        ssh_home.add("board", self.server, f"HostKeyAlias played-{self.server.port}", trust=False)
        ssh_home.config.write_text(
            ssh_home.config.read_text().replace(f"Port {self.server.port}", f"Port {self.cable.port}")
        )
        self.trust(self.server.host_key)
        self.board = Board("pi", "board")

    def trust(self, key: str) -> None:
        self.home.known_hosts.write_text(f"played-{self.server.port} {key}\n")

    def write_entry(self, shell: str) -> None:
        binaries = Path(sys.executable).parent
        self.entry.write_text(
            f"#!/bin/sh\nexport PATH={binaries}:$PATH XDG_CACHE_HOME={self.cache}\n"
            f'exec {shell} -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        self.entry.chmod(0o755)

    @property
    def lock(self) -> Path:
        return self.cache / "lightnas" / "lock"

    def hang_up(self) -> None:
        """Ends every connection, as a reboot does."""
        for pid in self.server.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def played(ssh_home: Any, start_sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedBoard]:
    made = PlayedBoard(ssh_home, start_sshd, tmp_path)
    monkeypatch.setattr(module, "connect", lambda board, **options: SshTransport.connect(board, timeouts=made.timeouts))
    monkeypatch.setattr(module, "_WAIT_S", (0.05, 0.2))
    yield made
    made.cable.close()
    made.hang_up()


def network() -> Any:
    g = Graph((3, 8, 8))
    g.linear(g.global_pool(g.conv(g.input, 4, kernel=3, path="stem"), path="pool"), 2, path="fc")
    return get_engine("ncnn").build(g)


def visit(session: RunnerSession) -> None:
    session.load("n", network(), timed=False)
    [(name, runs)] = session.measure(["n"], runs=1, warm=0)
    assert name == "n"
    assert runs.whole[0] > 0


def pid_of(session: RunnerSession) -> int:
    return int(session.facts["pid"])


def lose(session: RunnerSession) -> None:
    with pytest.raises(ConnectionLost):
        visit(session)
    assert session.lost
    session.close()


@pytest.mark.slow
def test_a_cut_cable_is_waited_out_and_the_runner_left_behind_is_ended(played: PlayedBoard) -> None:
    waits: list[tuple[str, float]] = []

    def note(reason: str, waited_s: float) -> None:
        waits.append((reason, waited_s))
        played.cable.whole, played.timeouts = True, WATCHED

    played.timeouts = WATCHED
    with PatientLink(played.board, on_wait=note) as link:
        first = link.open_session()
        visit(first)
        left = pid_of(first)
        played.cable.whole, played.timeouts = False, dataclasses.replace(WATCHED, handshake_s=1.0)
        lose(first)
        assert is_running(left), "nobody told it"
        with link.open_session() as second:
            wait_for(lambda: not is_running(left))
            visit(second)
            last = pid_of(second)
        assert last != left
    wait_for(lambda: not is_running(last))
    assert waits
    assert waits[0][0].startswith("pi: ")
    assert waits[0][1] >= 0
    assert all("\n" not in reason for reason, _ in waits)


def test_a_link_hung_up_is_made_anew_without_waiting(played: PlayedBoard) -> None:
    waits: list[str] = []
    with PatientLink(played.board, on_wait=lambda reason, waited_s: waits.append(reason)) as link:
        first = link.open_session()
        old = link.transport
        played.hang_up()
        lose(first)
        with link.open_session() as second:
            visit(second)
        assert link.transport is not old
        assert not old.alive
        assert link.deployment.uploaded_bytes == 0
    assert waits == []


def test_a_runner_that_died_is_started_again_on_the_same_link(played: PlayedBoard) -> None:
    with PatientLink(played.board) as link:
        first, transport = link.open_session(), link.transport
        os.kill(pid_of(first), signal.SIGKILL)
        with pytest.raises(LatencyError):
            visit(first)
        first.close()
        assert not first.lost
        with link.open_session() as second:
            visit(second)
        assert link.transport is transport


def test_a_runner_that_hangs_is_ended(played: PlayedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    with PatientLink(played.board) as link:
        first = link.open_session()
        os.kill(pid_of(first), signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr("latency.session.PATIENCE_S", 0.3)
            patch.setattr("latency.ssh.transport.GRACE_S", 0.1)
            with pytest.raises(ConnectionLost, match="did not answer for"):
                visit(first)
        with link.open_session() as second:
            wait_for(lambda: not is_running(pid_of(first)))
            visit(second)


def test_patience_ends_in_one_line_that_tells_how_to_go_on(played: PlayedBoard) -> None:
    waited: list[float] = []
    with PatientLink(played.board, patience_s=5.0, on_wait=lambda reason, waited_s: waited.append(waited_s)) as link:
        first = link.open_session()
        played.server.stop()
        lose(first)
        with pytest.raises(ConnectionLost, match=r"pi: not back after \d+ s .*run the same command again") as caught:
            link.open_session()
        assert "\n" not in str(caught.value)
        assert len(waited) > 1
        assert waited == sorted(waited)
        tries = len(waited)
        with pytest.raises(ConnectionLost) as again:
            link.open_session()
        assert again.value is caught.value, "given up is given up"
        assert len(waited) == tries


def test_a_board_never_reached_fails_at_once(ssh_home: Any) -> None:
    waits: list[str] = []
    link = PatientLink(Board("pi", "127.0.0.1:1"), on_wait=lambda reason, waited_s: waits.append(reason))
    with pytest.raises(BoardUnreachable), link:
        pass
    assert waits == []


def test_a_changed_host_key_is_never_waited_out(played: PlayedBoard, tmp_path: Path) -> None:
    with PatientLink(played.board) as link:
        first = link.open_session()
        played.hang_up()
        lose(first)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
        played.trust(" ".join((tmp_path / "other.pub").read_text().split()[:2]))
        with pytest.raises(HostKeyRejected, match="CHANGED"):
            link.open_session()


def test_a_refusal_counts_when_it_is_repeated(played: PlayedBoard) -> None:
    refusals: list[str] = []
    with PatientLink(played.board, on_wait=lambda reason, waited_s: refusals.append(reason)) as link:
        first = link.open_session()
        played.hang_up()
        lose(first)
        played.write_entry("false")
        with pytest.raises(BoardUnfit, match="runs no commands"):
            link.open_session()
        assert len(refusals) == 1
        played.write_entry("sh")
        with link.open_session() as second:
            visit(second)


def test_another_machine_behind_the_same_address_is_refused(played: PlayedBoard) -> None:
    with PatientLink(played.board) as link:
        first = link.open_session()
        played.hang_up()
        lose(first)
        played.write_entry("linux32 sh")
        with pytest.raises(LatencyError, match=r"another board or engine \(machine was \w+, now it is \w+\)"):
            link.open_session()


def test_a_board_whose_disk_is_full_goes_on(played: PlayedBoard) -> None:
    with PatientLink(played.board) as link:
        first = link.open_session()
        played.hang_up()
        lose(first)
        played.write_entry("prlimit --fsize=0 sh")  # not a byte may be written to any file
        with link.open_session() as second:
            visit(second)


@pytest.mark.slow
def test_a_board_lost_again_and_again_before_anything_runs_is_given_up(
    played: PlayedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRUITLESS", 2)
    with PatientLink(played.board) as link:
        for useful in (False, True, False):
            session = link.open_session()
            if useful:
                visit(session)  # it counts anew from here
            played.hang_up()
            lose(session)
        with pytest.raises(ConnectionLost, match="lost 2 times in a row before one network had run"):
            link.open_session()


@contextlib.contextmanager
def held(lock: Path, holder: str) -> Iterator[Callable[[], None]]:
    """Somebody else's runner, as far as the lock tells; yields what ends it."""
    with lock.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{holder} (runner pid 1 on elsewhere)\n")
        file.flush()
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)


def test_somebody_elses_measurement_is_not_waited_for(played: PlayedBoard) -> None:
    waits: list[str] = []
    with PatientLink(played.board, on_wait=lambda reason, waited_s: waits.append(reason)) as link:
        holders = ["eve@elsewhere pid 7 0123", owner().replace(str(os.getpid()), str(os.getppid())), "gibberish"]
        for holder in holders:
            with held(played.lock, holder), pytest.raises(BoardBusy, match="is being measured by"):
                link.open_session()
        assert waits == []


def test_a_runner_of_an_earlier_run_of_ours_is_waited_for(played: PlayedBoard) -> None:
    finished = subprocess.Popen(["true"])
    finished.wait()
    with PatientLink(played.board) as link:
        holder = owner().replace(f"pid {os.getpid()} ", f"pid {finished.pid} ")
        waits: list[str] = []
        with held(played.lock, holder) as end:

            def note(reason: str, waited_s: float) -> None:
                waits.append(reason)
                end()

            link._on_wait = note
            with link.open_session() as session:
                visit(session)
        assert len(waits) == 1
        assert "is being measured by" in waits[0]


def test_a_local_board_has_no_link_to_lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with PatientLink(Board("here", "local")) as link:
        with link.open_session() as session:
            visit(session)
        assert link.transport.alive
        with link.open_session() as session:
            visit(session)


def test_a_closed_link_says_so() -> None:
    link = PatientLink(Board("here", "local"))
    for use in (lambda: link.transport, lambda: link.deployment):
        with pytest.raises(ConnectionLost, match="the link is closed"):
            use()


# The two ends notice by themselves.

LEFT_ALONE = (
    f"import sys; sys.path.insert(0, {str(Path(main.__file__).parents[1])!r}); "
    "from onboard import main, server; sys.path.pop(0); server.IDLE_S = {idle_s}; main.run()"
)


def start_left_alone() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", LEFT_ALONE.format(idle_s=1)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_a_runner_nobody_asks_ends() -> None:
    with start_left_alone() as process:
        assert process.wait(60) == IDLE_STATUS == main.IDLE_STATUS


def test_a_runner_nobody_listens_to_ends() -> None:
    with contextlib.suppress(BrokenPipeError), start_left_alone() as process:
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            for _ in range(20):  # each is answered with an error that repeats the word: more than the pipe takes
                process.stdin.write(json.dumps({"do": "state", "x" * 10_000: 0}).encode() + b"\n")
                process.stdin.flush()
        assert process.wait(60) == IDLE_STATUS


def test_an_idle_end_is_a_loss_and_no_crash(played: PlayedBoard) -> None:
    with PatientLink(played.board) as link:
        path = played.cache / "idle.py"
        path.write_text(LEFT_ALONE.format(idle_s=3).replace("; ", "\n"))  # hello has to come sooner
        link._deployment = module.deploy(link.transport, "ncnn")
        object.__setattr__(link._deployment, "runner_path", str(path))
        session = link.open_session()
        wait_for(lambda: not is_running(pid_of(session)))
        lose(session)


@pytest.mark.slow
def test_the_keepalive_asks_nothing_while_the_board_talks(played: PlayedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Timeouts(keepalive_s=5.0)  # a loaded machine may stop for longer than a line takes
    with SshTransport.connect(played.board, timeouts=patient) as transport:
        asked: list[float] = []
        monkeypatch.setattr(transport, "_ask", lambda: asked.append(time.monotonic()))
        script = "i=0; while [ $i -lt 120 ]; do echo $i; sleep 0.1; i=$((i+1)); done; read nothing"
        with transport.spawn(["sh", "-c", script]) as talk:
            for _ in range(120):  # more than two such times
                talk.read_line(60)
            talked_until = time.monotonic()
            assert talk.exit_status is None
            while not asked and time.monotonic() < talked_until + 60:
                time.sleep(0.1)
        assert [when for when in asked if when < talked_until] == []
        assert asked, "silence is asked about"


def test_a_server_that_hangs_up_in_the_middle_of_the_login_is_no_refusal(
    played: PlayedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    import paramiko

    def cut(self: paramiko.Transport, *_: Any) -> None:
        played.cable.pull()
        deadline = time.monotonic() + 60
        while self.is_active() and time.monotonic() < deadline:
            time.sleep(0.02)
        raise paramiko.AuthenticationException("Authentication failed: transport shut down or saw EOF")

    monkeypatch.setattr(paramiko.Transport, "auth_publickey", cut)
    with pytest.raises(BoardUnreachable, match="hung up in the middle of the login"):
        SshTransport.connect(played.board)
