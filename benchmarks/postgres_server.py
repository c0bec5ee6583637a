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


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Yields the URL (postgresql+psycopg://user:password@127.0.0.1:port/postgres) of a fresh server."""
    folder = Path(tempfile.mkdtemp(prefix="lightnas-pg-"))
    account = _unprivileged()
    password = folder / "password"
    password.write_text(PASSWORD)
    if account:
        for path in (folder, password):
            os.chown(path, account["user"], account["group"])  # type: ignore[call-overload]
    log = (folder / "log").open("w")
    options: dict[str, object] = {**account, "cwd": folder, "stdout": log, "stderr": subprocess.STDOUT}
    server: subprocess.Popen[bytes] | None = None
    try:
        command = [BINARIES / "initdb", "-D", folder / "data", "-U", "lightnas", "-A", "scram-sha-256", "--no-sync"]
        subprocess.run([*command, f"--pwfile={password}", "-E", "UTF8"], check=True, **options)  # type: ignore[call-overload]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [BINARIES / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder]
        server = subprocess.Popen([*command, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"], **options)  # type: ignore[call-overload]
        _await(server, port, folder / "log")
        yield f"postgresql+psycopg://lightnas:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)  # at once: the data goes, too
            server.wait(30)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _await(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"postgres ended: {log.read_text()[-500:]}")
        if "ready to accept connections" in log.read_text():
            return
        time.sleep(0.05)
    raise RuntimeError(f"postgres does not listen on port {port}: {log.read_text()[-500:]}")
