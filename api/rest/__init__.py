"""The web side without any business: errors, who may, limits, idempotency, paging, event streams."""

from __future__ import annotations

from api.rest import numbers

numbers.install()  # here, since every module with routes imports this package before it declares them
