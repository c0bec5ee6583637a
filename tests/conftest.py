"""Real far ends for the tests of latency: OpenSSH servers on loopback, and an emulated ARM board."""

from __future__ import annotations

import dataclasses
import getpass
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before numpy is imported: with small matrices on few cores OpenBLAS mostly waits for threads of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from latency.board import Board
from latency.ssh import SshTransport
from latency.transport import LocalTransport, Transport

sys.path.insert(0, str(Path(__file__).parent / "support"))  # for the helpers there; benchmarks use those of the others
sys.path.insert(0, str(Path(__file__).parent / "browser"))
sys.path.insert(0, str(Path(__file__).parent / "qemu"))
from emulated import QemuBoard, images, make_board
from loopback import SshServer, find_sshd, host_entry, start_sshd

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# How long an example takes says how busy the machine is. All else as Hypothesis has it, here or under CI.
settings.register_profile("unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
StartServer = Callable[..., SshServer]


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell starts what runs in the background deaf to SIGINT, and so would be the programs that the tests stop."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def own_board_lock() -> Iterator[None]:
    """Tests do not wait for, nor hinder, whoever measures on this machine; the path has to exist on every board."""
    path = Path(f"/tmp/lightnas-test-{os.getpid()}.lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNAS_BOARD_LOCK", str(path))
        yield
    path.unlink(missing_ok=True)


@pytest.fixture(scope="session", name="start_sshd")
def starting_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts sshd on loopback with extra lines of configuration; all are stopped at the end of the session."""
    program = find_sshd()
    if program is None:
        pytest.skip("no sshd here: install openssh-server to test SSH for real")
    servers: list[SshServer] = []

    def start(*extra: str, sftp: bool = True, client_key: Path | None = None) -> SshServer:
        folder = tmp_path_factory.mktemp("sshd")
        servers.append(start_sshd(program, folder, *extra, sftp=sftp, client_key=client_key))
        return servers[-1]

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
            user, identity = getpass.getuser(), key or server.client_key
            file.write(host_entry(alias, server.port, user, identity, self.known_hosts, *options))
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


@pytest.fixture(scope="session")
def emulation() -> None:
    """Skips where no board can be emulated."""
    if os.geteuid() != 0:
        pytest.skip("no emulated board: its image can only be made as root (tests/qemu/README.md)")
    if shutil.which("qemu-system-aarch64") is None:
        pytest.skip("no emulated board: install qemu-system-arm (tests/qemu/README.md)")


@pytest.fixture(scope="session")
def qemu_board(emulation: None) -> Iterator[QemuBoard]:
    """One aarch64 board (Cortex-A72) for the session; made on first use, which takes some seconds and a download."""
    try:
        make_board(images())
    except RuntimeError as e:
        pytest.skip(f"no emulated board: {e}")
    with QemuBoard(images()) as board:
        yield board
