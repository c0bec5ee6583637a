"""SIGKILL of API, workers and database at random moments: are the trial tables those of undisturbed searches?

Real processes: `nas serve`, `nas worker` (PostgreSQL: two of them; SQLite: the server's own), three searches at once
of different strategies over NAS-Bench-Macro's space, submitted over REST. A killed process is started again after a
moment. Beside it the same searches are run alone, and the tables compared: number, encoding, state, accuracy, reward.
While this goes on, a client submits small searches with Idempotency-Keys and repeats a request whose answer it did not
get: each must exist exactly once.

    python benchmarks/service_kill.py --database postgresql --kills 30
    python benchmarks/service_kill.py --database sqlite --kills 30
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parent))
import postgres_server

from api.admission import first_token
from api.compose import run_search
from api.settings import Settings
from api.store import Store

_MODULES = {"job": "api.worker.child", "embedded worker": "api.worker.embedded"}  # processes that others start
STRATEGIES = ("annealing", "random", "guided")


def main() -> None:
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_table(folder / "data" / "recorded.csv")
        server = None
        if options.database == "postgresql":
            server = stack.enter_context(postgres_server.running_server(fsync=True))
        service = Service(folder, None if server is None else server.url, options.jobs)
        stack.callback(service.stop)
        service.start()
        searches = [
            service.submit(f"kept-{s}", s, options.trials[i], str(uuid.uuid4())) for i, s in enumerate(STRATEGIES)
        ]
        kills = _disturb(service, server, options, searches)
        _wait(service, searches)
        told = _judge(service, searches, options)
    print(json.dumps({"database": options.database, "kills": dict(kills), **told}, indent=1))
    if not told["equal"]:
        sys.exit(1)


class Service:
    """The processes, each started again when it is killed."""

    def __init__(self, folder: Path, database_url: str | None, jobs: int, extra: tuple[str, ...] = ()) -> None:
        self.folder, self.settings, self.port = folder, Settings(folder / "home", database_url), self.free_port()
        self.environment = {**os.environ, "LIGHTNAS_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
        self.environment |= {"LIGHTNAS_DATA_ROOT": str(folder / "data"), "OPENBLAS_NUM_THREADS": "1"}
        if database_url is not None:
            self.environment["LIGHTNAS_DATABASE_URL"] = database_url
        self.commands = {
            "api": ["serve", "--port", str(self.port), "--jobs", "0" if database_url else str(jobs), *extra]
        }
        if database_url is not None:
            self.commands |= {f"worker-{i}": ["worker", "--jobs", str(jobs), "--lease", "4"] for i in (1, 2)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log = (folder / "service.log").open("ab")
        self.token = ""

    @staticmethod
    def free_port() -> int:
        """A port nobody listens on."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return int(free.getsockname()[1])

    def start(self, name: str | None = None) -> None:
        """Start all, or the one named."""
        if not self.token:
            with Store.open(self.settings) as store:
                self.token = first_token(store, self.settings)
        for which in [name] if name else list(self.commands):
            command = [sys.executable, "-P", "-m", "api.cli", *self.commands[which]]
            self.processes[which] = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log)

    def kill_module(self, module: str, rng: random.Random) -> None:
        """Kill one of this service's processes that run a module, if there is one just now."""
        home = f"LIGHTNAS_HOME={self.environment['LIGHTNAS_HOME']}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if module.encode() in (folder / "cmdline").read_bytes().split(b"\0") and home in (
                    folder / "environ"
                ).read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        if found:
            os.kill(rng.choice(found), signal.SIGKILL)

    def stop(self) -> None:
        """Let all end."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(100)
            except subprocess.TimeoutExpired:
                process.kill()

    def ask(
        self, method: str, path: str, *, patience_s: float = 120.0, key: str | None = None, body: Any = None
    ) -> Any:
        """A request, repeated with the same key until it is answered."""
        headers = {"Authorization": f"Bearer {self.token}", **({"Idempotency-Key": key} if key else {})}
        deadline = time.monotonic() + patience_s
        while True:
            try:
                url = f"http://127.0.0.1:{self.port}/api/v1{path}"
                answer = httpx.request(method, url, headers=headers, json=body, timeout=20)
                if answer.status_code < 500:
                    answer.raise_for_status()
                    return answer.json()
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(path)
            time.sleep(0.2)

    def submit(self, name: str, strategy: str, trials: int, key: str) -> int:
        """Submit a search, once; its number."""
        body = {"name": name, "space": "nas-bench-macro", "strategy": strategy, "trials": trials, "parallel": 2}
        body |= {"evaluator": "table", "data": "recorded.csv", "seed": len(name)}
        return int(self.ask("POST", "/searches", key=key, body=body)["id"])


def _disturb(service: Service, server: Any, options: argparse.Namespace, searches: list[int]) -> Counter[str]:
    """Kill, submit, until the kills are made or the searches have ended."""
    rng, kills = random.Random(options.seed), Counter[str]()
    targets = [*service.commands, "job", "postgresql" if server is not None else "embedded worker"]
    for number in range(options.kills):
        time.sleep(rng.uniform(0.2, options.pause_s))
        target = rng.choice(targets)
        if target == "postgresql":
            server.kill()
            time.sleep(rng.uniform(0, 1.0))
            server.start()
        elif target in _MODULES:
            service.kill_module(_MODULES[target], rng)
        else:
            service.processes[target].kill()
            service.processes[target].wait()
            time.sleep(rng.uniform(0, 1.0))
            service.start(target)
        kills[target] += 1
        service.submit(f"small-{number}", "random", 5, str(uuid.uuid4()))
        states = Counter(service.ask("GET", f"/searches/{s}")["state"] for s in searches)
        print(f"kill {number + 1}: {target}; {dict(states)}", file=sys.stderr, flush=True)
    return kills


def _wait(service: Service, searches: list[int]) -> None:
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        page = service.ask("GET", "/searches?limit=1000")["items"]
        if all(s["state"] in ("complete", "failed") for s in page):
            return
        time.sleep(0.5)
    raise TimeoutError("the searches did not end")


def _judge(service: Service, searches: list[int], options: argparse.Namespace) -> dict[str, Any]:
    """The tables beside those of the same searches run alone, and the small searches counted."""
    rows: list[dict[str, Any]] = []
    with Store.open(service.settings) as store:
        for search in searches:
            record = store.searches.by_id(search)
            alone = store.searches.create(
                record.spec, space=record.space, space_digest=record.space_digest, name=f"alone-{search}"
            )
            run_search(store, alone)
            kept, calm = _table(store, search), _table(store, alone.id)
            job = store.jobs.of_search(search)
            ended = Counter(e.trial for e in _events(store, search) if e.kind == "trial.ended")
            rows.append(
                {
                    "strategy": record.spec["strategy"],
                    "state": record.state,
                    "error": record.error,
                    "trials": len(kept),
                    "equal": kept == calm,
                    "doubled": len(kept) - len({row[0] for row in kept}),
                    "counter": record.complete,
                    "ended_events": sum(ended.values()),
                    "ended_twice": sum(n > 1 for n in ended.values()),
                    "attempts_at_last": None if job is None else job.attempts,
                }
            )
        small = [r for r in store.searches.page(limit=1000) if r.name.startswith("small-")]
    names = Counter(r.name for r in small)
    fine = all(r["equal"] and not r["doubled"] and not r["ended_twice"] and r["trials"] == r["counter"] for r in rows)
    return {
        "searches": rows,
        "small_submitted": options.kills,
        "small_stored": len(small),
        "small_complete": sum(r.state == "complete" for r in small),
        "equal": fine and len(small) == len(names) == options.kills and all(r.state == "complete" for r in small),
    }


def _events(store: Store, search: int) -> Any:
    last = 0
    while page := store.events.after(last, search_id=search):
        yield from page
        last = page[-1].id


def _table(store: Store, search: int) -> list[tuple[Any, ...]]:
    return [(t.number, t.encoding, t.state, t.accuracy, t.reward) for t in store.searches.log(search).load()]


def write_table(path: Path) -> None:
    """Accuracies of the whole space, made up: more work, more accuracy, and luck."""
    rng = random.Random(0)
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "acc_seed0", "acc_seed1", "acc_seed2"])
        for genes in itertools.product("012", repeat=8):
            accuracy = 60 + 2 * sum(map(int, genes))
            writer.writerow(["".join(genes), *(round(accuracy + rng.gauss(0, 1), 3) for _ in range(3))])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--pause-s", type=float, default=6.0, help="at most between kills")
    parser.add_argument(
        "--trials", type=int, nargs=3, default=[3000, 3000, 250], metavar="N", help="annealing, random, guided"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
