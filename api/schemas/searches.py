"""Searches: what is asked, and how far they are."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.common import Page
from api.schemas.jobs import Channels, Classes, Options, RelativePath, SearchRef, Seed, Sides, Word
from api.schemas.spaces import EncodingText
from nas.objective import MNASNET_EXPONENT

Metric = Literal["latency_ms", "flops", "params", "model_mb", "peak_memory_mb"]
Limit = Annotated[float, Field(gt=0, le=1e18, allow_inf_nan=False)]
SearchState = Literal["queued", "running", "paused", "stopped", "cancelled", "complete", "failed"]


class StrategyOptions(BaseModel):
    """What annealing may be told."""

    model_config = ConfigDict(extra="forbid", strict=True)

    chains: int | None = Field(default=None, ge=1, le=1000, description="Chains at most; null: 4.")
    start: EncodingText | None = Field(default=None, description="The first encoding.")
    t0: float | None = Field(default=None, gt=0, le=1e9, allow_inf_nan=False, description="Null: calibrated.")
    theta: float | None = Field(default=None, gt=0, lt=1, description="The temperature's factor per trial.")


class SearchRequest(BaseModel):
    """A search to be made by a worker. What is left out has the defaults of `nas search`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "flowers",
                    "space": "light-nas",
                    "resolution": [96],
                    "board": "pi4",
                    "budgets": {"latency_ms": 30, "flops": 300e6},
                    "data": "folder:flowers",
                    "trials": 300,
                },
                {"space": "mobilenetv2-small", "data": "digits", "epochs": 2, "trials": 20},
            ]
        },
    )

    space: Word = Field(description="A registered search space.")
    resolution: Sides = Field([], description="Picture sides in pixels; several make it a gene.")
    classes: Classes | None = Field(None, description="Null: as many as the data has.")
    channels: Channels | None = None
    board: Word | None = Field(None, description="Whose latency counts.")
    table: Word | None = Field(None, description="A latency table's digest (its beginning); null: the board's newest.")
    budgets: dict[Metric, Limit] = Field({}, description="Metric -> largest allowed value.")
    strategy: Word = "guided"
    strategy_options: StrategyOptions = StrategyOptions()
    evaluator: Word = Field("training", description="`training`, `table`, `remote`, or an installed plug-in's.")
    evaluator_options: Options = Field({}, description="Those that the evaluator declares for requests.")
    data: RelativePath | None = Field(
        None,
        description="`digits`, `cluttered-digits`, folder:PATH, cifar10:PATH or npz:PATH, PATH being below the data "
        "root; for the evaluator `table` the path of a CSV file there.",
    )
    epochs: int | None = Field(None, ge=1, le=100_000, description="Of a trial's training.")
    init: RelativePath | None = Field(None, description="Weights trainings start from: a checkpoint of the data root.")
    inherit: bool = Field(False, description="Start each training from the weights of the trial most like it.")
    reward: Literal["hard", "soft"] = "hard"
    reward_exponent: float = Field(MNASNET_EXPONENT, ge=-10, le=0, description="soft: w of accuracy·(latency/target)^w")
    confidence: float | None = Field(None, ge=0.5, le=0.999, description="With which a latency budget is kept.")
    rungs: list[Annotated[int, Field(ge=1, le=100_000)]] = Field(
        [], max_length=16, description="Epochs after which only the best 1/eta of the trials go on."
    )
    eta: float | None = Field(None, gt=1, le=1000, description="Null: 3.")
    front: Metric | None = Field(None, description="guided: search the whole front of accuracy against this.")
    stop_when: float | None = Field(None, gt=0, lt=1, description="guided: end when no more is expected to be missed.")
    earlier: SearchRef | None = Field(None, alias="from", description="Start from the trials of this search.")
    trials: int = Field(100, ge=1, le=1_000_000)
    parallel: int = Field(1, ge=1, le=256, description="Trials at once; decides the proposals, too.")
    seed: Seed = 0
    name: Word | None = Field(None, description="Null: search-ID.")


class EstimateOut(BaseModel):
    """How long a search will take, by what earlier ones took; nothing is run for it."""

    seconds: float | None = Field(description="All of it; null: nothing like it was searched here before.")
    trial_seconds: float | None = Field(description="A trial that no rung stops.")
    low_s: float | None = Field(description="All of it, were every trial like the fastest tenth of those known.")
    high_s: float | None = Field(description="Like the slowest tenth; both null where too little is known.")
    basis: str = Field(description="Where the numbers come from.")


class CheckOut(BaseModel):
    """A search that could be submitted."""

    name_free: bool = Field(description="False: another search has the name.")
    board: str | None = Field(description="Whose latency counts.")
    table: str | None = Field(description="Digest of the latency table it would pin.")
    confidence: float | None = Field(description="With which its latency budget would be kept.")
    classes: int = Field(description="That its networks tell apart.")
    estimate: EstimateOut


class ResumeRequest(BaseModel):
    """When a search that goes on is to end; null: as before."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"trials": 500}]})

    trials: int | None = Field(None, ge=1, le=1_000_000, description="How many trials in all.")
    stop_when: float | None = Field(None, gt=0, lt=1)


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


class SearchSummary(BaseModel):
    """A search in short."""

    id: int
    name: str
    state: SearchState
    owner: str | None = Field(description="Who submitted it; null: made on the server's command line.")
    space: str
    board: str | None
    table_digest: str | None
    strategy: str
    evaluator: str
    wanted: int = Field(description="How many trials it is to make.")
    budgets: dict[str, float] = Field(description="Metric -> largest allowed value.")
    trials: dict[str, int] = Field(description="Trials per state: running, complete, pruned, failed.")
    best: Best | None
    error: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None


class Pace(BaseModel):
    """How fast a running search is, by its latest trials."""

    trials_per_hour: float
    eta_s: float = Field(description="Seconds until its last trial at this pace.")


class SearchJob(BaseModel):
    """The job that runs a search."""

    id: int
    state: Literal["queued", "running", "paused", "complete", "failed", "cancelled"]
    wanted: Literal["run", "pause", "cancel"] = Field(description="What was asked of it while it runs.")
    worker: str | None
    attempts: int


class SearchOut(SearchSummary):
    """A search and how far it is."""

    spec: dict[str, Any] = Field(description="All that decides its trials; paths are relative to the data root.")
    beliefs: BeliefsOut | None = Field(description="As the search last stopped; null where its strategy has no model.")
    winner: dict[str, Any] | None
    job: SearchJob | None = Field(description="Null: it belongs to the command line.")
    pace: Pace | None = Field(description="Null: it does not run, or has too few trials to tell.")


class SearchPage(Page[SearchSummary]):
    """Searches in short."""
