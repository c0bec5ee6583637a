"""Boards for the latency benchmarks: this machine through a real sshd of its own, emulated ARM boards, or a user's."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from latency.board import Board

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "qemu"))
from emulated import QemuBoard, images, make_board
from loopback import find_sshd, host_entry, start_sshd

ALIAS = "benchmarked"
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
                yield Board(name, ALIAS, engine=engine, cores=(last,), dtype=dtype)
        elif name in EMULATED:
            make_board(images())
            with QemuBoard(images(), BOARD_CPU=EMULATED[name]) as emulated:
                emulated.write_ssh_config(folder / "ssh_config", ALIAS)
                yield Board(name, ALIAS, engine=engine, dtype=dtype)
        else:
            from api.store import Store

            del os.environ["LIGHTNAS_SSH_CONFIG"]
            with Store.open() as store:
                board = store.boards.get(name)
            yield Board(name, board.address, engine, board.threads, board.cores, dtype, board.identity_file)


@contextlib.contextmanager
def _sshd(folder: Path) -> Iterator[None]:
    """A real sshd with a key of its own, on loopback."""
    program = find_sshd()
    if program is None:
        raise SystemExit("no sshd here: install openssh-server")
    server = start_sshd(program, folder)
    try:
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(server.known_hosts_line())
        entry = host_entry(ALIAS, server.port, getpass.getuser(), server.client_key, known_hosts)
        (folder / "ssh_config").write_text(entry)
        yield
    finally:
        server.stop()
