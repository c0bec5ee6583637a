"""Profiles an emulated board while random faults befall it, and compares the table with undisturbed ones, op for op.

    python benchmarks/profile_faults.py [--faults 27] [--seed 0] [--longest-s 40] [--beyond-patience] [--json]

Faults, in random order and at random moments: the cable cut and put in again, the board hung for a while, a power cut
and reboot, the runner killed (SIGKILL) or crashed (SIGSEGV, as an engine does), the board's disk full while the runner
has to start again, the disk full on this side where the passes are kept, the board's clock set, `nas profile` itself
killed. A full disk here and a kill end the command; it is started again, as a user would. Then once more with an engine
that really crashes, whenever it gets one certain network. Needs root and what tests/qemu/README.md says.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "qemu"))
from emulated import images, make_board  # noqa: E402 - beside the board's scripts, no package
from faults import FaultyBoard  # noqa: E402
from watched import Run  # noqa: E402

ALIAS = "faulty"
BEYOND_PATIENCE = "cable out beyond patience"
SAME_RUNNER = {"cable cut", "board hung", "clock jump"}
"""Faults that the runner may survive; after the others a visit counts only from a new one."""
RECOVERY_LIMIT_S = 420.0


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happened: when it began and ended (monotonic, in s), and when a visit was finished again."""

    kind: str
    began_s: float
    ended_s: float
    working_s: float
    started_again: bool

    @property
    def recovery_s(self) -> float:
        """Seconds from its end to a finished visit."""
        return self.working_s - self.ended_s


class Faults:
    """The faults, a method each: makes one and ends it."""

    def __init__(self, board: FaultyBoard, run: Run, chance: random.Random, longest_s: float) -> None:
        self._board, self._run, self._chance, self._longest_s = board, run, chance, longest_s

    def _last(self, shortest_s: float = 1.0) -> None:
        time.sleep(self._chance.uniform(shortest_s, self._longest_s))

    def cable(self) -> None:
        """Out, and in again after a while."""
        self._board.cut_cable()
        self._last()
        self._board.mend_cable()

    def hang(self) -> None:
        """The whole board stands still for a while."""
        self._board.hang()
        self._last()
        self._board.go_on()

    def power(self) -> None:
        """Off without warning, and on again."""
        self._board.power_cut()
        time.sleep(self._chance.uniform(0, 5))
        self._board.power_on()

    def runner_killed(self) -> None:
        """As by the board's out-of-memory killer."""
        self._board.kill_runner(signal.SIGKILL)

    def engine_crash(self) -> None:
        """As a segfault ends it."""
        self._board.kill_runner(signal.SIGSEGV)

    def board_disk(self) -> None:
        """The disk stays full until the profile has found its way back."""
        self._board.fill_disk()
        self._board.kill_runner(signal.SIGKILL)

    def own_disk(self) -> None:
        """The command ends by itself, in one line; there is room again, and it is started again."""
        full = self._run.home / "full"
        with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        self._ends_in_one_line()
        full.unlink()
        self._run.start()

    def beyond_patience(self) -> None:
        """The cable stays out until the command gives up, in one line; then it is in, and the command started again."""
        self._board.cut_cable()
        self._ends_in_one_line()
        self._board.mend_cable()
        self._run.start()

    def _ends_in_one_line(self) -> None:
        status, _, errors = self._run.end()
        said = [line for line in errors.splitlines() if line.startswith("error: ")]
        if status != 2 or len(said) != 1 or "Traceback" in errors:
            raise AssertionError(f"the profile ended with status {status}: {errors}")
        print(f"  {said[0]}", file=sys.stderr, flush=True)

    def clock(self) -> None:
        """Hours to a year, forth or back."""
        self._board.jump_clock(self._chance.choice((-1, 1)) * self._chance.randint(3600, 400 * 86400))

    def own_process(self) -> None:
        """The command is killed, and started again."""
        self._run.kill()
        self._run.start()

    def kinds(self) -> dict[str, Callable[[], None]]:
        """All of them, as the report calls them."""
        return {
            "cable cut": self.cable,
            "board hung": self.hang,
            "power cut": self.power,
            "runner killed": self.runner_killed,
            "engine crash": self.engine_crash,
            "board disk full": self.board_disk,
            "own disk full": self.own_disk,
            "clock jump": self.clock,
            "own process killed": self.own_process,
            BEYOND_PATIENCE: self.beyond_patience,
        }


