"""Errors of what a request names, told as errors of its fields."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from api.rest.problems import invalid
from nas.errors import ImpossibleBudget, LightnasError, MissingOps

_SHOWN = 3


@contextlib.contextmanager
def naming(field: str, *errors: type[LightnasError]) -> Iterator[None]:
    """Turn errors of these kinds inside the block into one of that field.

    Args:
        field: where, e.g. `body.table`.
        *errors: the kinds.

    Raises:
        RequestValidationError: instead of them.
    """
    try:
        yield
    except errors as e:
        raise invalid(field, str(e)) from e


@contextlib.contextmanager
def naming_costs(table_field: str) -> Iterator[None]:
    """Turn budgets no network keeps, and ops a table lacks, into errors of fields.

    Args:
        table_field: what named the table.

    Raises:
        RequestValidationError: about `body.budgets.<metric>`, with the smallest possible value; about `body.budgets`
            where each alone is possible; about the table.
    """
    try:
        yield
    except ImpossibleBudget as e:
        metrics = list(e.smallest)
        raise invalid(f"body.budgets.{metrics[0]}" if len(metrics) == 1 else "body.budgets", str(e)) from e
    except MissingOps as e:
        some = ", ".join([*e.keys[:_SHOWN], *(["..."] if len(e.keys) > _SHOWN else [])])
        raise invalid(
            table_field,
            f"the latency table lacks {len(e.keys)} ops of the space ({some}); "
            "GET /api/v1/tables/{digest}/coverage tells which; profile the space on its board",
        ) from e
