from __future__ import annotations

import pytest
from aborting import abort_in_the_end

from nas.evaluator import Progress
from nas.training.ranks import run_ranks


@pytest.mark.slow
def test_work_that_is_done_counts_however_its_process_ends() -> None:
    seen: list[Progress] = []
    run_ranks(abort_in_the_end, None, 2, "cpu", seen.append)
    assert sorted(p.step for p in seen) == [1, 2]
