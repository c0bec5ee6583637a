#!/usr/bin/env python3
"""Injects faults through QEMU's monitor.

Usage: board_ctl.py DIR PORT COMMAND…, with commands such as `set_link n0 off` and `set_link n0 on` (the cable),
`stop` and `cont` (the board hangs), `system_reset` (a power cut: with -no-reboot the board goes away).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

_PROMPT = b"(qemu)"


def control(directory: Path, port: int, *commands: str) -> Iterator[str]:
    """Yields the monitor's answer to each command."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(30)
        monitor.connect(str(directory / f"board-{port}.mon"))
        _answer(monitor)
        for command in commands:
            monitor.sendall(command.encode() + b"\n")
            yield _answer(monitor).split("\n", 1)[-1].strip()


def _answer(monitor: socket.socket) -> str:
    text = b""
    while not text.rstrip().endswith(_PROMPT):
        chunk = monitor.recv(4096)
        if not chunk:
            break
        text += chunk
    return text.decode(errors="replace").replace(_PROMPT.decode(), "")


if __name__ == "__main__":
    print("\n".join(control(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])))
