"""What every route depends on."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from api.service import Service


async def get_service(request: Request) -> Service:
    """The service a request came to; async, since a plain function would be given a thread for nothing."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(get_service)]
