"""Tokens: who may do what."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.auth import MAX_NOTE, USER_PATTERN, Role
from api.schemas.common import Page


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("may hold printable characters only")
    return text


class TokenRequest(BaseModel):
    """A token to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"user": "alice", "role": "user", "note": "her laptop", "expires_in_days": 90}]
        },
    )

    user: str = Field(pattern=USER_PATTERN, description="Owner of what is submitted with it.")
    role: Role = Field(Role.USER, description="`read`: look; `user`: submit, change one's own; `admin`: everything.")
    note: Annotated[str, AfterValidator(_printable)] | None = Field(
        None, max_length=MAX_NOTE, description="What it is for."
    )
    expires_in_days: int | None = Field(90, ge=1, le=3650, description="null: never.")


class TokenOut(BaseModel):
    """A token without its secret."""

    id: str
    user: str
    role: Role
    note: str | None
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    used_at: dt.datetime | None = Field(description="About when it was last used, to the minute.")


class TokenMade(TokenOut):
    """A new token; its text is shown here and never again."""

    token: str = Field(examples=["nas_0123456789abcdef_..."])


class TokenPage(Page[TokenOut]):
    """Tokens, newest first."""


class Me(BaseModel):
    """Whose token a request carried."""

    user: str
    role: Role
    token_id: str
