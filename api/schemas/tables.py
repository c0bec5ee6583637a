"""Latency tables: what was measured on a board."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel, Field

from api.schemas.common import Page


class TableOut(BaseModel):
    """A latency table, without its entries."""

    digest: str = Field(description="SHA-256 of its content: its name.")
    board: str
    spaces: str = Field(description="Names of the spaces it covers, joined by commas.")
    engine: str
    ops: int = Field(description="Entries: kernels timed or estimated.")
    created_at: dt.datetime


class TablePage(Page[TableOut]):
    """Latency tables, newest first."""


class TableIdentity(BaseModel):
    """What a table's times hold for."""

    board: str
    model: str = Field(description="What the board calls itself.")
    machine: str = Field(description="Architecture, e.g. aarch64.")
    engine: str
    engine_version: str
    dtype: str
    threads: int
    cores: list[int]
    governor: str = Field(description="Of the cores' frequency; empty where the board does not tell.")


class TableCalibration(BaseModel):
    """How a table was fitted to whole networks."""

    scale: float
    networks: int = Field(description="Whole networks measured for it.")
    error_pct: float = Field(description="Mean absolute error on them, each predicted without itself.")
    split_half_pct: float | None = Field(description="The measurement's own noise; null if there was but one pass.")
    terms: dict[str, float] = Field({}, description="From an entry to its op's part of a network's time.")
    residuals: list[float] = Field([], description="log(measured / predicted) per network; intervals come from them.")
    drift_sigma: float = Field(0.0, description="Standard error of what all log times shift by between measurements.")


class SpaceMarkOut(BaseModel):
    """A space a table covers."""

    name: str
    digest: str


class TableProvenance(BaseModel):
    """How a table came about."""

    date: str
    command: str
    spaces: list[SpaceMarkOut]
    networks: int = Field(description="Cover networks run.")
    passes: int
    seconds: float = Field(description="Of board time.")
    samples_sha256: str = Field(description="Of the raw samples.")
    facts: dict[str, Any] = Field({}, description="What the board told of itself.")
    complete: bool = Field(True, description="False: cut short; the rest is estimated.")


class EntryOut(BaseModel):
    """A kernel's time."""

    key: str
    ms: float = Field(description="As timed inside cover networks, before the calibration.")
    spread: float = Field(description="Interquartile range of its samples as a share of ms.")
    samples: int = Field(description="0: not timed but estimated from others.")
    sigma: float = Field(description="Standard error of log(ms) of an estimate.")


class TableDetail(TableOut):
    """A latency table; its entries only where they are asked for, a page at a time."""

    offset_ms: float = Field(description="Of every network beyond its ops, before the scale.")
    identity: TableIdentity
    calibration: TableCalibration
    provenance: TableProvenance
    entries: list[EntryOut] | None = Field(None, description="By key; null: not asked for.")
    next: str | None = Field(None, description="The `cursor` of the next entries; null: there are no more.")


class Coverage(BaseModel):
    """Which of a space's kernels a table knows."""

    table: str
    board: str
    space: str
    kernels: int = Field(description="Distinct kernels of all networks of the space.")
    timed: int = Field(description="Of them, those that were timed.")
    estimated: int = Field(description="Those whose time follows from others.")
    missing: int = Field(description="Those the table lacks: with any, it cannot price the space.")
    share: float = Field(description="Timed or estimated, of all.")
    missing_keys: list[str] = Field(description="The first 50 that are missing, by key.")


class TableImported(BaseModel):
    """A table that was sent."""

    digest: str
    board: str
    ops: int
    new: bool = Field(description="False: it was stored already.")
