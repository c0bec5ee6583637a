"""Jobs: what is asked of a worker, per kind, and how far it is."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.schemas.common import Page

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A name as all things in the store have one."""
SearchRef = Annotated[int, Field(ge=1, lt=2**31)] | Word
"""A search by its number or its name."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Classes = Annotated[int, Field(ge=1, le=10_000)]
Channels = Annotated[int, Field(ge=1, le=4)]
Sides = Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(max_length=5)]
"""Resolutions; each makes a space as dear to compile again."""
RelativePath = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f\\]+$")]
"""A path below the data root; checked by `api.data.root.DataRoot`."""
Checkpoint = Annotated[RelativePath, Field(description="A checkpoint or an export below the data root.")]
OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
OptionText = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
OptionNumber = Annotated[int, Field(ge=-(2**53), le=2**53)] | Annotated[float, Field(allow_inf_nan=False)]
Options = Annotated[dict[OptionName, bool | OptionNumber | OptionText], Field(max_length=64)]
Passes = Annotated[int, Field(ge=1, le=10_000)]

# What `jobs.spec` holds is written here for each kind: api.submit.searches makes it, api.jobs reads it.


class ProfileRequest(BaseModel):
    """Measure a space's ops on a board. An unfinished profile of the same settings goes on.

    The job's spec has the same fields, without `board`, which is a column.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"board": "pi4", "space": "light-nas", "resolution": [96]}]},
    )

    board: Word
    space: Word = Field(description="A registered space.")
    resolution: Sides = Field([], description="Picture sides in pixels; several make it a gene.")
    classes: Classes | None = None
    channels: Channels | None = None
    passes: Passes | None = Field(None, description="Over all networks; null: as many as it needs.")
    networks: int | None = Field(None, ge=4, le=1000, description="Fresh networks run whole; null: 48.")
    time_limit_s: float | None = Field(None, gt=0, le=1e6, description="Measure no longer; the rest is estimated.")
    seed: Seed = 0
    fresh: bool = Field(False, description="Time every op again, and drop what an interrupted profile has measured.")


class VerifyRequest(BaseModel):
    """Run a search's networks on a board: predicted latency beside measured; or its export's answers beside here.

    The job's spec: `top`, `random`, `seed`, `passes`, `accuracy`, `pictures`, and `export`: the export job whose files
    are run, with `accuracy`. The board is a column.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"search": "flowers", "top": 5}]}
    )

    search: SearchRef
    board: Word | None = Field(None, description="Null: the search's.")
    top: int = Field(1, ge=1, le=1000, description="The search's best so many.")
    random: int | None = Field(None, ge=1, le=10_000, description="Instead: so many random networks of its space.")
    seed: Seed = Field(0, description="Of the random networks.")
    passes: Passes | None = Field(None, description="Runs of each network; null: as many as it needs.")
    accuracy: bool = Field(False, description="Instead: run the test pictures through what was exported.")
    pictures: int | None = Field(None, ge=1, le=10_000_000, description="With `accuracy`: so many; null: all.")
    export: int | None = Field(
        None, ge=1, lt=2**31, description="With `accuracy`: the job that exported; null: the newest of the search."
    )

    @model_validator(mode="after")
    def _together(self) -> VerifyRequest:
        given = self.model_fields_set
        if not self.accuracy and given & {"pictures", "export"}:
            raise ValueError("pictures and export go with accuracy")
        if self.accuracy and given & {"top", "random", "seed", "passes"}:
            raise ValueError("accuracy runs one export: it goes with board, pictures and export only")
        return self


class TrainRequest(BaseModel):
    """Train a search's best networks to the end, with the obvious choices beside them, and choose the winner.

    The job's spec: the fields of `api.finals.spec.FinalSpec` (`options` with the checkpoints pinned: `init`,
    `init_digest`, `teacher`, `teacher_digest`), `measure`, and `teacher_search`: the number of the search whose winner
    teaches, or null.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"search": "flowers", "top": 5, "seeds": 3, "options": {"epochs": 120}}]},
    )

    search: SearchRef
    top: int = Field(5, ge=1, le=100)
    epochs: int | None = Field(None, ge=1, le=100_000, description="Null: 60.")
    seeds: int = Field(1, ge=1, le=100, description="Trainings of each network.")
    baselines: int = Field(3, ge=0, le=1000, description="So many MobileNetV2 and ShuffleNetV2 inside the budgets.")
    measure: bool = Field(True, description="Run the networks on the search's board first, if it has one.")
    init: Checkpoint | None = Field(None, description="Weights to start from: a checkpoint below the data root.")
    teacher: Checkpoint | None = Field(None, description="Learn from this network's answers, too (distillation).")
    teacher_search: SearchRef | None = Field(None, description="Learn from the winner of this search.")
    options: Options = Field({}, description="Of the training: lr, ema, augment, distil, …")
    parallel: int = Field(1, ge=1, le=256, description="Trainings at once.")
    passes: Passes | None = Field(None, description="Runs of each network on the board; null: as many as it needs.")

    @model_validator(mode="after")
    def _together(self) -> TrainRequest:
        if self.teacher is not None and self.teacher_search is not None:
            raise ValueError("there is one teacher: give teacher or teacher_search")
        return self


class ExportRequest(BaseModel):
    """Write the winner as torch state, ONNX and ncnn with a model card and programs that run it.

    The job's spec has the same fields, without `search`. The files are the job's artifacts.
    """

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"search": "flowers"}]})

    search: SearchRef
    trial: int | None = Field(None, ge=0, lt=2**53, description="Another trial than the winner.")
    epochs: int | None = Field(None, ge=1, le=100_000, description="If it has to be trained now: for so long.")
    threads: int | None = Field(None, ge=1, le=256, description="CPU threads, if it has to be trained now.")
    license: str = Field("other", pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,()+_-]{0,63}$", description="For the model card.")


class JobOut(BaseModel):
    """A job and how far it is."""

    id: int
    kind: Literal["search", "profile", "verify", "train", "export"]
    search_id: int | None
    board: str | None
    spec: dict[str, Any]
    owner: str | None = Field(description="Who submitted it; null: an administrator, on the command line.")
    state: Literal["queued", "running", "paused", "complete", "failed", "cancelled"]
    wanted: Literal["run", "pause", "cancel"] = Field(description="What its user wants of it while it runs.")
    worker: str | None
    attempts: int = Field(description="Claims by workers since it last made progress.")
    progress: dict[str, Any] | None
    result: dict[str, Any] | None = Field(description="What the command of the same name prints with --json.")
    error: str | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


class JobPage(Page[JobOut]):
    """Jobs, newest first."""


class ArtifactOut(BaseModel):
    """A file that a job made."""

    id: int
    job_id: int
    search_id: int | None
    name: str = Field(description="A relative path, unique in its job.")
    media_type: str
    size: int = Field(description="In bytes.")
    sha256: str
    created_at: dt.datetime


class ArtifactPage(Page[ArtifactOut]):
    """Artifacts, oldest first."""
