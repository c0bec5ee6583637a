"""Serves requests until the input ends.

One request a line on standard input; the answers, a line each, on what was standard output (what an engine prints goes
to standard error). It ends when its input ends, when its output is gone, on SIGTERM, and when nobody asks or listens
for `server.IDLE_S`; the lock goes with it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from . import server

IDLE_STATUS = 75


class LeftAlone(Exception):
    """The other side is gone."""


def left_alone(number: int, frame: Any) -> None:
    """What the alarm does."""
    raise LeftAlone


def main() -> int:
    """Serves requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the side that started us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, left_alone)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runner = server.Runner(out)
    try:
        signal.alarm(server.IDLE_S)
        for line in iter(sys.stdin.readline, ""):
            signal.alarm(0)
            if line.strip():
                runner.handle(line)
            signal.alarm(server.IDLE_S)
    except BrokenPipeError:
        return 1
    except LeftAlone:
        return IDLE_STATUS
    finally:
        runner.let_go()
        for loaded in runner.networks.values():
            runner.engine().unload(loaded)
    return 0


def run() -> NoReturn:
    """The whole life of the process."""
    status = main()
    sys.stderr.flush()
    # The engine's own clean-up at interpreter exit may crash after a lost link; everything is flushed already.
    os._exit(status)
