"""What every route may answer."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")


class Health(BaseModel):
    """The service is up and its database answers."""

    status: str = "ok"
    version: str


class FieldError(BaseModel):
    """What is wrong with one part of a request."""

    field: str = Field(description="Where, e.g. body.trials or query.limit.")
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details: what every error of the service looks like."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "body.trials: Input should be greater than or equal to 1",
                    "errors": [{"field": "body.trials", "message": "Input should be greater than or equal to 1"}],
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="One line that names the thing and the fix.")
    errors: list[FieldError] | None = Field(None, description="Per field, where a request is not valid.")


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: str | None = Field(None, description="The `cursor` of the next page; null on the last one.")
