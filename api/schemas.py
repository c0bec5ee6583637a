"""What the REST service answers: pydantic models, the source of its OpenAPI description."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nas.trial import TrialState

MAX_ENCODINGS = 10_000
EncodingText = Annotated[str, Field(pattern=r"^\d{1,3}(,\d{1,3})*$", max_length=2048, examples=["0,1,2,0,1,2,0,1"])]


class Health(BaseModel):
    """The service is up and its database answers."""

    status: str = "ok"
    version: str


class SpaceSummary(BaseModel):
    """A search space by name."""

    space: str
    genes: int
    size: int = Field(description="Number of encodings.")
    inputs: list[list[int]] = Field(description="Possible input shapes, each [channels, height, width].")


class Gene(BaseModel):
    """One decision: an encoding's entry is the index of a choice."""

    name: str
    choices: list[Any]


class Range(BaseModel):
    """Exact extremes over the whole space."""

    min: int
    max: int


class SpaceDetail(BaseModel):
    """A search space with its genes and cost range."""

    space: str
    digest: str
    size: int
    inputs: list[list[int]]
    genes: list[Gene]
    ops: int
    flops: Range
    params: Range


class PriceRequest(BaseModel):
    """Networks to price."""

    model_config = ConfigDict(extra="forbid")

    encodings: list[EncodingText] = Field(min_length=1, max_length=MAX_ENCODINGS)
    resolution: int | None = Field(None, ge=1, le=4096)
    classes: int | None = Field(None, ge=1, le=100_000)
    table: str | None = Field(None, max_length=64, description="Digest of a latency table, or its beginning.")


class Price(BaseModel):
    """What one network costs; FLOPs are multiply-accumulates at batch 1."""

    encoding: str
    flops: int
    params: int
    latency_ms: float | None = None
    low_ms: float | None = Field(None, description="Where the 90 % interval of the measured latency begins.")
    high_ms: float | None = Field(None, description="Where it ends.")


class BoardOut(BaseModel):
    """A registered board."""

    name: str
    address: str
    engine: str
    threads: int
    cores: list[int]
    dtype: str


class TableOut(BaseModel):
    """A latency table, without its entries."""

    digest: str
    board: str
    spaces: str = Field(description="Names of the spaces it covers, joined by commas.")
    engine: str
    ops: int
    created_at: dt.datetime


class Best(BaseModel):
    """The complete trial of highest reward."""

    number: int
    encoding: str
    accuracy: float
    reward: float
    costs: dict[str, float]


class BeliefsOut(BaseModel):
    """What a search's strategy thinks of its result."""

    recommended: int = Field(description="Number of the complete trial that is most likely best.")
    expected_regret: float = Field(
        description="By how much the best network of all is expected to beat it, in units of reward."
    )


class SearchOut(BaseModel):
    """A search and how far it is."""

    id: int
    name: str
    state: str
    space: str
    board: str | None
    table_digest: str | None
    spec: dict[str, Any]
    trials: dict[str, int] = Field(description="Trials per state.")
    best: Best | None
    beliefs: BeliefsOut | None = Field(description="As the search last stopped; null where its strategy has no model.")
    winner: dict[str, Any] | None
    error: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None


class SearchPage(BaseModel):
    """Searches, newest first; ask again with `after=next` until it is null."""

    items: list[SearchOut]
    next: int | None


class FrontTrial(BaseModel):
    """A complete trial and its cost in the front's metric."""

    number: int
    encoding: str
    accuracy: float
    cost: float


class FrontAnswer(BaseModel):
    """The best trial inside a budget."""

    limit: float
    best: FrontTrial | None = Field(description="Null: no trial keeps it.")


class FrontOut(BaseModel):
    """The trials of a search that no other beats in accuracy and cost."""

    search: str
    by: str = Field(description="The metric of the cost: latency_ms, flops or params.")
    unit: str
    confidence: float | None = Field(description="With which answers in ms are kept when measured; null: as predicted.")
    smallest: float = Field(description="Where budgets begin: the smallest cost in the space.")
    largest: float = Field(description="Where they end: the search's own budget, or the largest cost in the space.")
    hypervolume: float = Field(description="Mean best accuracy over all budgets between; a budget none keeps counts 0.")
    front: list[FrontTrial] = Field(description="By rising cost.")
    answers: list[FrontAnswer]


class TrialOut(BaseModel):
    """One trial."""

    number: int
    encoding: str
    state: TrialState = Field(description="`pruned`: stopped at a rung; its accuracy is the one it had there.")
    accuracy: float | None
    reward: float | None
    costs: dict[str, float]
    seconds: float
    extras: dict[str, Any]
    stop_below: dict[str, float | None] = Field(
        description="Rung (a step) -> accuracy below which the trial ends there; null: it passes."
    )
    error: str | None
    started_at: dt.datetime
    finished_at: dt.datetime | None


class TrialPage(BaseModel):
    """Trials in number order; ask again with `after=next` until it is null."""

    items: list[TrialOut]
    next: int | None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = Field(None, description="Per field: where, and what is wrong with it.")
