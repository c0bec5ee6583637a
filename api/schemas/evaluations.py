"""Trials evaluated elsewhere: what a client asks for, reports and tells."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Base64Bytes, BaseModel, ConfigDict, Field, JsonValue, model_validator

from api.redaction import has_control
from api.schemas.trials import NetworkOut

MAX_EXTRAS_BYTES = 64 * 1024
_OURS = frozenset({"rungs", "parent", "pruned_at"})  # of a trial's extras those the search itself writes and reads

Token = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="The lease's, as `ask` gave it.")]
StepNumber = Annotated[int, Field(ge=1, le=10_000_000)]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_./-]{0,63}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Metrics = Annotated[dict[MetricName, Finite], Field(max_length=16)]


def _printable(text: str) -> str:
    if has_control(text.replace("\n", " ").replace("\t", " ")):
        raise ValueError("it has control characters or ones that turn the direction of text: leave them out")
    return text


Text = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_printable)]


class AskRequest(BaseModel):
    """Trials to evaluate."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"count": 1, "client": "lab-3", "wait_s": 30}]}
    )

    count: int = Field(1, ge=1, le=64, description="At most so many.")
    client: str = Field("client", pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:-]{0,63}$", description="What people call it.")
    wait_s: float = Field(0.0, ge=0, le=30, description="How long to wait for a trial where there is none now.")
    onnx: bool = Field(
        False, description="Also give each network as ONNX, norms folded, its weights drawn by the seed; 4 at a time."
    )

    @model_validator(mode="after")
    def _not_too_large(self) -> AskRequest:
        if self.onnx and self.count > 4:
            raise ValueError("with onnx, ask for at most 4 at a time")
        return self


class LeaseFacts(BaseModel):
    """A trial that is this client's while it is heard of every `lease_s` seconds."""

    number: int
    token: str = Field(description="Proves in heartbeats, reports and the end whose trial it is.")
    encoding: list[int] = Field(description="Choice indices.")
    seed: int = Field(description="Decides all randomness of the evaluation.")
    stop_below: dict[str, float | None] = Field(
        description="Rung (a step) -> val_accuracy below which the trial ends there; null: it passes. Each of these "
        "steps has to be reported."
    )
    attempt: int = Field(description="1 for the first client that has it.")
    lease_s: float


class LeaseOut(LeaseFacts):
    """A trial that is this client's while it is heard of every `lease_s` seconds, with its network."""

    architecture: NetworkOut
    graph: dict[str, Any] = Field(description="The same for programs that use lightnas: nas.graph.Graph.from_dict.")
    onnx: Base64Bytes | None = Field(None, description="A file, in base64.")


class Given(BaseModel):
    """What was leased, as it is kept for a request that is sent again."""

    leases: list[LeaseFacts]
    finished: bool


class AskAnswer(BaseModel):
    """Leased trials, lowest numbers first; none if there was none in time."""

    leases: list[LeaseOut]
    finished: bool = Field(description="The search is over: no trial will ever come.")


class HeartbeatRequest(BaseModel):
    """A client is still at work on a trial."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"token": "0f" * 16}]})

    token: Token


class HeartbeatAnswer(BaseModel):
    """The lease holds."""

    lease_s: float = Field(description="Seconds from now, if nothing more is heard.")


class ReportRequest(BaseModel):
    """What is known of a trial after a step (an epoch); holds the lease, too."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"token": "0f" * 16, "step": 1, "steps": 10, "metrics": {"val_accuracy": 0.31}}]
        },
    )

    token: Token
    step: StepNumber
    steps: StepNumber = Field(description="How many there will be.")
    metrics: Metrics = Field({}, description="`val_accuracy` is what rungs compare.")


class ReportAnswer(BaseModel):
    """Whether to go on."""

    stop: bool = Field(
        description="The trial is among the worse ones at a rung: it has ended, there is nothing to tell."
    )


class TellRequest(BaseModel):
    """How an evaluation ended: by an accuracy, or by why it failed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"token": "0f" * 16, "accuracy": 0.912, "extras": {"epochs": 10}},
                {"token": "0f" * 16, "error": "out of memory"},
            ]
        },
    )

    token: Token
    accuracy: float | None = Field(None, ge=0, le=1, description="On the validation pictures.")
    extras: Annotated[dict[MetricName, JsonValue], Field(max_length=64)] = Field(
        {}, description="Kept with the trial; 64 KiB of JSON at most."
    )
    error: Text | None = None

    @model_validator(mode="after")
    def _one_end(self) -> TellRequest:
        if (self.accuracy is None) == (self.error is None):
            raise ValueError("give accuracy or error")
        if taken := _OURS & self.extras.keys():
            raise ValueError(f"extras {', '.join(sorted(taken))}: the search itself writes these; choose other names")
        if len(json.dumps(self.extras)) > MAX_EXTRAS_BYTES:
            raise ValueError(f"extras are longer than {MAX_EXTRAS_BYTES // 1024} KiB as JSON: tell less")
        return self
