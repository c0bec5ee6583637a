"""OpenSSH servers of our own on loopback, and the SSH configurations that lead to them; for tests and benchmarks."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from local import free_port


def keygen(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


def host_entry(alias: str, port: int, user: str, key: Path, known_hosts: Path, *options: str) -> str:
    """What an SSH configuration says of a server on loopback; nobody's own SSH files have a say."""
    lines = [
        "HostName 127.0.0.1", f"Port {port}", f"User {user}", f"IdentityFile {key}", "IdentitiesOnly yes",
        f"UserKnownHostsFile {known_hosts}", "GlobalKnownHostsFile /dev/null", *options,
    ]  # fmt: skip
    return f"Host {alias}\n" + "".join(f"  {line}\n" for line in lines)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    return [below for child in children(pid) for below in (child, *descendants(child))]


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
        for pid in reversed([self.process.pid, *descendants(self.process.pid)]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_sshd() -> str | None:
    """The server's program, which is on few users' PATH."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def start_sshd(program: str, folder: Path, *extra: str, sftp: bool = True, client_key: Path | None = None) -> SshServer:
    """Starts sshd on a free port, with keys of its own; whoever calls stops it.

    Args:
        program: what `find_sshd` found.
        folder: an empty one for its files.
        extra: lines of configuration that come before ours.
        sftp: whether it serves SFTP.
        client_key: the only one it lets in; a new one by default.

    Raises:
        RuntimeError: it does not listen within 60 s; says what it wrote to its log.
    """
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    keygen(folder / "host_key")
    key = client_key or keygen(folder / "client_key")
    (folder / "authorized_keys").write_text(Path(f"{key}.pub").read_text())
    lines = [
        *extra,  # sshd takes the first of each keyword
        "ListenAddress 127.0.0.1", f"HostKey {folder}/host_key", "PidFile none",
        f"AuthorizedKeysFile {folder}/authorized_keys", "StrictModes no", "UsePAM no", "PasswordAuthentication no",
        "KbdInteractiveAuthentication no", "PermitRootLogin yes", "MaxStartups 100",
    ]  # fmt: skip
    if sftp:
        lines.append("Subsystem sftp internal-sftp")
    log, deadline = folder / "log", time.monotonic() + 60
    while time.monotonic() < deadline:
        port = free_port()
        (folder / "sshd_config").write_text("\n".join([*lines, f"Port {port}"]) + "\n")
        log.unlink(missing_ok=True)
        process = subprocess.Popen([program, "-D", "-f", str(folder / "sshd_config"), "-E", str(log)])
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and "Server listening" in log.read_text():
                return SshServer(folder, port, key, process)
            time.sleep(0.02)
        process.kill()
        process.wait()
        if log.exists() and "Address already in use" not in log.read_text():
            break  # another took the port in between: then another port will do
    raise RuntimeError(f"sshd does not start: {log.read_text() if log.exists() else ''}")
