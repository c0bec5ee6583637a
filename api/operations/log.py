"""Structured logs: one line an event on stderr, with the ids it belongs to, and never a secret.

Modules log by `logging.getLogger("lightnas.…")`; `extra={...}` adds fields. Ids that hold for a whole process are given
to `configure`; those of a request, or of a trial, to `bind`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from api.redaction import redact, visible

_SECRET_FIELDS = frozenset({"password", "secret", "token", "authorization"})
# Libraries that tell of every packet or request; their warnings stay.
_TALKATIVE = ("alembic", "httpcore", "httpx", "matplotlib", "paramiko", "PIL", "ray")


def configure(json: bool | None = None, **ids: str | int) -> None:
    """Send all logging of this process, libraries' included, to stderr.

    Args:
        json: a JSON object a line; else lines for people. None: JSON where stderr is no terminal.
        ids: what every line of this process belongs to, e.g. worker and job_id.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.contextvars.merge_contextvars,
                _adder(ids),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _clean,
                *(_json_lines() if as_json else _readable_lines(colors=sys.stderr.isatty())),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)  # a server that ran in this process before may have set one
        logger.disabled = False
        logger.propagate = True


def bind(**ids: str | int) -> AbstractContextManager[None]:
    """While the block runs, lines of this thread or task, and of tasks it starts, belong to these ids."""
    return structlog.contextvars.bound_contextvars(**ids)


def _adder(ids: Mapping[str, str | int]) -> Processor:
    """Fields of the process: unlike context variables, threads started by libraries have them, too."""

    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {**ids, **event}

    return add


def _clean(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn's, with escape sequences
    return {key: "***" if key.lower() in _SECRET_FIELDS else _clean_value(value) for key, value in event.items()}


def _clean_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return _clean(None, "", {str(k): v for k, v in value.items()})
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean_value(v) for v in value]
    return redact(str(value))


def _json_lines() -> list[Processor]:
    return [structlog.processors.JSONRenderer(default=str)]  # its ASCII escapes keep every event on one line


def _readable_lines(*, colors: bool) -> list[Processor]:
    console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return [_escape, console]


def _escape(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Control characters as text, so that no value looks like a line of its own or moves the cursor."""
    for key, value in event.items():
        if key == "exception":
            event[key] = "\n".join(f"    {visible(line)}" for line in str(value).split("\n"))
        elif not isinstance(value, bool | int | float | None):
            event[key] = visible(str(value))
    return event
