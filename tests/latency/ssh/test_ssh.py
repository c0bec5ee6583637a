"""SSH against real servers on loopback: trust, login, jumps, and every way a link can go wrong."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import getpass
import hashlib
import hmac
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from loopback import keygen
from processes import wait_for

from latency.board import Board
from latency.errors import (
    AuthenticationRefused,
    BoardUnfit,
    BoardUnreachable,
    ConnectionLost,
    HostKeyRejected,
    LatencyError,
)
from latency.reach import connect
from latency.ssh import SshTransport
from latency.ssh.login import Timeouts
from latency.transport import ProcessEnded

BOARD = Board("pi", "board")
MUTE = Timeouts(handshake_s=1)
"""For a server that never says a word; a loaded machine's sshd may need longer for its first."""
ASKING = Timeouts(keepalive_s=0.2)


def refusal(kind: type[LatencyError], board: Board = BOARD, **options: Any) -> str:
    """The message of a connection that must fail; always one line naming the board."""
    with pytest.raises(kind) as caught:
        SshTransport.connect(board, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{board.name}: ")
    return message


def works(board: Board = BOARD, **options: Any) -> bool:
    with SshTransport.connect(board, **options) as link:
        return link.run(["echo", "yes"], timeout_s=30).stdout == b"yes\n"


# Trust.


def test_a_known_key_is_trusted(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd)
    with connect(BOARD) as link:
        assert link.run(["echo", "yes"], timeout_s=30).stdout == b"yes\n"


def test_an_unknown_key_is_refused_with_the_fix(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd, trust=False)
    message = refusal(HostKeyRejected)
    digest = hashlib.sha256(base64.b64decode(sshd.host_key.split()[1])).digest()
    assert base64.b64encode(digest).decode().rstrip("=") in message
    assert "--accept-new-host-key" in message
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> {ssh_home.known_hosts}" in message
    assert not ssh_home.known_hosts.exists()


def test_an_unknown_key_is_accepted_once_and_remembered(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd, trust=False)
    assert works(accept_new_host_key=True)
    assert ssh_home.known_hosts.read_text() == sshd.known_hosts_line()
    assert stat.S_IMODE(ssh_home.known_hosts.stat().st_mode) == 0o600
    assert works()


def test_accepting_keeps_what_the_file_held(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd, trust=False)
    ssh_home.known_hosts.write_text("other ssh-ed25519 AAAA")
    assert works(accept_new_host_key=True)
    assert ssh_home.known_hosts.read_text() == "other ssh-ed25519 AAAA\n" + sshd.known_hosts_line()


@pytest.mark.parametrize("accept", [False, True])
def test_a_changed_key_is_refused_naming_file_and_line(ssh_home: Any, sshd: Any, tmp_path: Path, accept: bool) -> None:
    ssh_home.add("board", sshd, trust=False)
    other = keygen(tmp_path / "other")
    old = " ".join(Path(f"{other}.pub").read_text().split()[:2])
    ssh_home.known_hosts.write_text(f"# mine\n[127.0.0.1]:{sshd.port} {old}\n")
    message = refusal(HostKeyRejected, accept_new_host_key=accept)
    assert "CHANGED" in message
    assert f"{ssh_home.known_hosts}, line 2" in message
    assert f"ssh-keygen -f '{ssh_home.known_hosts}' -R '[127.0.0.1]:{sshd.port}'" in message


def test_a_hashed_entry_is_found(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd, trust=False)
    salt = os.urandom(20)
    digest = hmac.new(salt, f"[127.0.0.1]:{sshd.port}".encode(), hashlib.sha1).digest()
    name = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    ssh_home.known_hosts.write_text(f"{name} {sshd.host_key}\n")
    assert works()


def test_a_revoked_key_is_refused(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd)
    with ssh_home.known_hosts.open("a") as file:
        file.write(f"@revoked * {sshd.host_key}\n")
    assert "revoked" in refusal(HostKeyRejected, accept_new_host_key=True)


def test_a_host_key_alias_is_looked_up(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd, "HostKeyAlias my-pi", trust=False)
    ssh_home.known_hosts.write_text(f"my-pi {sshd.host_key}\n")
    assert works()


def test_of_several_host_keys_the_known_kind_is_asked_for(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> None:
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa], check=True)
    server = start_sshd(f"HostKey {rsa}")
    ssh_home.add("board", server, trust=False)
    key = " ".join(Path(f"{rsa}.pub").read_text().split()[:2])
    ssh_home.known_hosts.write_text(f"[127.0.0.1]:{server.port} {key}\n")
    assert works()


