"""`nas profile` in a process of its own, and what it did: for the fault tests and `benchmarks/profile_faults.py`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from latency.table import LatencyTable

ROOT: Final = Path(__file__).resolve().parents[2]
NAS: Final = (sys.executable, "-c", "from api.cli import main; main()")
CRASHES: Final = "7767517\n2 2\nInput in 0 1 in0\nSlice c 1 1 in0 out0 -23300=2,1000000,-233 1=0\n"
"""A network on which ncnn segfaults."""


def child(log: str, poisoned: str, *arguments: str) -> None:
    """Is `nas ARGUMENTS`, noting in a log what is measured and kept; one network may crash the engine."""
    from api.cli import main as nas
    from api.store.profiles import ProfileStore
    from latency import profiler
    from latency.engines.ncnn import NcnnEngine
    from latency.session import RunnerSession
    from latency.visits import Visitor

    def note(*words: object) -> None:
        with Path(log).open("a") as file:
            file.write(f"{time.monotonic()} {' '.join(map(str, words))}\n")

    started, measured = RunnerSession.__init__, RunnerSession.measure
    kept, visited, built = ProfileStore.save_pass, Visitor.visit, NcnnEngine.build

    def start(self: RunnerSession, *given: Any) -> None:
        started(self, *given)
        note("runner", self.facts["pid"])

    def measure(self: RunnerSession, *given: Any, **named: Any) -> Iterator[Any]:
        for name, runs in measured(self, *given, **named):
            note("visit", name)
            yield name, runs

    def visit(self: Visitor, *given: Any, **named: Any) -> Any:
        note("sentinel", self.sentinel)
        return visited(self, *given, **named)

    def save_pass(self: ProfileStore, run_id: int, samples: Any) -> None:
        kept(self, run_id, samples)
        note("kept", len(samples["runs"]))

    def build(self: NcnnEngine, graph: Any) -> Any:
        model = built(self, graph)
        crashes = poisoned == profiler.network_name(model)
        return dataclasses.replace(model, timed_model=CRASHES) if crashes else model

    RunnerSession.__init__, RunnerSession.measure = start, measure  # type: ignore[method-assign, assignment]
    ProfileStore.save_pass, Visitor.visit, NcnnEngine.build = save_pass, visit, build  # type: ignore[method-assign]
    sys.argv = ["nas", *arguments]
    nas()


class Run:
    """One `nas profile`, started again as often as needed; reads along in its log.

    Args:
        home: its LIGHTNAS_HOME.
        config: the SSH configuration that knows the board.
        board: the board's name there, and in the store.
        options: of the command.
        poisoned: the name of a network that crashes the engine; none by default.
    """

    def __init__(self, home: Path, config: Path, board: str, options: Sequence[str], poisoned: str = "") -> None:
        self.home, self._config, self._poisoned = home, config, poisoned
        self.log = config.parent / f"{home.name}.log"
        self._arguments = ["profile", board, *options, "--json"]
        self.process: subprocess.Popen[str] | None = None
        self.sids: list[int] = []
        subprocess.run(
            [*NAS, "boards", "add", board, board, "--json"],
            env=self._environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _environment(self) -> dict[str, str]:
        env = {**os.environ, "LIGHTNAS_HOME": str(self.home), "LIGHTNAS_SSH_CONFIG": str(self._config)}
        env.pop("LIGHTNAS_DATABASE_URL", None)
        path = [str(ROOT), *filter(None, [env.get("PYTHONPATH")])]
        return {**env, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}

    def start(self) -> None:
        """Starts the command, the same each time."""
        command = [sys.executable, __file__, str(self.log), self._poisoned, *self._arguments]
        self.process = subprocess.Popen(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.sids.append(self.process.pid)

    def end(self, timeout_s: float = 420.0) -> tuple[int, str, str]:
        """Waits for its end: (exit status, standard output, standard error)."""
        assert self.process
        output, errors = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, output, errors

    def kill(self) -> None:
        """Kills it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    @property
    def ended(self) -> bool:
        """Whether it is not running now."""
        return self.process is None or self.process.poll() is not None

    def events(self) -> list[tuple[float, list[str]]]:
        """(monotonic time in s, words) of the log."""
        if not self.log.exists():
            return []
        lines = self.log.read_text().splitlines()
        return [(float(words[0]), words[1:]) for line in lines if len(words := line.split()) > 1]

    def visits(self, since_s: float = 0.0) -> list[float]:
        """When visits were finished, after a moment (monotonic, in s)."""
        return [when for when, words in self.events() if words[0] == "visit" and when > since_s]

    def passes(self) -> dict[int, str]:
        """What the store holds of the profile now: number -> sha256 of its samples."""
        file = next(iter(self.home.glob("*.sqlite3")), None)
        if file is None:
            return {}
        with contextlib.closing(sqlite3.connect(file, timeout=60)) as database:
            found = database.execute("SELECT number, samples FROM passes").fetchall()
        return {number: hashlib.sha256(samples).hexdigest() for number, samples in found}

    def table(self, digest: str) -> dict[str, float]:
        """Op key -> ms."""
        done = subprocess.run(
            [*NAS, "tables", "export", digest],
            env=self._environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        table = LatencyTable.from_json(done.stdout.encode(), source=digest)
        return {key: entry.ms for key, entry in table.entries.items()}

    def account(self) -> dict[str, int]:
        """Visits made, without those of the sentinel, and visits kept."""
        events = self.events()
        sentinels = {words[1] for _, words in events if words[0] == "sentinel"}
        made = sum(words[0] == "visit" and words[1] not in sentinels for _, words in events)
        kept = sum(int(words[1]) for _, words in events if words[0] == "kept")
        return {"visits_made": made, "visits_kept": kept, "runners": sum(w[0] == "runner" for _, w in events)}

    def left_behind(self) -> int:
        """Processes of this machine that still belong to one of its sessions, and do not end within 10 s."""
        deadline = time.monotonic() + 10
        while found := sum(_runs_in(path, self.sids) for path in Path("/proc").iterdir() if path.name.isdigit()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return found


def _runs_in(process: Path, sids: Sequence[int]) -> bool:
    """Whether a process belongs to one of the sessions and is no zombie: that has no command line."""
    try:
        return os.getsid(int(process.name)) in sids and (process / "cmdline").read_bytes() != b""
    except (ProcessLookupError, FileNotFoundError):
        return False


if __name__ == "__main__":
    child(*sys.argv[1:])
