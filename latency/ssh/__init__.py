"""Boards over SSH: OpenSSH's configuration and host keys (`config`, `known_hosts`), the way in (`login`), the link.

Only `login` and `transport` know paramiko.
"""

from __future__ import annotations

from latency.ssh.transport import SshTransport

__all__ = ["SshTransport"]