# Login.


def test_a_refused_key_says_how_to_install_one(ssh_home: Any, sshd: Any, tmp_path: Path) -> None:
    ssh_home.add("board", sshd, key=keygen(tmp_path / "stranger"))
    message = refusal(AuthenticationRefused)
    assert f"ssh-copy-id -p {sshd.port} {getpass.getuser()}@127.0.0.1" in message
    assert "1 key(s)" in message


def test_the_boards_identity_file_goes_first(ssh_home: Any, sshd: Any, tmp_path: Path) -> None:
    ssh_home.add("board", sshd, key=keygen(tmp_path / "stranger"))
    assert works(Board("pi", "board", identity_file=str(sshd.client_key)))


def test_a_missing_identity_file_is_named(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd)
    assert "/no/such/key does not exist" in refusal(
        AuthenticationRefused, Board("pi", "board", identity_file="/no/such/key")
    )


def test_a_broken_identity_file_is_named(ssh_home: Any, sshd: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("nonsense")
    ssh_home.add("board", sshd, key=tmp_path / "key")
    assert f"{tmp_path}/key is no private key" in refusal(AuthenticationRefused)


@pytest.fixture
def agent(ssh_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sock = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
    # Its socket is there a moment before it listens: 1 is an agent without keys, 2 is none.
    wait_for(lambda: subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode == 1)
    yield
    process.terminate()
    process.wait(60)


def lock(key: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", str(key)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def test_a_locked_key_asks_for_the_agent(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> None:
    key = keygen(tmp_path / "key")
    server = start_sshd(client_key=key)
    lock(key)
    ssh_home.add("board", server)
    message = refusal(AuthenticationRefused)
    assert f"ssh-add {key}" in message
    assert "secret" not in message


@pytest.mark.usefixtures("agent")
def test_the_agent_signs_for_a_locked_key(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> None:
    key = keygen(tmp_path / "key")
    server = start_sshd(client_key=key)
    subprocess.run(["ssh-add", "-q", str(key)], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lock(key)
    ssh_home.add("board", server)
    assert works()


@pytest.mark.usefixtures("agent")
def test_the_agents_other_keys_come_last_and_only_if_allowed(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> None:
    key = keygen(tmp_path / "key")
    server = start_sshd(client_key=key)
    subprocess.run(["ssh-add", "-q", str(key)], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ssh_home.add("board", server, key=keygen(tmp_path / "stranger"))
    refusal(AuthenticationRefused)
    ssh_home.config.write_text(ssh_home.config.read_text().replace("IdentitiesOnly yes", "IdentitiesOnly no"))
    assert works()


def test_a_server_without_keys_is_explained(ssh_home: Any, start_sshd: Any) -> None:
    server = start_sshd("PubkeyAuthentication no", "PasswordAuthentication yes")
    ssh_home.add("board", server)
    assert "takes no keys, only password" in refusal(AuthenticationRefused)


# Reaching.


def test_a_closed_port_is_named(ssh_home: Any) -> None:
    with socket.socket() as held:  # without listening: nobody else can take it
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        message = refusal(BoardUnreachable, Board("pi", f"127.0.0.1:{port}"))
    assert f"127.0.0.1 port {port}" in message
    assert "refused" in message


def test_an_unknown_name_is_named(ssh_home: Any) -> None:
    assert "no-such-host.invalid" in refusal(BoardUnreachable, Board("pi", "no-such-host.invalid"))


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []
        threading.Thread(target=lambda: held.append(server.accept()), daemon=True).start()
        yield server.getsockname()[1]
        for connection, _ in held:
            connection.close()


def test_a_mute_server_times_out(ssh_home: Any, mute: int) -> None:
    assert "not as an SSH server" in refusal(BoardUnreachable, Board("pi", f"127.0.0.1:{mute}"), timeouts=MUTE)


def test_another_kind_of_server_is_told(ssh_home: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        board = Board("pi", f"127.0.0.1:{server.getsockname()[1]}")
        assert "is sshd running there" in refusal(BoardUnreachable, board)


def test_an_old_server_is_told_from_a_missing_one(ssh_home: Any, start_sshd: Any) -> None:
    server = start_sshd("KexAlgorithms diffie-hellman-group14-sha1")
    ssh_home.add("board", server)
    assert "SHA-1" in refusal(BoardUnreachable)


def test_an_account_without_commands_is_unfit(ssh_home: Any, start_sshd: Any) -> None:
    server = start_sshd("ForceCommand echo go away")
    ssh_home.add("board", server)
    with SshTransport.connect(BOARD) as link, pytest.raises(BoardUnfit, match="go away"):
        link.run(["true"], timeout_s=30)


def test_a_server_without_sftp_is_unfit(ssh_home: Any, start_sshd: Any) -> None:
    server = start_sshd(sftp=False)
    ssh_home.add("board", server)
    with SshTransport.connect(BOARD) as link, pytest.raises(BoardUnfit, match="SFTP"):
        link.put(b"", "/tmp/never")


def test_noise_of_a_login_shell_is_dropped(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    noisy.write_text('#!/bin/sh\necho "Welcome to my board!"\neval "$SSH_ORIGINAL_COMMAND"\n')
    noisy.chmod(0o755)
    server = start_sshd(f"ForceCommand {noisy}")
    ssh_home.add("board", server)
    with SshTransport.connect(BOARD) as link:
        assert link.run(["echo", "x"], timeout_s=30).stdout == b"x\n"
        with link.spawn(["cat"]) as process:
            process.send_line("first")
            assert process.read_line(30) == "first"


# Jumps.


def test_a_jump_through_another_server(ssh_home: Any, start_sshd: Any, sshd: Any) -> None:
    jump = start_sshd()
    ssh_home.add("jump", jump)
    ssh_home.add("board", sshd, "ProxyJump jump")
    assert works()
    assert "accepted" in (jump.folder / "log").read_text().lower()


def test_two_jumps_with_their_own_settings(ssh_home: Any, start_sshd: Any, sshd: Any) -> None:
    first, second = start_sshd(), start_sshd()
    ssh_home.add("first", first)
    ssh_home.add("second", second)
    ssh_home.add("board", sshd, "ProxyJump first,second")
    assert works()
    for server in (first, second):
        assert "accepted" in (server.folder / "log").read_text().lower()


def test_the_jumps_key_is_verified(ssh_home: Any, start_sshd: Any, sshd: Any) -> None:
    jump = start_sshd()
    ssh_home.add("jump", jump, trust=False)
    ssh_home.add("board", sshd, "ProxyJump jump")
    assert f"[127.0.0.1]:{jump.port}" in refusal(HostKeyRejected)


def test_the_key_behind_a_jump_is_verified(ssh_home: Any, start_sshd: Any) -> None:
    jump, target = start_sshd(), start_sshd()
    ssh_home.add("jump", jump)
    ssh_home.add("board", target, "ProxyJump jump", trust=False)
    message = refusal(HostKeyRejected)
    assert f"[127.0.0.1]:{target.port}" in message
    assert "ssh-keyscan" not in message  # it could not get there


def test_a_board_out_of_the_jumps_reach_is_told(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("jump", sshd)
    ssh_home.config.open("a").write("Host board\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump jump\n")
    assert "the jump host cannot reach 127.0.0.1 port 1" in refusal(BoardUnreachable)


def test_jumps_in_a_circle_are_told(ssh_home: Any) -> None:
    ssh_home.config.write_text("Host board\n  ProxyJump a\nHost a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    assert "circle" in refusal(BoardUnreachable)


def test_a_jump_that_matches_itself_goes_directly(ssh_home: Any, start_sshd: Any, sshd: Any) -> None:
    ssh_home.add("jump", start_sshd())
    ssh_home.add("board", sshd)
    ssh_home.config.open("a").write("Host *\n  ProxyJump jump\n")
    assert works()


def test_a_proxy_command_is_not_ignored(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd, "ProxyCommand nc %h %p")
    assert "ProxyJump" in refusal(BoardUnreachable)


# Links that break.


def kill_sessions(server: Any) -> None:
    for pid in server.sessions():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_cut_link_is_no_crash_and_ends_the_process(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> None:
    server = start_sshd()
    ssh_home.add("board", server)
    with SshTransport.connect(BOARD) as link:
        process = link.spawn(["sh", "-c", f"echo up; cat > /dev/null; echo ended > {tmp_path}/mark"])
        assert process.read_line(30) == "up"
        kill_sessions(server)
        with pytest.raises(ConnectionLost, match="start again to resume") as caught:
            process.read_line(30)
        assert not isinstance(caught.value, ProcessEnded)
        assert process.exit_status is None
        wait_for((tmp_path / "mark").exists)
        with pytest.raises(ConnectionLost):
            process.send_line("x")
        for use in (
            lambda: link.run(["true"], timeout_s=5),
            lambda: link.put(b"", "/tmp/x"),
            lambda: link.spawn(["cat"]),
        ):
            with pytest.raises(ConnectionLost):
                use()


@pytest.mark.parametrize("use", ["process", "run", "put"])
def test_a_cut_link_is_none_of_the_process_though_it_is_told_late(
    ssh_home: Any, start_sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    """paramiko ends the channels first; then its thread may have to wait for its turn."""
    unlink = paramiko.Channel._unlink

    def slowly(self: paramiko.Channel) -> None:
        unlink(self)
        time.sleep(0.05)

    monkeypatch.setattr(paramiko.Channel, "_unlink", slowly)
    server = start_sshd()
    ssh_home.add("board", server)
    with SshTransport.connect(BOARD) as link:
        process = link.spawn(["sh", "-c", "echo up; exec cat"])
        assert process.read_line(30) == "up"
        link.put(b"", f"{tmp_path}/file")
        if use == "run":
            threading.Timer(0.5, kill_sessions, [server]).start()
        else:
            kill_sessions(server)
        uses: dict[str, Callable[[], object]] = {
            "process": lambda: process.read_line(30),
            "run": lambda: link.run(["sleep", "60"], timeout_s=30),
            "put": lambda: link.put(b"x" * 1_000_000, f"{tmp_path}/file"),
        }
        with pytest.raises(ConnectionLost) as caught:
            uses[use]()
        assert not isinstance(caught.value, ProcessEnded)


def test_a_link_cut_while_a_command_runs(ssh_home: Any, start_sshd: Any) -> None:
    server = start_sshd()
    ssh_home.add("board", server)
    with SshTransport.connect(BOARD) as link:
        threading.Timer(0.5, kill_sessions, [server]).start()
        with pytest.raises(ConnectionLost):
            link.run(["sleep", "60"], timeout_s=30)


def test_a_link_cut_while_uploading_leaves_no_file(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> None:
    server = start_sshd()
    ssh_home.add("board", server)
    endless = tmp_path / "endless"
    os.mkfifo(endless)

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), endless.open("wb") as pipe:
            pipe.write(os.urandom(10_000_000))
            kill_sessions(server)
            while True:
                pipe.write(bytes(65536))

    feeder = threading.Thread(target=feed, daemon=True)
    with SshTransport.connect(BOARD) as link:
        feeder.start()
        with pytest.raises(ConnectionLost):
            link.put(endless, f"{tmp_path}/file")
    feeder.join(60)
    assert not (tmp_path / "file").exists()


def test_a_hung_board_is_given_up_by_the_keepalive(ssh_home: Any, start_sshd: Any) -> None:
    server = start_sshd()
    ssh_home.add("board", server)
    with SshTransport.connect(BOARD, timeouts=dataclasses.replace(ASKING, keepalive_answer_s=5)) as link:
        process = link.spawn(["cat"])
        for pid in server.sessions():
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ConnectionLost):
            process.read_line(60)


def test_the_keepalive_leaves_a_quiet_link_alone(ssh_home: Any, sshd: Any) -> None:
    ssh_home.add("board", sshd)
    with SshTransport.connect(BOARD, timeouts=ASKING) as link:
        assert link.run(["sh", "-c", "sleep 2; echo done"], timeout_s=30).stdout == b"done\n"


def test_a_hung_transfer_times_out(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> None:
    server = start_sshd()
    ssh_home.add("board", server)
    link = SshTransport.connect(BOARD)
    try:
        link.put(b"x", f"{tmp_path}/file")
        # Only from here on: a loaded machine's disk may well need a second for the first.
        link._timeouts = Timeouts(transfer_s=0.5, channel_s=1)
        link._sftp().get_channel().settimeout(0.5)
        for pid in server.sessions():
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(LatencyError, match="stood still"):
            link.put(b"y", f"{tmp_path}/file")
        with pytest.raises(LatencyError, match="stood still"):
            link.run(["true"], timeout_s=1)
    finally:
        link.close()


def test_nothing_is_logged_to_the_terminal(ssh_home: Any, start_sshd: Any) -> None:
    server = start_sshd("KexAlgorithms diffie-hellman-group14-sha1")
    ssh_home.add("board", server)
    script = (
        "from latency.board import Board\nfrom latency.errors import LatencyError\n"
        "from latency.reach import connect\n"
        "try: connect(Board('pi', 'board'))\nexcept LatencyError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