def wait_for(run: Run, condition: Callable[[], bool], what: str) -> bool:
    """False if the profile ended before."""
    deadline = time.monotonic() + RECOVERY_LIMIT_S
    while not condition():
        if run.ended:
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {RECOVERY_LIMIT_S:.0f} s: {what}")
        time.sleep(0.05)
    return True


def recovered(run: Run, kind: str, began_s: float, ended_s: float) -> float | None:
    """When the first visit after a fault was finished; None if not yet."""
    since_s = ended_s
    if kind not in SAME_RUNNER:
        since_s = next((when for when, words in run.events() if words[0] == "runner" and when > began_s), float("inf"))
    return next(iter(run.visits(since_s)), None)


def plan(kinds: Sequence[str], count: int, chance: random.Random) -> list[str]:
    """Every kind equally often, in random order."""
    chosen = [kinds[i % len(kinds)] for i in range(count)]
    chance.shuffle(chosen)
    return chosen


def disturb(run: Run, faults: Faults, kinds: Sequence[str], chance: random.Random, board: FaultyBoard) -> list[Fault]:
    """Makes the faults one after another, each after some visits; raises if a finished pass is lost."""
    made: list[Fault] = []
    for kind in kinds:
        wanted = len(run.visits()) + chance.randint(1, 10)
        if not wait_for(run, lambda wanted=wanted: len(run.visits()) >= wanted, "visits"):
            break
        time.sleep(chance.uniform(0, 0.3))  # not always just after a visit
        before, processes, began_s = run.passes(), len(run.sids), time.monotonic()
        faults.kinds()[kind]()
        ended_s = time.monotonic()
        if not wait_for(run, lambda k=kind, b=began_s, e=ended_s: recovered(run, k, b, e) is not None, f"after {kind}"):
            break
        working_s = recovered(run, kind, began_s, ended_s)
        assert working_s is not None
        if kind == "board disk full":
            board.free_disk()
        made.append(Fault(kind, began_s, ended_s, working_s, len(run.sids) > processes))
        print(f"  {len(made):3d} {kind}: {made[-1].recovery_s:.1f} s", file=sys.stderr, flush=True)
        lost = before.items() - run.passes().items()
        if lost:
            raise AssertionError(f"{len(lost)} finished passes are lost after {kind}")
    return made


def compare(left: dict[str, float], right: dict[str, float]) -> dict[str, Any]:
    """Differences of two tables over the same ops, in per cent and µs.

    Two undisturbed tables differ most in what a time stamp costs: it is fitted anew and taken off every op alike, much
    in per cent of a tiny op, little in µs. That is `shift_us`, the median difference; `apart` counts the ops that
    differ by more than 1 % and 0.5 µs beside it.
    """
    if left.keys() != right.keys():
        raise AssertionError(f"the tables hold other ops: {sorted(left.keys() ^ right.keys())}")
    us = {key: (right[key] - left[key]) * 1e3 for key in left}
    pct = [abs(us[key]) / left[key] / 10 for key in left]
    shift_us = statistics.median(us.values())
    beside = {key: abs(us[key] - shift_us) for key in left}
    return {
        "ops": len(left),
        "max_pct": max(pct),
        "median_pct": statistics.median(pct),
        "max_us": max(map(abs, us.values())),
        "shift_us": shift_us,
        "apart": sum(beside[key] > 0.5 and beside[key] / left[key] / 10 > 1 for key in left),
    }


