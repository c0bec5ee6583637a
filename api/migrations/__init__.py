"""Alembic migrations of the store; run by `nas db upgrade` and at the first use of a database."""

HEAD = "0005"
"""The newest revision, known without importing Alembic so that commands start fast."""
