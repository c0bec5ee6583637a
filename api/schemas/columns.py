"""Trials as columns, and how the best one of them rose."""

from __future__ import annotations

import datetime as dt

from pydantic import BaseModel, Field

from nas.trial import TrialState

_EVENT = "Number of the newest event before this was read: a stream that begins behind it misses nothing."
_FINISHED = "When it ended, in seconds after the search was made; null while it runs."


class ColumnsOut(BaseModel):
    """Trials in number order: entry i of every list is of the same one."""

    event: int = Field(description=_EVENT)
    next: int | None = Field(description="What to ask `after` with; null: these were the last ones.")
    began_at: dt.datetime = Field(description="When the search was made.")
    states: list[TrialState] = Field(description="What the numbers in `state` mean.")
    number: list[int]
    state: list[int] = Field(description="Places in `states`.")
    accuracy: list[float | None] = Field(description="On the validation pictures, in [0, 1].")
    reward: list[float | None] = Field(description="What the strategy maximises.")
    seconds: list[float] = Field(description="Wall time of the evaluation, to 7 digits.")
    finished_s: list[float | None] = Field(description=_FINISHED)
    costs: dict[str, list[float | None]] = Field(
        description="Metric -> values predicted before each trial began, to 7 digits; every metric one of them has."
    )
    attrs: dict[str, list[float | None]] = Field(
        description="What the strategy noted when it proposed a trial; what none of them has is left out. Annealing: "
        "`temperature`, `chain`, and `base`, the trial whose network the chain held then; trial m was accepted, now or "
        "at a restart, if a later one of its chain has `base` m. Guided: `recommended`, the trial thought best, and "
        "`expected_regret`."
    )
    encoding: list[str] | None = Field(description="Null unless asked for.")


class Improvement(BaseModel):
    """A complete trial that was better than all before it."""

    number: int
    accuracy: float
    reward: float
    finished_s: float | None = Field(description=_FINISHED)


class ImprovementsOut(BaseModel):
    """How the best reward rose, in number order; the last one is the best of the search."""

    event: int = Field(description=_EVENT)
    items: list[Improvement]