def finish(run: Run) -> tuple[dict[str, Any], dict[str, float]]:
    """Lets the profile come to its end; its summary and its table."""
    status, output, errors = run.end(timeout_s=1800)
    if status != 0:
        raise AssertionError(f"the profile ended with status {status}: {errors[-1000:]}")
    summary = json.loads(output)
    return summary, run.table(summary["table"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=27)
    parser.add_argument("--kinds", nargs="+", help="only these, e.g. 'cable cut'")
    parser.add_argument("--space", default="mobilenetv2-small")
    parser.add_argument("--resolution", type=int, help="default: the space's own")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--longest-s", type=float, default=40.0, help="a cable stays cut, a board hung, at most")
    parser.add_argument("--beyond-patience", action="store_true", help="and at last one outage of more than 5 minutes")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--skip-crashing-engine", action="store_true")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    chance = random.Random(wanted.seed)
    make_board(images())
    space = ["--space", wanted.space, "--passes", str(wanted.passes)]
    space += ["--resolution", str(wanted.resolution)] if wanted.resolution else []
    folder = Path(tempfile.mkdtemp(prefix="lightnas-faults-"))
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
    result: dict[str, Any] = {}
    run: Run | None = None
    try:
        with FaultyBoard(images(), folder / "board") as board:
            config = folder / "ssh_config"
            board.write_ssh_config(config, ALIAS)
            tables, seconds = [], []
            for name in ("quiet0", "quiet1", "quiet2"):
                run = Run(folder / name, config, ALIAS, space)
                began_s = time.monotonic()
                run.start()
                summary, table = finish(run)
                seconds.append(time.monotonic() - began_s)
                tables.append(table)
                print(f"{name}: {seconds[-1]:.0f} s, {summary['passes']} passes", file=sys.stderr, flush=True)
            pairs = [compare(*pair) for pair in itertools.combinations(tables, 2)]
            result["undisturbed"] = {"seconds": seconds, **run.account(), "against_each_other": pairs}
            names = sorted({words[1] for _, words in run.events() if words[0] == "visit" and "-" not in words[1]})

            run = Run(small / "home", config, ALIAS, space)
            faults = Faults(board, run, chance, wanted.longest_s)
            kinds = wanted.kinds or [kind for kind in faults.kinds() if kind != BEYOND_PATIENCE]
            began_s = time.monotonic()
            run.start()
            order = plan(kinds, wanted.faults, chance) + [BEYOND_PATIENCE] * wanted.beyond_patience
            made = disturb(run, faults, order, chance, board)
            before = run.passes()
            _, table = finish(run)
            result["disturbed"] = {
                "seconds": time.monotonic() - began_s,
                "faults": len(made),
                "started_again": sum(fault.started_again for fault in made),
                **run.account(),
                "passes_lost": len(before.items() - run.passes().items()),
                "processes_left_here": run.left_behind(),
                "processes_left_on_board": len(board.runners()),
                "against_undisturbed": [compare(quiet, table) for quiet in tables],
            }
            result["recovery_s"] = {
                kind: {"faults": len(times), "median": statistics.median(times), "max": max(times)}
                for kind in dict.fromkeys(sorted(fault.kind for fault in made))
                if (times := [fault.recovery_s for fault in made if fault.kind == kind])
            }
            if not wanted.skip_crashing_engine:
                run = Run(folder / "crashing", config, ALIAS, space, poisoned=chance.choice(names))
                run.start()
                summary, table = finish(run)
                result["crashing_engine"] = {
                    "networks_skipped": len(summary["skipped"]),
                    **compare(tables[0], table),
                    "processes_left_on_board": len(board.runners()),
                }
    finally:
        if run is not None:
            run.kill()
        subprocess.run(["umount", small], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result) if wanted.json else text_of(result))


def text_of(result: dict[str, Any]) -> str:
    """The result for people."""
    quiet, loud = result["undisturbed"], result["disturbed"]
    lines = [
        f"undisturbed: {', '.join(f'{s:.0f}' for s in quiet['seconds'])} s",
        *(f"  one against another: {_apart(compared)}" for compared in quiet["against_each_other"]),
        f"disturbed: {loud['faults']} faults, {loud['seconds']:.0f} s, {loud['runners']} runners, the command started "
        f"again {loud['started_again']} times",
        f"  passes lost {loud['passes_lost']}; processes left: here {loud['processes_left_here']}, on the board "
        f"{loud['processes_left_on_board']}",
        f"  visits: {loud['visits_made']} made, {loud['visits_kept']} kept (undisturbed: {quiet['visits_made']}, "
        f"{quiet['visits_kept']})",
        *(f"  against an undisturbed one: {_apart(compared)}" for compared in loud["against_undisturbed"]),
        *(
            f"  {kind}: {r['faults']} times, working again after {r['median']:.1f} s (median), {r['max']:.1f} s at most"
            for kind, r in result["recovery_s"].items()
        ),
    ]
    if crashing := result.get("crashing_engine"):
        skipped = f"{crashing['networks_skipped']} network(s) skipped"
        lines.append(f"an engine that crashes on one network: {skipped}; {_apart(crashing)}")
    return "\n".join(lines)


def _apart(compared: dict[str, Any]) -> str:
    most = f"at most {compared['max_pct']:.2f} % or {compared['max_us']:.2f} µs apart"
    beside = f"all shifted by {compared['shift_us']:+.3f} µs, {compared['apart']} by over 1 % and 0.5 µs beside that"
    return f"{compared['ops']} ops, {most} (median {compared['median_pct']:.3f} %; {beside})"


if __name__ == "__main__":
    main()
