"""The error tree of lightnas.

LightnasError                 every error a user can cause or mend; the CLI prints it and exits 2
├── NasError                  the search side
│   ├── InvalidOp             an Op or its key is malformed
│   ├── InvalidEncoding       a gene is out of range, or their number is wrong
│   ├── InvalidSpace          a space (name or YAML file) cannot be used; names the key
│   ├── MissingOps            a cost table lacks ops; lists all of them
│   ├── ImpossibleBudget      nothing in the space fits; tells the smallest achievable value
│   ├── SpaceExhausted        every encoding inside the budget has been proposed
│   ├── DataError             a data set is missing, broken or unfit
│   ├── WeightsError          a checkpoint is missing, cannot be read or does not fit; names it
│   ├── EvaluationError       an evaluator could not finish a trial
│   ├── UnknownPlugin         no space, evaluator or strategy of that name
│   └── SearchError           a search cannot start, go on or be read back
├── latency.errors.LatencyError   boards, engines, tables
└── api.errors.StoreError         the database and the files beside it
"""

from __future__ import annotations

from collections.abc import Sequence


class LightnasError(Exception):
    """Root of every error whose message is meant for the user: one line naming the thing and the fix."""


class NasError(LightnasError):
    """Root of the errors of the `nas` package."""


class InvalidOp(NasError):
    """An Op's fields contradict each other, or a key cannot be parsed."""


class InvalidEncoding(NasError):
    """A gene is out of range or the encoding has the wrong length."""


class InvalidSpace(NasError):
    """A search space cannot be built; the message names the offending key."""


class MissingOps(NasError):
    """Ops a cost table has no price for.

    Attributes:
        keys: every unpriced Op key, sorted.
    """

    def __init__(self, keys: Sequence[str], *, table: str = "the cost table", fix: str = "") -> None:
        self.keys = tuple(sorted(keys))
        super().__init__(
            f"{table} has no price for {len(self.keys)} op(s): {', '.join(self.keys)}{'. ' + fix if fix else ''}"
        )


class ImpossibleBudget(NasError):
    """No encoding of the space fits the budget.

    Attributes:
        smallest: the smallest achievable value per exceeded metric.
    """

    def __init__(self, message: str, smallest: dict[str, float]) -> None:
        self.smallest = smallest
        super().__init__(message)


class SpaceExhausted(NasError):
    """Every distinct network inside the budget has already been proposed."""


class DataError(NasError):
    """A data set is missing, broken or unfit for training."""


class WeightsError(NasError):
    """A checkpoint is missing, holds something else than weights, or weights of another network."""


class EvaluationError(NasError):
    """An evaluator could not finish a trial; the trial is told as failed."""


class UnknownPlugin(NasError):
    """No space, evaluator or strategy is registered under the name."""


class SearchError(NasError):
    """A search cannot be started, continued or read back; what it has is kept and resumes."""
