"""What happened."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel, Field


class EventOut(BaseModel):
    """Something that happened."""

    id: int = Field(description="Rises; a stream goes on behind it with the header Last-Event-ID.")
    kind: str = Field(
        description="search.created, search.state, search.deleted, trial.started, trial.step, trial.ended, job.state, "
        "job.progress or job.deleted; others may come."
    )
    search_id: int | None
    job_id: int | None
    trial: int | None
    data: dict[str, Any]
    created_at: dt.datetime


class EventPage(BaseModel):
    """Events in order; ask again with `after=last`."""

    items: list[EventOut]
    last: int = Field(description="Number of the last event here; as asked where there is none.")
