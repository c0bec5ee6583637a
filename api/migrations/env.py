"""Alembic's entry: runs on the connection `api.store.engine` hands over."""

from __future__ import annotations

from alembic import context

from api.store.models import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("error: run migrations with `nas db upgrade`, which knows the database")
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
