"""Who may: dependencies that give the user of a request, or refuse it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api.auth import Role, User
from api.errors import Forbidden, Unauthorized
from api.rest.deps import ServiceDep
from api.rest.limits import Rates

_SCHEME = HTTPBearer(
    scheme_name="token",
    bearerFormat="nas_<id>_<secret>",
    description="A token; `nas tokens create` or an admin's POST /api/v1/tokens makes one.",
    auto_error=False,  # its own refusal would be counted by nobody
)
_log = logging.getLogger(__name__)


def sign_in(
    request: Request,
    service: ServiceDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)],
) -> User:
    """The user whose token a request carries; also kept as `request.state.user`.

    Raises:
        Unauthorized: there is no token, or none that is valid.
        HTTPException: 429, too many requests with this token, or without a valid one from this address.
    """
    known: User | None = getattr(request.state, "user", None)
    if known is not None:
        return known
    rates: Rates = request.app.state.rates
    try:
        if credentials is None:
            raise Unauthorized("no token: send the header `Authorization: Bearer nas_...`")
        user = service.store.tokens.check(credentials.credentials)
    except Unauthorized as e:
        address = request.client.host if request.client else None
        rates.refusal(address)  # first, so that nobody fills the log
        _log.warning("refused %r: %s", address, e)
        raise
    rates.request(user.token_id)
    request.state.user = user
    return user


async def sign_in_senders(request: Request, service: ServiceDep) -> None:
    """Signs in whoever sends something, a dependency of the whole application: before the body is looked at.

    The framework has read it by then, up to the size that the limits allow.
    """
    if request.method not in ("GET", "HEAD"):
        await run_in_threadpool(sign_in, request, service, await _SCHEME(request))


SignedIn = Annotated[User, Depends(sign_in)]


def _at_least(needed: Role) -> Callable[[User], Awaitable[User]]:
    async def check(user: SignedIn) -> User:
        if not user.role.allows(needed):
            raise Forbidden(f"this needs a token of role {needed}; yours has role {user.role}")
        return user

    return check


Reader = Annotated[User, Depends(_at_least(Role.READ))]
Submitter = Annotated[User, Depends(_at_least(Role.USER))]
Admin = Annotated[User, Depends(_at_least(Role.ADMIN))]


def require_owner(user: User, owner: str | None) -> None:
    """Let only the owner of something, or an admin, change it.

    Args:
        user: who asks.
        owner: whose it is; None: made on the command line, so an admin's.

    Raises:
        Forbidden: it is somebody else's, or the token may only read.
    """
    if user.role is Role.ADMIN or (user.role.allows(Role.USER) and user.name == owner):
        return
    raise Forbidden(f"this is {owner or 'the command line'}'s; only its owner or a token of role admin may change it")


def _read_metrics(
    request: Request,
    service: ServiceDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)],
) -> User | None:
    return None if service.serve.loopback else sign_in(request, service, credentials)


MetricsReader = Annotated[User | None, Depends(_read_metrics)]
"""Anyone where only this machine reaches the service; elsewhere a token of any role."""
