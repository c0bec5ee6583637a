"""Work for processes that train together, which can be imported in each of them."""

from __future__ import annotations

import atexit
import os
from typing import Any

from nas.evaluator import Progress, Report
from nas.training.ranks import Ranks


def abort_in_the_end(ranks: Ranks, given: Any, report: Report) -> None:
    """Does what is to be done; Python's end then aborts the second process, as a thread of torch's may."""
    report(Progress(ranks.index + 1, ranks.count))
    if not ranks.first:
        atexit.register(os.abort)
