"""What tests of several rooms need of this machine: a script as a module, a free port."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import socket
from pathlib import Path
from types import ModuleType

_given: set[int] = set()


def load_script(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    """A port of loopback that nobody listens on.

    It is none of those the kernel hands out: another's connection or server could get such a one before it is used.
    """
    handed_out = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first = 20_000 if handed_out > 21_000 else 0
    while True:
        with socket.socket() as probe:
            wanted = first and first + secrets.randbelow(handed_out - first)
            with contextlib.suppress(OSError):  # somebody listens on it
                probe.bind(("127.0.0.1", wanted))
                found = int(probe.getsockname()[1])
                if found not in _given:
                    _given.add(found)
                    return found
