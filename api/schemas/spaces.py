"""Search spaces and what networks of them cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.schemas.jobs import Channels, Classes, Sides, Word

MAX_ENCODINGS = 10_000
EncodingText = Annotated[str, Field(pattern=r"^\d{1,3}(,\d{1,3})*$", max_length=2048, examples=["0,1,2,0,1,2,0,1"])]
TableName = Annotated[str, Field(pattern="^[0-9a-f]{4,64}$", examples=["3f2a9c41"])]
"""Digest of a latency table, or its beginning."""
Limit = Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)]


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


class MegabyteRange(BaseModel):
    """Exact extremes over the whole space, in MB (10^6 bytes)."""

    min: float
    max: float


class SpaceDetail(BaseModel):
    """A search space with its genes and cost ranges."""

    space: str
    digest: str = Field(description="SHA-256 of genes, ops and wiring: what encodings of this space mean.")
    size: int = Field(description="Number of encodings.")
    inputs: list[list[int]] = Field(description="Possible input shapes, each [channels, height, width].")
    genes: list[Gene]
    ops: int = Field(description="Distinct ops of all networks.")
    flops: Range = Field(description="Multiply-accumulates at batch 1.")
    params: Range = Field(description="Trainable parameters.")
    model_mb: MegabyteRange = Field(description="Exported fp32 weights.")
    peak_memory_mb: MegabyteRange = Field(description="Most fp32 activations alive at once.")


class SpaceSettings(BaseModel):
    """What makes a space of its name."""

    model_config = ConfigDict(extra="forbid")

    resolution: Sides = Field([], description="Picture sides in pixels; several make it a gene. Default: its own.")
    classes: Classes | None = Field(None, description="Outputs of the classifier. Default: its own.")
    channels: Channels | None = Field(None, description="Of the pictures. Default: 3.")


class PriceRequest(SpaceSettings):
    """Networks to price."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"encodings": ["0,1,2,0,1,2,0,1", "2,2,2,2,2,2,2,2"], "resolution": [32]}]},
    )

    encodings: list[EncodingText] = Field(min_length=1, max_length=MAX_ENCODINGS)
    table: TableName | None = Field(None, description="Digest of a latency table, or its beginning.")


class Price(BaseModel):
    """What one network costs; FLOPs are multiply-accumulates at batch 1."""

    encoding: str
    flops: int
    params: int
    model_mb: float = Field(description="Exported fp32 weights in MB.")
    peak_memory_mb: float = Field(description="Most fp32 activations alive at once in MB.")
    latency_ms: float | None = None
    low_ms: float | None = Field(None, description="Where the 90 % interval of the measured latency begins.")
    high_ms: float | None = Field(None, description="Where it ends.")


class NetworkRequest(SpaceSettings):
    """A network to look at: one of the space, or one to compare with."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"encoding": "0,1,2,0,1,2,0,1", "resolution": [32]},
                {"reference": "mobilenetv2", "resolution": [96], "board": "pi4"},
            ]
        },
    )

    encoding: EncodingText | None = Field(None, description="Of a network of the space.")
    reference: Literal["mobilenetv2"] | None = Field(
        None,
        description="Instead: MobileNetV2 1.0 at the space's largest input and with its classes, in the space if it is "
        "one of its networks, else in the space `mobilenetv2`.",
    )
    board: Word | None = Field(None, description="Prices ops by its newest table that covers the space.")
    table: TableName | None = Field(None, description="Instead: prices ops by this table.")

    @model_validator(mode="after")
    def _together(self) -> NetworkRequest:
        if (self.encoding is None) == (self.reference is None):
            raise ValueError("a network is named by encoding or by reference: give one")
        if self.board and self.table:
            raise ValueError("board and table both price the ops: give one")
        return self


class Budgets(BaseModel):
    """The largest values a network may have; what is not given is not limited."""

    model_config = ConfigDict(extra="forbid")

    latency_ms: Limit | None = Field(default=None, description="Needs a board or a table.")
    flops: Limit | None = Field(default=None, description="Multiply-accumulates at batch 1.")
    params: Limit | None = Field(default=None, description="Trainable parameters.")
    model_mb: Limit | None = Field(default=None, description="Exported fp32 weights in MB.")
    peak_memory_mb: Limit | None = Field(default=None, description="Most fp32 activations alive at once in MB.")


class FeasibilityRequest(SpaceSettings):
    """Budgets to try on a space."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"budgets": {"flops": 300e6, "params": 3.5e6}},
                {"budgets": {"latency_ms": 30}, "board": "pi4", "confidence": 0.95},
            ]
        },
    )

    budgets: Budgets = Budgets()
    board: Word | None = Field(None, description="Prices latency by its newest table that covers the space.")
    table: TableName | None = Field(None, description="Instead: prices latency by this table.")
    confidence: float | None = Field(
        None, ge=0.5, le=0.999, description="With which the latency is kept when measured. Default: 0.95 if it can be."
    )

    @model_validator(mode="after")
    def _together(self) -> FeasibilityRequest:
        priced, timed = self.board or self.table, self.budgets.latency_ms is not None
        if self.board and self.table:
            raise ValueError("board and table both price the latency: give one")
        if timed and not priced:
            raise ValueError("a latency budget needs a board or a table that prices it")
        if self.confidence is not None and not timed:
            raise ValueError("confidence says how surely a latency budget is kept: give budgets.latency_ms")
        return self


class BudgetTold(BaseModel):
    """A budget and what is possible."""

    limit: float
    smallest_possible: float = Field(description="No network of the space has less.")


class Counted(BaseModel):
    """A count or a share: `at_least` and `at_most` are proven, `about` lies between; equal where it is exact."""

    at_least: float
    about: float
    at_most: float


class SpaceHistogram(BaseModel):
    """Networks per interval of a cost."""

    edges: list[float] = Field(description="Ascending, one more than intervals.")
    networks: list[float] = Field(description="Of the whole space.")
    inside: list[float] = Field(description="Of those inside all budgets.")


class MetricTold(BaseModel):
    """How a cost is distributed."""

    unit: str
    min: float = Field(description="The smallest in the space, exact.")
    max: float = Field(description="The largest in the space, exact.")
    quantiles: dict[str, float] = Field(description="Share -> the cost that this share of all networks keeps.")
    quantiles_inside: dict[str, float] = Field(description="The same of those inside all budgets.")
    histogram: SpaceHistogram


class ExampleNetwork(BaseModel):
    """A network inside, chosen to use most of its budgets."""

    encoding: str
    flops: int
    params: int
    model_mb: float
    peak_memory_mb: float
    latency_ms: float | None = None


class Metrics(BaseModel):
    """Per metric how it is distributed."""

    flops: MetricTold
    params: MetricTold
    model_mb: MetricTold
    peak_memory_mb: MetricTold
    latency_ms: MetricTold | None = Field(None, description="With a board or a table.")


class Feasibility(BaseModel):
    """What budgets leave of a space. Networks that several encodings describe count once."""

    space: str
    digest: str
    table: str | None = Field(description="Digest of the table that prices latency.")
    board: str | None
    confidence: float | None = Field(description="With which the latency budget is kept; null: as predicted.")
    budgets: dict[str, BudgetTold]
    networks: float = Field(description="Distinct networks of the space.")
    inside: Counted
    share: Counted = Field(description="`inside` over `networks`.")
    metrics: Metrics
    example: ExampleNetwork
