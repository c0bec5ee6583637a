"""Two latency tables compared: what each holds for, which ops they share, and how their times differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latency.table import LatencyTable


@dataclass(frozen=True)
class Change:
    """One op's time in both tables, in ms inside a cover network.

    Attributes:
        key: of the kernel.
        before_ms, after_ms: in the first table, in the second.
        ratio: after / before.
    """

    key: str
    before_ms: float
    after_ms: float
    ratio: float


@dataclass(frozen=True)
class TableDiff:
    """What differs from a first table to a second.

    Attributes:
        identity: fields of the identities that differ, as `field: first, second`; times of tables that differ in any
            hold for different things.
        spaces_before, spaces_after: names of the spaces that only one of them covers.
        only_before, only_after: keys that only one of them has, sorted.
        common: how many keys both have.
        changes: of the keys that were timed in both, the largest change first, up or down.
        untimed: keys of both that at least one of them only estimates, or gives no time.
        median, p5, p95: of the ratios; None where no key was timed in both.
    """

    identity: tuple[str, ...]
    spaces_before: tuple[str, ...]
    spaces_after: tuple[str, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    common: int
    changes: tuple[Change, ...]
    untimed: int
    median: float | None
    p5: float | None
    p95: float | None

    @property
    def comparable(self) -> bool:
        """Whether both hold for the same board, engine and way of running."""
        return not self.identity


def diff_tables(before: LatencyTable, after: LatencyTable) -> TableDiff:
    """Compares two tables; those of different identities too, for their differences to be seen."""
    common = sorted(before.entries.keys() & after.entries.keys())
    changes = []
    for key in common:
        a, b = before.entries[key], after.entries[key]
        if not (a.estimated or b.estimated) and a.ms > 0 and b.ms > 0:
            changes.append(Change(key, a.ms, b.ms, b.ms / a.ms))
    changes.sort(key=lambda c: (-abs(np.log(c.ratio)), c.key))
    ratios = [c.ratio for c in changes]
    p5, median, p95 = np.percentile(ratios, (5, 50, 95)).tolist() if ratios else (None, None, None)
    ours, theirs = ({(m.name, m.digest) for m in t.provenance.spaces} for t in (before, after))
    return TableDiff(
        identity=tuple(before.identity.differences(after.identity)),
        spaces_before=tuple(sorted(name for name, _ in ours - theirs)),
        spaces_after=tuple(sorted(name for name, _ in theirs - ours)),
        only_before=tuple(sorted(before.entries.keys() - after.entries.keys())),
        only_after=tuple(sorted(after.entries.keys() - before.entries.keys())),
        common=len(common),
        changes=tuple(changes),
        untimed=len(common) - len(changes),
        median=median,
        p5=p5,
        p95=p95,
    )
