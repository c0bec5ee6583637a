"""Whether a board computes what was computed here, and where it begins not to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tolerance:
    """How far a healthy board may be off.

    Attributes:
        logits: of the range of all logits, each of them.
        op: of the largest value an op makes, each of them, given what the op read.
        lost: which share of the pictures may get a wrong answer instead of a right one; one always may.
    """

    logits: float
    op: float
    lost: float


TOLERANCES: Final = {
    "fp32": Tolerance(logits=1e-3, op=1e-3, lost=0.0),
    "fp16": Tolerance(logits=3e-2, op=3e-2, lost=0.01),
    "bf16": Tolerance(logits=1e-1, op=3e-2, lost=0.02),
}
"""By the board's dtype. A value that is not finite where it is finite here is beyond any.

Healthy networks of 33 to 86 ops with random weights, shown noise, on x86 and an emulated Cortex-A76, were off by at
most 3e-6 of the range of the logits in fp32, 1e-2 in fp16 (11 significant bits, in sums too) and 3e-2 in bf16 (8 bits,
sums in fp32); a single op by 4e-6 (Winograd's transforms), 9e-3 and 8e-3. A wrong weight or kernel is off by more.
"""
_DEAD: Final = 1e-6
"""An op whose values are smaller has nothing to say."""


@dataclass(frozen=True)
class Agreement:
    """Logits of a board beside those of here.

    Attributes:
        pictures: how many were shown.
        same: to how many both give the same answer.
        accuracy_here, accuracy_board: the share of right answers.
        largest_difference: of a logit; inf where the board's is not finite and here it is.
        relative_difference: the same as a share of the range of the logits here.
        differing: how many pictures have logits beyond the tolerance.
        worst: the picture with the largest difference.
        lost: answers that are right here and wrong there, less the other way round, if more than may be; else 0.
    """

    pictures: int
    same: int
    accuracy_here: float
    accuracy_board: float
    largest_difference: float
    relative_difference: float
    differing: int
    worst: int
    lost: int

    @property
    def agrees(self) -> bool:
        """Whether the board may be trusted."""
        return not self.differing and not self.lost


def compare(board: Floats, here: Floats, labels: NDArray[np.int64], dtype: str) -> Agreement:
    """Compares answers to the same pictures.

    Args:
        board: (n, classes), from the board.
        here: (n, classes), from the network itself.
        labels: (n,), the true classes.
        dtype: what the board computes in.
    """
    tolerance = TOLERANCES[dtype]
    if board.shape != here.shape:
        board = np.full_like(here, np.nan)  # answers of another size are no answers
    off = _off(board, here).max(1)
    span = float(np.ptp(here[np.isfinite(here)])) or 1.0
    # An argmax takes the first NaN; no answer must not pass for one.
    answers = np.where(np.isfinite(board).all(1), board.argmax(1), -1)
    right_here, right_there = here.argmax(1) == labels, answers == labels
    lost = int(right_here.sum()) - int(right_there.sum())
    largest = float(off.max())
    return Agreement(
        pictures=len(here),
        same=int((answers == here.argmax(1)).sum()),
        accuracy_here=float(right_here.mean()),
        accuracy_board=float(right_there.mean()),
        largest_difference=largest,
        relative_difference=largest / span,
        differing=int((off > tolerance.logits * span).sum()),
        worst=int(off.argmax()),
        lost=lost if dtype != "fp32" and lost > max(1.0, tolerance.lost * len(here)) else 0,
    )


@dataclass(frozen=True)
class Difference:
    """The first op that differs.

    Attributes:
        path: of the op.
        relative: the largest difference of a value, as a share of the largest value the op makes here; inf where the
            board's is not finite and here it is, or where there are more or fewer.
        detail: what is wrong, for people.
    """

    path: str
    relative: float
    detail: str


def first_difference(
    board: Mapping[str, Floats], here: Mapping[str, Floats], order: Sequence[str], dtype: str
) -> Difference | None:
    """The first op whose values are beyond the tolerance.

    Args:
        board: path -> values on the board, in any shape.
        here: path -> values here.
        order: the paths, as they run.
        dtype: what the board computes in.
    """
    for path in order:
        there, want = board[path].reshape(-1), here[path].reshape(-1)
        if len(there) != len(want):
            return Difference(path, float("inf"), f"{len(there)} values instead of {len(want)}")
        off = float(_off(there, want).max())
        finite = np.abs(want[np.isfinite(want)])
        scale = max(float(finite.max(initial=0.0)), _DEAD)
        if off > TOLERANCES[dtype].op * scale:
            bad = there[np.isfinite(want) & ~np.isfinite(there)]
            if len(bad):
                kind = "NaN" if np.isnan(bad).any() else "infinity"
                return Difference(path, float("inf"), f"{kind} where the values here are at most {scale:.3g}")
            return Difference(path, off / scale, f"a relative error of {off / scale:.2g}")
    return None


def _off(there: Floats, here: Floats) -> NDArray[np.float64]:
    """How far each value is off; 0 where neither is finite in the same way, inf where only one is finite."""
    with np.errstate(invalid="ignore"):
        off = np.abs(there.astype(np.float64) - here.astype(np.float64))
    same = (there == here) | (np.isnan(there) & np.isnan(here))
    return np.where(same, 0.0, np.where(np.isfinite(off), off, np.inf))
