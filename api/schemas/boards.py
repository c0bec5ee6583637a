"""Boards: the machines to profile."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.common import Page
from api.schemas.jobs import Word


class BoardOut(BaseModel):
    """A registered board. Which key logs in to it is told to nobody."""

    name: str
    address: str = Field(description="`local`, or [user@]host[:port] of its SSH server.")
    engine: str
    threads: int
    cores: list[int] = Field(description="The cores it runs on; empty: as its system chooses.")
    dtype: str


class BoardPage(Page[BoardOut]):
    """Boards, by name."""


class BoardDetail(BoardOut):
    """A board with what its last check found."""

    facts: dict[str, Any] | None = Field(description="As the last check found it; null: never checked.")


class BoardRequest(BaseModel):
    """A board to register. The server logs in with its own user's SSH keys and agent; a request names none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "pi4", "address": "pi@raspberrypi.local", "cores": [3]}]},
    )

    name: Word
    address: str = Field(
        min_length=1,
        max_length=320,
        pattern=r"^[A-Za-z0-9_.@+:\[\]%-]+$",
        description="`local` for the server itself, or [user@]host[:port] of an SSH server.",
    )
    engine: str = Field("ncnn", pattern="^[a-z][a-z0-9_-]{0,31}$", description="The inference engine.")
    threads: int = Field(1, ge=1, le=1024, description="Of the engine.")
    cores: list[Annotated[int, Field(ge=0, lt=1024)]] = Field(
        [], max_length=1024, description="To pin to; empty: the system chooses."
    )
    dtype: Literal["fp32", "fp16", "bf16"] = Field("fp32", description="The engine's arithmetic.")
