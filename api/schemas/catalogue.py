"""What a new search may be made of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class StrategyOut(BaseModel):
    """A strategy by name."""

    name: str
    summary: str = Field(description="One line on how it proposes.")


class EvaluatorOut(BaseModel):
    """An evaluator by name."""

    name: str
    summary: str = Field(description="One line on what it does.")
    steps: int = Field(description="Steps (epochs) a trial reports unless options say otherwise; 0: no rungs.")
    options: dict[str, str] = Field(
        description="Option that a request may give -> number, flag, text, data, file or checkpoint."
    )


class DatasetOut(BaseModel):
    """A data set by its looks; what only its content would tell is null."""

    name: str = Field(description="As a search names it: `digits`, `folder:flowers`.")
    kind: Literal["built-in", "folder", "cifar10", "npz"]
    classes: int | None
    channels: int | None
    resolution: int | None = Field(
        description="Side of its pictures in pixels; null also where they have no common one."
    )
    train: int | None = Field(description="Pictures for training.")
    test: int | None = Field(description="Pictures for the winner.")


class MetricOut(BaseModel):
    """What a budget may be on, or a front against."""

    name: str
    unit: str
    title: str


class Catalogue(BaseModel):
    """What a new search may be made of. The search spaces have an address of their own."""

    strategies: list[StrategyOut]
    evaluators: list[EvaluatorOut]
    datasets: list[DatasetOut] = Field(description="Built in, and below the data root; 200 names at most.")
    csv_files: list[str] = Field(description="Below the data root: `data` of the evaluator `table`.")
    metrics: list[MetricOut]
    board_engines: list[str]
    defaults: dict[str, Any] = Field(description="Field of a search -> what it is where it is left out.")
