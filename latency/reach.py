"""From a board to a link to it: this machine, or one over SSH."""

from __future__ import annotations

from latency.board import Board
from latency.transport import LocalTransport, Transport


def connect(board: Board, *, accept_new_host_key: bool = False) -> Transport:
    """Opens the link a board's address asks for.

    Args:
        board: where to.
        accept_new_host_key: trust an unknown host key and remember it (a changed key is refused all the same).

    Raises:
        BoardUnreachable, HostKeyRejected, AuthenticationRefused: from SSH, each with its fix.
    """
    if board.is_local:
        return LocalTransport()
    from latency.ssh import SshTransport  # paramiko costs 0.2 s to import: only when SSH is really used

    return SshTransport.connect(board, accept_new_host_key=accept_new_host_key)
