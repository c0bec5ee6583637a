"""Real far ends for the tests of latency: OpenSSH servers on loopback, and an emulated ARM board."""

from __future__ import annotations

import dataclasses
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from latency.board import Board
from latency.ssh import SshTransport
from latency.transport import LocalTransport, Transport

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
QEMU_SCRIPTS = Path(__file__).parent / "qemu"


def eventually(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Waits for something that another process is about to do."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keygen(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


@dataclasses.dataclass
class SshServer:
    """An sshd of our own: its key, its port, its only client key, and its process."""

    folder: Path
    port: int
    client_key: Path
    process: subprocess.Popen[bytes]

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def known_hosts_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.host_key}\n"

    def sessions(self) -> list[int]:
        """The processes that serve a connection each."""
        return children(self.process.pid)

    def stop(self) -> None:
        """Ends the server and every connection it still serves."""
        tree = [self.process.pid, *descendants(self.process.pid)]
        for pid in reversed(tree):
            try:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def descendants(pid: int) -> list[int]:
    return [below for child in children(pid) for below in (child, *descendants(child))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


StartServer = Callable[..., SshServer]


@pytest.fixture(scope="session", autouse=True)
def own_board_lock() -> Iterator[None]:
    """Tests do not wait for, nor hinder, whoever measures on this machine; the path has to exist on every board."""
    path = Path(f"/tmp/lightnas-test-{os.getpid()}.lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNAS_BOARD_LOCK", str(path))
        yield
    path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def start_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts sshd on loopback with extra lines of configuration; all are stopped at the end of the session."""
    sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if sshd is None:
        pytest.skip("no sshd here: install openssh-server to test SSH for real")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    servers: list[SshServer] = []

    def start(*extra: str, sftp: bool = True, client_key: Path | None = None) -> SshServer:
        folder = tmp_path_factory.mktemp("sshd")
        keygen(folder / "host_key")
        key = client_key or keygen(folder / "client_key")
        port = free_port()
        (folder / "authorized_keys").write_text(Path(f"{key}.pub").read_text())
        lines = [
            *extra,  # sshd takes the first of each keyword
            f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host_key", "PidFile none",
            f"AuthorizedKeysFile {folder}/authorized_keys", "StrictModes no", "UsePAM no", "PasswordAuthentication no",
            "KbdInteractiveAuthentication no", "PermitRootLogin yes", "MaxStartups 100",
        ]  # fmt: skip
        if sftp:
            lines.append("Subsystem sftp internal-sftp")
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")
        log = folder / "log"
        process = subprocess.Popen([sshd, "-D", "-f", str(folder / "sshd_config"), "-E", str(log)])
        server = SshServer(folder, port, key, process)
        servers.append(server)
        eventually(lambda: log.exists() and "Server listening" in log.read_text(), f"sshd on port {port}")
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def sshd(start_sshd: StartServer) -> SshServer:
    """One plain server for all tests that do not break it."""
    return start_sshd()


@dataclasses.dataclass
class SshHome:
    """A user's SSH files, in a temporary place."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def add(self, alias: str, server: SshServer, *options: str, trust: bool = True, key: Path | None = None) -> None:
        """Makes `alias` a name for the server."""
        with self.config.open("a") as file:
            file.write(
                f"Host {alias}\n  HostName 127.0.0.1\n  Port {server.port}\n  User {getpass.getuser()}\n"
                f"  IdentityFile {key or server.client_key}\n  IdentitiesOnly yes\n"
                f"  UserKnownHostsFile {self.known_hosts}\n"
                "  GlobalKnownHostsFile /dev/null\n" + "".join(f"  {option}\n" for option in options)
            )
        if trust:
            with self.known_hosts.open("a") as file:
                file.write(server.known_hosts_line())


@pytest.fixture
def ssh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SshHome:
    """Keeps the tests away from the SSH files and the agent of whoever runs them."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    home = SshHome(folder)
    home.config.touch()
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(home.config))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture(params=["local", "ssh"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """A real link of each kind."""
    if request.param == "local":
        with LocalTransport() as local:
            yield local
        return
    home: SshHome = request.getfixturevalue("ssh_home")
    home.add("board", request.getfixturevalue("sshd"))
    with SshTransport.connect(Board("board", "board")) as link:
        yield link


@dataclasses.dataclass(frozen=True)
class QemuBoard:
    """An emulated board that is up.

    Attributes:
        folder: holds its files, and the monitor's socket for `tests/qemu/board_ctl.py`.
        host, port: where its sshd listens.
        key: the private key of its accounts `root` and `board`.
        known_hosts: holds its host key.
    """

    folder: Path
    host: str
    port: int
    key: Path
    known_hosts: Path

    def write_ssh_config(self, path: Path, alias: str = "qemu-board", user: str = "board") -> str:
        """Writes an SSH configuration, for LIGHTNAS_SSH_CONFIG, that knows the board as `alias`; returns the alias."""
        path.write_text(
            f"Host {alias}\n  HostName {self.host}\n  Port {self.port}\n  User {user}\n  IdentityFile {self.key}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
        )
        return alias


@pytest.fixture(scope="session")
def qemu_board() -> Iterator[QemuBoard]:
    """One aarch64 board (Cortex-A72) for the session; made on first use, which takes some seconds and a download."""
    if os.geteuid() != 0:
        pytest.skip("no emulated board: its image can only be made as root (tests/qemu/README.md)")
    if shutil.which("qemu-system-aarch64") is None:
        pytest.skip("no emulated board: install qemu-system-arm (tests/qemu/README.md)")
    folder = Path(os.environ.get("LIGHTNAS_QEMU_DIR") or Path.home() / ".cache/lightnas-tests/qemu")
    made = subprocess.run([QEMU_SCRIPTS / "make_board.sh", folder], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no emulated board: make_board.sh failed: {made.stderr[-300:]}")
    port = free_port()
    started = subprocess.run(
        [QEMU_SCRIPTS / "start_board.sh", folder, str(port)], capture_output=True, text=True, check=False
    )
    assert started.returncode == 0, started.stderr
    try:
        yield QemuBoard(folder, "127.0.0.1", port, folder / "id_board", folder / f"board-{port}.known_hosts")
    finally:
        subprocess.run([QEMU_SCRIPTS / "stop_board.sh", folder, str(port)], check=True)
