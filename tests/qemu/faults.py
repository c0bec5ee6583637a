"""An emulated board of one's own, and what can befall it; for the fault tests and `benchmarks/profile_faults.py`.

Needs what `make_board.sh` needs, and a board it made.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))
from board_ctl import control
from emulated import QemuBoard

_SHARED: Final = ("vmlinuz", "initrd.cpio", "host_key.pub", "id_board")
_FILL: Final = (
    "import os, sys; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); s = os.statvfs(sys.argv[1]); "
    "os.posix_fallocate(f, 0, max(1, (s.f_bfree - 64) * s.f_frsize)); "
    "[os.write(f, b'x' * 4096) for _ in iter(int, 1)]"
)


class FaultyBoard(QemuBoard):
    """A board whose disk survives its power cuts. A context manager: it is up inside, and gone, with its disk, after.

    Args:
        source: the folder `make_board.sh` filled; it is only read.
        folder: an empty one for this board's own disk (its files take about 200 MB).
        port: where its sshd shall listen on loopback; None for a free one.
    """

    def __init__(self, source: Path, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port, BOARD_PERSIST="1")
        folder.mkdir(parents=True, exist_ok=True)
        for name in _SHARED:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(source / name)
        self._disk = folder / "root.ext4"
        subprocess.run(["cp", "--sparse=always", source / "root.ext4", self._disk], check=True)
        # Boards have a journal; without one, a power cut could break what nobody was writing.
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        subprocess.run(["tune2fs", "-j", self._disk], check=True, capture_output=True, env={**os.environ, "PATH": path})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._disk.unlink()

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return int((self.folder / f"board-{self.port}.pid").read_text())

    def run(self, *argv: str, account: str = "root", timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs a command on the board over a connection of its own, with OpenSSH's client."""
        options = [
            "-q", "-F", "none", "-i", str(self.key), "-p", str(self.port), "-o", "IdentitiesOnly=yes",
            "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.known_hosts}",
        ]  # fmt: skip
        return subprocess.run(
            ["ssh", *options, f"{account}@127.0.0.1", shlex.join(argv)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )

    # What befalls it, and how it ends.

    def cut_cable(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        self._monitor("set_link n0 off")

    def mend_cable(self) -> None:
        """The cable is in again."""
        self._monitor("set_link n0 on")

    def hang(self) -> None:
        """The whole board stands still."""
        self._monitor("stop")

    def go_on(self) -> None:
        """It goes on where it stood."""
        self._monitor("cont")

    def power_cut(self) -> None:
        """The board is off at once; what it had not written to its disk is lost."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        while _runs(pid):
            time.sleep(0.01)
        (self.folder / f"board-{self.port}.pid").unlink()

    def runners(self) -> list[int]:
        """The pids of the runners on the board."""
        found = self.run("sh", "-c", "grep -ls '/lightnas/[r]unner-' /proc/[0-9]*/cmdline; true")
        if found.returncode != 0:
            raise RuntimeError(f"the board does not tell its processes: {found.stderr}")
        return [int(path.split("/")[2]) for path in found.stdout.split()]

    def kill_runner(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Kills the runner; how many there were."""
        pids = self.runners()
        self.run("kill", "-s", str(int(number)), *map(str, pids))
        return len(pids)

    def fill_disk(self) -> None:
        """Not one byte is free any more, for nobody."""
        self.run("python3", "-c", _FILL, "/fill")

    def free_disk(self) -> None:
        """As much as before is free."""
        self.run("rm", "-f", "/fill")

    def jump_clock(self, seconds: int) -> None:
        """Sets the board's clock forward, or back."""
        self.run("sh", "-c", f"date -s @$(( $(date +%s) + {seconds} ))")

    def _monitor(self, *commands: str) -> None:
        for _ in control(self.folder, self.port, *commands):
            pass


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie: that has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False
