"""What a search holds on to a trial: `python flat_search.py FEW MANY` prints the bytes, between so many trials.

A process of its own: whatever else allocates in it (threads, modules, caches that other tests fill) would be counted.
"""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from formula import Formula

from nas.executor import InlineExecutor
from nas.search import Search
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.trial import MemoryTrialLog, Trial

SPACE = build_space("mobilenetv2-small")


class Forgetful(MemoryTrialLog):
    """What trials leave in a database is not the search's memory."""

    def started(self, trial: Trial) -> None: ...

    def finished(self, trial: Trial) -> None: ...


def held(trials: int) -> int:
    """Bytes that are still allocated when a search has ended, and were not when it began."""
    executor, strategy = InlineExecutor(SPACE, Formula()), build_strategy("annealing", SPACE, (), 0)
    search = Search(SPACE, strategy, executor, Forgetful(), trials=trials, workdir=Path("unused"))
    tracemalloc.start()
    search.run()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size


if __name__ == "__main__":
    few, many = map(int, sys.argv[1:])
    held(20)  # what is imported and cached once
    print((held(many) - held(few)) / (many - few))
