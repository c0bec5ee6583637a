"""The error tree of the `latency` package, below `nas.errors.LightnasError`.

LatencyError
├── BoardUnreachable     no route, refused, timed out; names host and port
├── HostKeyRejected      unknown or changed host key; the message holds the fix
├── AuthenticationRefused  no key was accepted
├── BoardUnfit           no Python, 32-bit userland, old glibc, no wheel, no space
├── BoardBusy            another profiler holds the board's lock
├── ConnectionLost       the link went away in the middle; starting again resumes
│   └── process.ProcessEnded    the program on the board ended; the link works
├── process.TransportTimeout    a step took too long; the link works
├── RunnerCrashed        the runner died (an engine segfault) or answered nonsense
├── InvalidTable         a table file is corrupt, foreign, or of another identity
├── UnsupportedOp        the engine cannot run an op
└── WrongAnswers         exported files compute something else on the board than here
"""

from __future__ import annotations

from nas.errors import LightnasError


class LatencyError(LightnasError):
    """Root of the errors of the `latency` package."""


class BoardUnreachable(LatencyError):
    """The board cannot be reached: no route, connection refused, or a step timed out."""


class HostKeyRejected(LatencyError):
    """The board's host key is unknown or has changed."""


class AuthenticationRefused(LatencyError):
    """The board accepted no key of ours."""


class BoardUnfit(LatencyError):
    """The board lacks something profiling needs (Python, a wheel that fits, disk space)."""


class BoardBusy(LatencyError):
    """Another profiler holds the board's lock.

    Attributes:
        holder: what the lock tells of it; empty where it tells nothing.
    """

    def __init__(self, message: str, holder: str = "") -> None:
        self.holder = holder
        super().__init__(message)


class ConnectionLost(LatencyError):
    """The link to the board broke in the middle of something."""


class RunnerCrashed(LatencyError):
    """The runner on the board died or answered nonsense."""


class InvalidTable(LatencyError):
    """A latency table is corrupt, foreign, or belongs to another board or engine."""


class UnsupportedOp(LatencyError):
    """The engine cannot run an op of the graph."""


class WrongAnswers(LatencyError):
    """Exported files compute something else on a board than the network does here.

    Attributes:
        op: the path of the first op that differs; empty where none does when looked at alone.
    """

    def __init__(self, message: str, op: str = "") -> None:
        self.op = op
        super().__init__(message)
