"""`Idempotency-Key`: a POST that is sent again is not done again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from api.errors import Conflict
from api.rest.deps import ServiceDep
from api.rest.guard import SignedIn
from api.rest.problems import invalid
from api.store import Store
from api.store.engine import dump_json

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text of your own. The same request with the same key is done once; its answer is kept a week.",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]


@dataclass(frozen=True)
class Once:
    """Does what a POST asks, once per user and key.

    Attributes:
        store: where answers are kept.
        user: who asks; keys of different users have nothing to do with each other.
        key: the request's Idempotency-Key; without one, nothing is remembered.
        fingerprint: SHA-256 of the request.
    """

    store: Store
    user: str
    key: str | None
    fingerprint: str

    def __call__(
        self, action: Callable[[], BaseModel | None], status: int = 201, *, shown_once: str | None = None
    ) -> Response:
        """Run the action, or answer as it was answered the first time, with `Idempotency-Replayed: true`.

        The answer is stored in the action's own transaction: both are durable or neither. Meanwhile another request
        with the same key waits. An action that raises leaves the key free.

        Args:
            action: writes to the store only; whatever is slow belongs before this call.
            status: of the answer.
            shown_once: the answer holds a secret and is not kept; a repeated request gets 409 with this line.

        Raises:
            RequestValidationError: the key was used for another request.
            Conflict: the answer was shown once already.
        """
        with self.store.database.write():
            if self.key is not None:
                earlier = self.store.answers.take(self.user, self.key, self.fingerprint, status)
                if earlier is not None:
                    if earlier.fingerprint != self.fingerprint:
                        raise invalid("header.Idempotency-Key", "was used for another request; take a new one")
                    if shown_once is not None:
                        raise Conflict(shown_once)
                    return _respond(earlier.body, earlier.status, {"Idempotency-Replayed": "true"})
            made = action()
            body = None if made is None else made.model_dump(mode="json")
            if self.key is not None and shown_once is None and body is not None:
                self.store.answers.keep(self.user, self.key, body)
        return _respond(body, status, {})


def _respond(body: Any, status: int, headers: dict[str, str]) -> Response:
    if body is None:
        return Response(status_code=status, headers=headers)
    return Response(dump_json(body), status, headers, "application/json")


async def get_once(request: Request, service: ServiceDep, user: SignedIn, key: KeyHeader = None) -> Once:
    """The dependency."""
    parts = (
        request.method.encode(),
        request.scope["path"].encode(),
        request.scope["query_string"],
        await request.body(),
    )
    lengths = b"".join(len(part).to_bytes(8, "big") for part in parts)  # so that no byte moves from one part to another
    return Once(service.store, user.name, key, hashlib.sha256(lengths + b"".join(parts)).hexdigest())


OnceDep = Annotated[Once, Depends(get_once)]
