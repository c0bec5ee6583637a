"""Trials, their networks, and fronts."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel, Field

from api.schemas.common import Page
from nas.trial import TrialState


class TrialSummary(BaseModel):
    """One trial."""

    number: int
    encoding: str
    state: TrialState = Field(description="`pruned`: stopped at a rung; its accuracy is the one it had there.")
    accuracy: float | None = Field(description="On the validation pictures, in [0, 1].")
    reward: float | None = Field(description="What the strategy maximises.")
    costs: dict[str, float] = Field(description="Predicted before the trial began: metric -> value.")
    seconds: float = Field(description="Wall time of the evaluation.")
    error: str | None = Field(description="Why it failed.")
    started_at: dt.datetime
    finished_at: dt.datetime | None


class TrialOut(TrialSummary):
    """One trial with all its evaluator told."""

    extras: dict[str, Any] = Field(description="Of the evaluator: training history, accuracies at rungs, ...")
    stop_below: dict[str, float | None] = Field(
        description="Rung (a step) -> accuracy below which the trial ends there; null: it passes."
    )


class TrialPage(Page[TrialSummary]):
    """Trials, in the order asked for."""


class OpOut(BaseModel):
    """An op in its place."""

    path: str = Field(description="Names its weights: `s2.b1.dw`.")
    kind: str = Field(description="conv, depthwise, linear, add, concat, split, shuffle, maxpool, avgpool, ...")
    reads: list[list[int]] = Field(description="Per input [op, output]: its index in `ops`; -1 is the picture.")
    inputs: list[list[int]] = Field(description="Shapes [channels, height, width] at batch 1.")
    outputs: list[list[int]] = Field(description="Shapes; only a split has several.")
    kernel: list[int] = Field(description="[height, width]")
    stride: list[int] = Field(description="[vertical, horizontal]; padding is (kernel - 1) // 2 on each side.")
    groups: int
    act: str = Field(description="The activation behind it: none, relu, relu6, hswish, hsigmoid, sigmoid, swish.")
    norm: bool = Field(description="A batch norm follows the weights, before the activation.")
    bias: bool = Field(description="The weights have a bias of their own.")
    flops: int = Field(description="Multiply-accumulates.")
    params: int
    predicted_ms: float | None = Field(None, description="Its part of the prediction; 0: part of another op's kernel.")
    share: float | None = Field(None, description="Of the network's predicted latency, in [0, 1].")
    measured_ms: float | None = Field(
        None,
        description="Its kernel as timed inside profiled networks, before the table's calibration; null: not timed.",
    )
    estimated: bool | None = Field(None, description="Its kernel was not timed; its time follows from others.")


class BlockOut(BaseModel):
    """Ops that belong together."""

    name: str
    input: list[int] = Field(description="[channels, height, width]")
    output: list[int] = Field(description="[channels, height, width]")
    kernel: int | None = Field(description="Side of its largest window.")
    expansion: int | None = Field(description="Of an inverted residual.")
    residual: bool = Field(description="Its input is added to its output.")
    squeeze_excite: bool
    ops: list[str] = Field(description="Their paths.")


class StageOut(BaseModel):
    """Consecutive blocks, with the genes that decide them."""

    name: str
    label: str = Field(description="In a few letters, e.g. k5 e6 SE.")
    genes: dict[str, Any] = Field(description="Gene -> chosen value.")
    width: int = Field(description="Channels it passes on.")
    resolution: list[int] = Field(description="[height, width] it passes on.")
    repeats: int = Field(description="Blocks.")
    blocks: list[BlockOut]
    flops: int
    params: int
    predicted_ms: float | None = None


class NetworkTotals(BaseModel):
    """Of the whole network."""

    flops: int = Field(description="Multiply-accumulates at batch 1.")
    params: int = Field(description="Trainable parameters.")
    model_mb: float = Field(description="Exported fp32 weights in MB.")
    peak_memory_mb: float = Field(description="Most fp32 activations alive at once in MB.")
    predicted_ms: float | None = Field(None, description="Ops and overhead.")
    overhead_ms: float | None = Field(None, description="Predicted of the network beyond its ops.")
    low_ms: float | None = Field(None, description="Where the 90 % interval of the measured latency begins.")
    high_ms: float | None = Field(None, description="Where it ends.")


class NetworkOut(BaseModel):
    """What a network is: genes, stages and every op with its cost."""

    space: str
    encoding: str
    genes: dict[str, Any] = Field(description="Gene -> chosen value, all of them.")
    input: list[int] = Field(description="[channels, height, width] of a picture.")
    outputs: list[int] = Field(description="Shape of what it returns.")
    stages: list[StageOut]
    ops: list[OpOut] = Field(description="In execution order; the last one returns the result.")
    totals: NetworkTotals
    board: str | None = Field(None, description="Whose table predicts.")
    table: str | None = Field(None, description="Its digest.")


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
    by: str = Field(description="The metric of the cost, e.g. latency_ms or flops.")
    unit: str
    confidence: float | None = Field(description="With which answers in ms are kept when measured; null: as predicted.")
    smallest: float = Field(description="Where budgets begin: the smallest cost in the space.")
    largest: float = Field(description="Where they end: the search's own budget, or the largest cost in the space.")
    hypervolume: float = Field(description="Mean best accuracy over all budgets between; a budget none keeps counts 0.")
    front: list[FrontTrial] = Field(description="By rising cost.")
    answers: list[FrontAnswer]
