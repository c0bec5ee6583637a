"""Kills `nas search` with SIGKILL at random moments, resumes it, and compares the trials with an undisturbed run.

    python benchmarks/sigkill.py [--kills 20] [--database sqlite postgresql] [--evaluator table training]
        [--strategy annealing tpe] [--parallel 1 2]

A search is killed again and again until it has been killed so often or is complete; a complete one gives way to a new
one with another seed, until all kills are made. Compared are number, encoding, state and accuracy of every trial.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from postgres_server import available, postgres_server

NAS = [sys.executable, "-c", "from api.cli import main; main()"]
Rows = list[tuple[int, str, str, float | None]]


def write_table(path: Path) -> None:
    """Made-up accuracies of the whole nas-bench-macro space, so that no data set is needed."""
    rng = np.random.default_rng(0)
    lines = ["arch,acc_seed0,acc_seed1,acc_seed2"]
    for genes in itertools.product("012", repeat=8):
        base = 60 + 2 * sum(map(int, genes))
        lines.append(",".join(["".join(genes), *(f"{base + noise:.3f}" for noise in rng.normal(0, 0.5, 3))]))
    path.write_text("\n".join(lines) + "\n")


def arguments(evaluator: str, strategy: str, parallel: int, seed: int, table: Path) -> list[str]:
    """A search short enough to kill often: a minute of look-ups, or trainings of a few tiny networks."""
    common = ["--strategy", strategy, "--parallel", str(parallel), "--seed", str(seed), "--evaluator", evaluator]
    if evaluator == "table":
        space = ["--space", "nas-bench-macro", "--flops", "70e6", "--data", str(table), "--trials", "300"]
        return [*common, *space]
    tiny = ["--space", "mobilenetv2-small", "--flops", "1.5e6", "--data", "digits", "--epochs", "2"]
    return [*common, *tiny, "--resolution", "16", "-o", "device=cpu", "--trials", "6"]


def trials_of(url: str, name: str) -> Rows:
    """The search's trial table."""
    engine = sa.create_engine(url)
    query = sa.text(
        "SELECT t.number, t.encoding, t.state, t.accuracy FROM trials t JOIN searches s ON s.id = t.search_id "
        "WHERE s.name = :name ORDER BY t.number"
    )
    with engine.connect() as c:
        rows = [(int(n), str(e), str(s), a) for n, e, s, a in c.execute(query, {"name": name})]
    engine.dispose()
    return rows


def exists(url: str, name: str) -> bool:
    """Whether the search was stored before the kill."""
    engine = sa.create_engine(url)
    with engine.connect() as c:
        has = sa.inspect(c).has_table("searches")
        found = has and c.execute(sa.text("SELECT id FROM searches WHERE name = :name"), {"name": name}).first()
    engine.dispose()
    return bool(found)


def kill_one(environment: dict[str, str], command: list[str], after_s: float) -> bool:
    """Run and kill after so long; False if it had ended before."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    try:
        _, errors = process.communicate(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors[-500:]}")
    return False


def run_case(
    folder: Path, url: str, evaluator: str, strategy: str, parallel: int, kills: int, chance: random.Random
) -> tuple[int, int, int]:
    """(kills made, searches compared, trials compared). Raises AssertionError on a difference."""
    table = folder / "table.csv"
    write_table(table)
    environment = {**os.environ, "LIGHTNAS_HOME": str(folder), "LIGHTNAS_DATABASE_URL": url, "OMP_NUM_THREADS": "1"}
    subprocess.run([*NAS, "db", "upgrade"], env=environment, check=True, stdout=subprocess.DEVNULL)
    made, searches, compared = 0, 0, 0
    while made < kills:
        wanted = arguments(evaluator, strategy, parallel, searches, table)
        began = time.monotonic()
        quiet = [*NAS, "search", *wanted, "--name", f"quiet{searches}", "--json"]
        subprocess.run(quiet, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        whole_s = time.monotonic() - began
        name = f"killed{searches}"
        ended = False
        while not ended:
            again = exists(url, name)
            command = [*NAS, "search", *(["--resume", name] if again else [*wanted, "--name", name]), "--json"]
            if made < kills:
                ended = not kill_one(environment, command, chance.uniform(0.2, 0.8) * whole_s)
                made += not ended
            else:
                subprocess.run(
                    command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                ended = True
        left, right = trials_of(url, f"quiet{searches}"), trials_of(url, name)
        assert left == right, f"{evaluator} {strategy} parallel {parallel}: the trials differ\n{left}\n{right}"
        searches += 1
        compared += len(left)
    return made, searches, compared


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'trials.sqlite3'}"
        return
    with postgres_server() as url:
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="per case")
    parser.add_argument("--database", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--evaluator", nargs="+", default=["table", "training"])
    parser.add_argument("--strategy", nargs="+", default=["annealing", "tpe"])
    parser.add_argument("--parallel", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    chance = random.Random(wanted.seed)
    total = 0
    for kind in wanted.database:
        if kind == "postgresql" and not available():
            print("NOT TESTED: postgresql, because its server is not installed", file=sys.stderr)
            continue
        for evaluator, strategy, parallel in itertools.product(wanted.evaluator, wanted.strategy, wanted.parallel):
            folder = Path(tempfile.mkdtemp(prefix="lightnas-sigkill-"))
            began = time.monotonic()
            try:
                with database(kind, folder) as url:
                    made, searches, trials = run_case(folder, url, evaluator, strategy, parallel, wanted.kills, chance)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            total += made
            case = {"database": kind, "evaluator": evaluator, "strategy": strategy, "parallel": parallel}
            result = {**case, "kills": made, "searches": searches, "trials": trials, "identical": True}
            seconds = time.monotonic() - began
            text = json.dumps(result) if wanted.json else " ".join(f"{k}={v}" for k, v in result.items())
            print(text if wanted.json else f"{text} ({seconds:.0f} s)", flush=True)
    if not wanted.json:
        print(f"{total} kills, every trial table identical to the undisturbed run's")


if __name__ == "__main__":
    main()
