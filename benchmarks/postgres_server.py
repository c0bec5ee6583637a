"""A real PostgreSQL server of one's own, on loopback, for tests and benchmarks; gone when the block ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

BINARIES = Path(os.environ.get("LIGHTNAS_POSTGRESQL_BIN", "/usr/lib/postgresql/15/bin"))
PASSWORD = "not-a-secret-7"


def available() -> bool:
    """Whether the server's programs are installed."""
    return all((BINARIES / name).is_file() for name in ("initdb", "postgres"))


def _unprivileged() -> dict[str, object]:
    """PostgreSQL refuses to run as root: another account for it then."""
    if os.geteuid() != 0:
        return {}
    import pwd

    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class PostgresServer:
    """A server with its data in a folder of its own.

    Args:
        folder: an empty one, readable by the account that runs the server.
        fsync: whether what is committed also outlives a loss of power.
    """

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self._folder, self._account = folder, _unprivileged()
        password = folder / "password"
        password.write_text(PASSWORD)
        if self._account:
            for path in (folder, password):
                os.chown(path, self._account["user"], self._account["group"])  # type: ignore[call-overload]
        self._log = folder / "log"
        command = [BINARIES / "initdb", "-D", folder / "data", "-U", "lightnas", "-A", "scram-sha-256", "--no-sync"]
        self._run([*command, f"--pwfile={password}", "-E", "UTF8"]).wait()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._options = ["-c", "listen_addresses=127.0.0.1", "-c", f"fsync={'on' if fsync else 'off'}"]
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql+psycopg://lightnas:{PASSWORD}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it and wait until it listens; the rest of a killed one may hold it up for a moment."""
        deadline = time.monotonic() + 60
        while True:
            self._log.write_text("")
            command = [BINARIES / "postgres", "-D", self._folder / "data", "-p", str(self._port), "-k", self._folder]
            self._server = self._run([*command, *self._options])
            try:
                _await(self._server, self._port, self._log)
                return
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def kill(self) -> None:
        """SIGKILL: the server does not get to write a thing."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it at once."""
        self._end(signal.SIGQUIT)

    def _end(self, number: int) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.send_signal(number)
            server.wait(30)

    def _run(self, command: list[str | Path]) -> subprocess.Popen[bytes]:
        with self._log.open("a") as log:
            options: dict[str, object] = {**self._account, "cwd": self._folder, "stdout": log}
            return subprocess.Popen(command, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload, no-any-return]


@contextlib.contextmanager
def running_server(*, fsync: bool = False) -> Iterator[PostgresServer]:
    """A fresh server that runs."""
    folder = Path(tempfile.mkdtemp(prefix="lightnas-pg-"))
    server = None
    try:
        server = PostgresServer(folder, fsync=fsync)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Yields the URL (postgresql+psycopg://user:password@127.0.0.1:port/postgres) of a fresh server."""
    with running_server() as server:
        yield server.url


def _await(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"postgres ended: {log.read_text()[-500:]}")
        if "ready to accept connections" in log.read_text():
            return
        time.sleep(0.05)
    raise RuntimeError(f"postgres does not listen on port {port}: {log.read_text()[-500:]}")
