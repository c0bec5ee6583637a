"""The web side without any business: errors, who may, limits, idempotency, paging, event streams."""
