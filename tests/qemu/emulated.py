"""Starts and stops an emulated ARM board; for tests and benchmarks. README.md says what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

SCRIPTS: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS.parent / "support")]
from local import free_port  # noqa: E402 - files of these folders, no packages
from loopback import host_entry  # noqa: E402


def images() -> Path:
    """Where `make_board.sh` keeps a board's files."""
    return Path(os.environ.get("LIGHTNAS_QEMU_DIR") or Path.home() / ".cache/lightnas-tests/qemu")


def make_board(folder: Path) -> None:
    """Makes the files of a board, or finds them made.

    Raises:
        RuntimeError: it cannot be made; says why.
    """
    made = subprocess.run([SCRIPTS / "make_board.sh", folder], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise RuntimeError(f"make_board.sh failed: {made.stderr[-300:]}")


class QemuBoard:
    """A board made by `make_board`. A context manager: it is up inside.

    Args:
        folder: with its files; what is written on the board is lost in the end.
        port: where its sshd shall listen on loopback; None for a free one.
        settings: as `start_board.sh` lists them, e.g. `BOARD_CPU="cortex-a53"`.

    Attributes:
        folder: holds its files, and the monitor's socket for `board_ctl.py`.
        host, port: where its sshd listens.
        key: the private key of its accounts `root` and `board`.
        known_hosts: holds its host key.
    """

    host = "127.0.0.1"

    def __init__(self, folder: Path, port: int | None = None, **settings: str) -> None:
        self.folder, self.port, self._settings = folder, port or free_port(), settings
        self.key, self.known_hosts = folder / "id_board", folder / f"board-{self.port}.known_hosts"

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run([SCRIPTS / "stop_board.sh", self.folder, str(self.port)], check=True)

    def power_on(self) -> None:
        """Boots it; returns when sshd answers.

        Raises:
            RuntimeError: it does not come up; says why.
        """
        started = subprocess.run(
            [SCRIPTS / "start_board.sh", self.folder, str(self.port)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self._settings},
        )
        if started.returncode != 0:
            raise RuntimeError(f"the board does not start: {started.stderr}")

    def write_ssh_config(self, path: Path, alias: str = "qemu-board", user: str = "board") -> str:
        """Writes an SSH configuration, for LIGHTNAS_SSH_CONFIG, that knows the board as `alias`; returns the alias."""
        path.write_text(host_entry(alias, self.port, user, self.key, self.known_hosts))
        return alias
