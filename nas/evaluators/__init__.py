"""Evaluators by name: those that ship, and third parties' (entry points `lightnas.evaluators`)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from nas.errors import EvaluationError, UnknownPlugin
from nas.evaluator import Evaluator

GROUP = "lightnas.evaluators"
# Named, not imported: a search over a table needs no torch.
_BUILT_IN = {
    "remote": ("nas.evaluators.remote", "RemoteEvaluator"),
    "table": ("nas.evaluators.tabular", "TableEvaluator"),
    "training": ("nas.evaluators.training", "TrainingEvaluator"),
}


def evaluator_names() -> list[str]:
    """Names `build_evaluator` knows."""
    return sorted({*_BUILT_IN, *(e.name for e in entry_points(group=GROUP))})


def build_evaluator(name: str, options: Mapping[str, Any] | None = None) -> Evaluator:
    """The evaluator of that name.

    Args:
        name: a shipped evaluator's, or the name of an entry point of the group `lightnas.evaluators`.
        options: its keyword arguments, JSON types.

    Raises:
        UnknownPlugin: no such name; lists what there is.
        EvaluationError: an option is unknown, missing or has a wrong value.
    """
    kind = find_evaluator(name)
    given = dict(options or {})
    try:
        inspect.signature(kind).bind(**given)
    except TypeError as e:
        known = ", ".join(inspect.signature(kind).parameters)
        raise EvaluationError(f"evaluator {name}: {e}; its options are {known}") from e
    return kind(**given)


def find_evaluator(name: str) -> type[Evaluator]:
    """The class of the evaluator of that name.

    Raises:
        UnknownPlugin: there is none, or it cannot be loaded.
    """
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        kind = getattr(import_module(module), attribute)
    else:
        found = list(entry_points(group=GROUP, name=name))
        if not found:
            raise UnknownPlugin(f"no evaluator {name!r}; there are {', '.join(evaluator_names())}")
        try:
            kind = found[0].load()
        except Exception as e:
            raise UnknownPlugin(f"evaluator {name!r} ({found[0].value}) cannot be loaded: {e!r}; reinstall it") from e
    if not (isinstance(kind, type) and issubclass(kind, Evaluator)):
        raise UnknownPlugin(f"evaluator {name!r} is {kind!r}, no subclass of nas.evaluator.Evaluator")
    return kind
