"""A Ray cluster of real processes on loopback: a head for no trials, and nodes that can be killed.

Run as a program it is the cluster: it prints its address and its nodes, and lives as long as its input is open.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STORE_BYTES = 80_000_000


@dataclass(frozen=True)
class RayCluster:
    """A running cluster.

    Attributes:
        address: of its head.
        raylets: node id -> pid of the process that is this node.
        environment: what whoever joins it needs: the secret, and the wish to stay on loopback.
        orphans: pids that the cluster does not know any more, to be killed at its end.
    """

    address: str
    raylets: Mapping[str, int]
    environment: Mapping[str, str]
    orphans: set[int] = field(default_factory=set)

    def processes(self, node: str) -> list[int]:
        """Everything that is the node of that id."""
        return [self.raylets[node], *descendants(self.raylets[node])]

    def kill(self, node: str, *, whole: bool = True) -> None:
        """SIGKILL the node of that id, with all its processes; or its raylet only, which the others survive a while."""
        processes = self.processes(node)
        self.orphans.update(processes)
        signal_all(processes if whole else processes[:1], signal.SIGKILL)


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to those that still are."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def descendants(pid: int) -> set[int]:
    """All processes below that one."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(p): int(q) for p, q in (line.split() for line in found.splitlines())}
    below: set[int] = set()
    while more := {p for p, q in parents.items() if q in below | {pid}} - below:
        below |= more
    return below


@contextlib.contextmanager
def ray_cluster(nodes: int = 2, **environment: str) -> Iterator[RayCluster]:
    """Start a cluster whose nodes have one core and, in name, one GPU each; all its processes are gone at the end.

    Args:
        nodes: besides the head.
        environment: of the nodes' processes, besides this process's own.
    """
    joining = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # how Ray is told to stay on loopback
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        Path(folder, "ray").mkdir()  # Ray takes it as given
        errors = Path(folder, "errors")
        with errors.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, __file__, str(nodes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # it ends with its input, not with a signal to all
                env={**os.environ, **environment, **joining, "RAY_TMPDIR": folder},
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the Ray cluster did not start: {errors.read_text()[-2000:]}")
            started = json.loads(line)
            cluster = RayCluster(started["address"], started["raylets"], joining)
            try:
                yield cluster
            finally:
                signal_all(cluster.orphans, signal.SIGKILL)
        finally:
            process.communicate(timeout=120)


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES},
    )
    raylets = {}
    for _ in range(int(sys.argv[1])):
        node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE_BYTES)
        raylets[node.node_id] = node.all_processes["raylet"][0].process.pid
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    sys.stdin.read()
    signal_all(descendants(os.getpid()), signal.SIGKILL)


if __name__ == "__main__":
    main()
