"""Boards for the latency benchmarks: this machine through a real sshd of its own, emulated ARM boards, or a user's."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from latency.board import Board

ROOT = Path(__file__).resolve().parents[1]
QEMU = ROOT / "tests" / "qemu"
HOST = "host"
EMULATED = {"qemu-a53": "cortex-a53", "qemu-a72": "cortex-a72", "qemu-a76": "cortex-a76"}


@contextlib.contextmanager
def open_board(name: str, engine: str, *, dtype: str = "fp32") -> Iterator[Board]:
    """A board that can be connected to inside the block.

    Args:
        name: `host` (this machine, through sshd on loopback), `qemu-a53`, `qemu-a72`, `qemu-a76`, or a board that
            `nas boards add` registered.
        engine: its inference engine.
        dtype: the engine's arithmetic.
    """
    with tempfile.TemporaryDirectory(prefix="lightnas-bench-") as temporary:
        folder = Path(temporary)
        os.environ["LIGHTNAS_SSH_CONFIG"] = str(folder / "ssh_config")
        if name == HOST:
            with _sshd(folder):
                last = max(os.sched_getaffinity(0) | set(range(os.cpu_count() or 1)))
                yield Board(name, "benchmarked", engine=engine, cores=(last,), dtype=dtype)
        elif name in EMULATED:
            with _emulated(folder, EMULATED[name]):
                yield Board(name, "benchmarked", engine=engine, dtype=dtype)
        else:
            from api.store import Store

            del os.environ["LIGHTNAS_SSH_CONFIG"]
            with Store.open() as store:
                board = store.boards.get(name)
            yield Board(name, board.address, engine, board.threads, board.cores, dtype, board.identity_file)


@contextlib.contextmanager
def _sshd(folder: Path) -> Iterator[None]:
    """A real sshd with a key of its own, on loopback."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise SystemExit("no sshd here: install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for key in ("host_key", "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
    port = _free_port()
    lines = [
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host_key", "PidFile none",
        f"AuthorizedKeysFile {folder}/authorized_keys", "StrictModes no", "UsePAM no", "PasswordAuthentication no",
        "PermitRootLogin yes", "Subsystem sftp internal-sftp",
    ]  # fmt: skip
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    log = folder / "sshd.log"
    process = subprocess.Popen([program, "-D", "-f", str(folder / "sshd_config"), "-E", str(log)])
    try:
        deadline = time.monotonic() + 20
        while not (log.exists() and "Server listening" in log.read_text()):
            if time.monotonic() > deadline:
                raise SystemExit(f"sshd does not start: {log.read_text() if log.exists() else ''}")
            time.sleep(0.05)
        key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
        _write_config(folder, port, getpass.getuser(), folder / "client_key", folder / "known_hosts")
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def _emulated(folder: Path, cpu: str) -> Iterator[None]:
    images = os.environ.get("LIGHTNAS_QEMU_DIR") or str(Path.home() / ".cache/lightnas-tests/qemu")
    port = _free_port()
    subprocess.run([QEMU / "make_board.sh", images], check=True, stdout=subprocess.DEVNULL)
    environment = {**os.environ, "BOARD_CPU": cpu}
    subprocess.run([QEMU / "start_board.sh", images, str(port)], check=True, env=environment, stdout=subprocess.DEVNULL)
    try:
        _write_config(folder, port, "board", Path(images) / "id_board", Path(images) / f"board-{port}.known_hosts")
        yield
    finally:
        subprocess.run([QEMU / "stop_board.sh", images, str(port)], check=True)


def _write_config(folder: Path, port: int, user: str, key: Path, known_hosts: Path) -> None:
    (folder / "ssh_config").write_text(
        f"Host benchmarked\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {key}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
