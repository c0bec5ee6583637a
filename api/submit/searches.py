"""Submitting: what a user asks, on the command line or over REST, -> a checked plan or job, in one way for both."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.data.root import DataRoot
from api.errors import OptionError
from api.plans.spec import SearchSpec
from api.store import Store
from nas.errors import UnknownPlugin
from nas.evaluators import find_evaluator
from nas.objective import MNASNET_EXPONENT
from nas.spaces import space_names
from nas.spaces.recipe import SpaceSpec
from nas.strategies import strategy_names

if TYPE_CHECKING:
    from api.plans.plan import Plan
    from api.schemas.searches import SearchRequest
    from latency.table import LatencyTable

TRIALS = 100
_MOST = {"threads": 256, "gpus": 64, "batch": 65_536, "epochs": 100_000}
"""Of options that a request gives a number without an end to: such a job would take its worker along."""
PINNED = ("init", "teacher")
"""Options of the evaluator `training` that name checkpoints."""


@dataclass(frozen=True)
class Asked:
    """A search as it is asked, nothing looked up yet; what is None follows from the rest (`plan_search`).

    Attributes:
        space: what is searched; classes that are None are those of the data.
        board: whose latency counts; None: the table's.
        table: a latency table's digest or its beginning, or a board; None: the board's newest.
        data: of a training a data spec, of the evaluator `table` a file; paths are absolute.
        epochs: of a training.
        init: a checkpoint that trainings start from.
        inherit: whether each training starts from the trial most like it.
        earlier: name or number of a search whose trials the strategy learns from.

    The others are those of `SearchSpec`.
    """

    space: SpaceSpec
    board: str | None = None
    table: str | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    strategy: str = "guided"
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    evaluator: str = "training"
    evaluator_options: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None
    epochs: int | None = None
    init: str | None = None
    inherit: bool = False
    reward: str = "hard"
    reward_exponent: float = MNASNET_EXPONENT
    confidence: float | None = None
    rungs: tuple[int, ...] = ()
    eta: float | None = None
    front: str | None = None
    stop_when: float | None = None
    earlier: str | None = None
    trials: int | None = None
    parallel: int = 1
    seed: int = 0


def plan_search(store: Store, asked: Asked) -> tuple[Plan, str | None]:
    """The plan of what is asked, and the board it is for, if there is one.

    Raises:
        LightnasError: what cannot be, or is not there; nothing has been stored.
    """
    from api.networks.spaces import kept_space
    from api.plans.earlier import earlier_trials, pin_earlier
    from api.plans.plan import build_plan, default_confidence

    spec = _spec(asked)
    if asked.earlier is not None:
        spec = dataclasses.replace(spec, earlier=pin_earlier(store, asked.earlier, kept_space(spec.space).space))
    measured = _table(store, spec, asked.board, asked.table)
    if measured is not None and "latency_ms" in spec.hard_budgets:
        sure = default_confidence(measured) if asked.confidence is None else asked.confidence
        spec = dataclasses.replace(spec, confidence=sure)
    elif asked.confidence is not None:
        raise OptionError("--confidence says how surely --latency-ms is kept; give both, and a board or table")
    plan = build_plan(spec, measured, earlier_trials(store, spec))
    return plan, measured.identity.board if asked.board is None and measured is not None else asked.board


def _spec(asked: Asked) -> SearchSpec:
    from api.plans.checks import count_classes

    if asked.eta is not None and not asked.rungs:
        raise OptionError("--eta says how many trials go on at --rungs; give both")
    if asked.strategy_options and asked.strategy == "guided":
        raise OptionError(f"--{next(iter(asked.strategy_options))} is for --strategy annealing; name that, too")
    options, space = _evaluator_options(asked), asked.space
    eta: dict[str, Any] = {} if asked.eta is None else {"eta": asked.eta}
    if asked.evaluator == "training" and not space.classes:
        space = dataclasses.replace(space, classes=count_classes(str(options["data"])))
    return SearchSpec(
        space=space,
        budgets=asked.budgets,
        strategy=asked.strategy,
        strategy_options=asked.strategy_options,
        evaluator=asked.evaluator,
        evaluator_options=options,
        trials=TRIALS if asked.trials is None else asked.trials,
        parallel=asked.parallel,
        seed=asked.seed,
        reward=asked.reward,
        reward_exponent=asked.reward_exponent,
        front=asked.front,
        stop_when=asked.stop_when,
        rungs=asked.rungs,
        **eta,
    )


def _evaluator_options(asked: Asked) -> dict[str, Any]:
    from api.plans.checkpoints import pin

    options = dict(asked.evaluator_options)
    if asked.data is not None:
        options["path" if asked.evaluator == "table" else "data"] = asked.data
    if asked.epochs is not None:
        options["epochs"] = asked.epochs
    weights = {k: v for k, v in (("init", asked.init), ("inherit", asked.inherit or None)) if v is not None}
    if weights and asked.evaluator != "training":
        raise OptionError(f"--{next(iter(weights))} gives weights to trainings; --evaluator {asked.evaluator} has none")
    options |= weights
    if asked.evaluator == "training":
        for name in PINNED:
            if options.get(name) is not None:
                options |= pin(name, Path(options[name]))
        options.setdefault("data", "digits")
    return options


def _table(store: Store, spec: SearchSpec, board: str | None, table: str | None) -> LatencyTable | None:
    from api.boards.tables import find_table
    from api.networks.spaces import kept_space

    if board is not None:
        store.boards.get(board)
    if table is None and board is None:
        return None
    return find_table(store, table or board or "", kept_space(spec.space).space)


# Requests -----------------------------------------------------------------------------------------------------------


def read_request(request: SearchRequest, root: DataRoot) -> Asked:
    """A request over REST as what is asked; it can name registered things only, and files only below the data root.

    Raises:
        UnknownPlugin: a space, evaluator or strategy that is not registered.
        RequestValidationError: a path that is none below the root, or an option that the evaluator takes from nobody
            remote; names the field.
    """
    from api.rest.fields import naming

    if request.strategy not in strategy_names():
        raise UnknownPlugin(f"no strategy {request.strategy!r}; there are {', '.join(strategy_names())}")
    options = named_options(request.evaluator, request.evaluator_options, root, "body.evaluator_options")
    for name in ("data", "epochs", "init", "inherit"):
        value = getattr(request, name)
        if value is not None and value is not False:
            option = "path" if request.evaluator == "table" and name == "data" else name
            with naming(f"body.{name}", OptionError):
                options |= served_options(request.evaluator, {option: value}, root)
    return Asked(
        space=registered_space(request.space, request.resolution, request.classes, request.channels),
        evaluator_options=options,
        strategy_options=request.strategy_options.model_dump(exclude_none=True),
        rungs=tuple(request.rungs),
        earlier=None if request.earlier is None else str(request.earlier),
        **{name: getattr(request, name) for name in _AS_ASKED},
    )


_AS_ASKED = (
    *("board", "table", "budgets", "strategy", "evaluator", "reward", "reward_exponent", "confidence", "eta"),
    *("front", "stop_when", "trials", "parallel", "seed"),
)


def registered_space(name: str, resolution: list[int], classes: int | None, channels: int | None) -> SpaceSpec:
    """The spec of a registered space: a name that is a YAML file's would be read.

    Raises:
        UnknownPlugin: there is none of that name.
    """
    if name not in space_names():
        raise UnknownPlugin(f"no search space {name!r}; there are {', '.join(space_names())}")
    return SpaceSpec(name, tuple(resolution), classes, channels)


def served_options(evaluator: str, given: Mapping[str, Any], root: DataRoot) -> dict[str, Any]:
    """Options of a request, as the evaluator is given them: only those it declares, each of its kind.

    Raises:
        UnknownPlugin: there is no such evaluator.
        OptionError: an option it does not declare, a value of another kind, a path that is none below the root.
    """
    kinds, found = find_evaluator(evaluator).served_options, {}
    for name, value in given.items():
        if name not in kinds:
            known = f"it takes {', '.join(kinds)}" if kinds else "it takes none"
            raise OptionError(f"evaluator {evaluator} takes no option {name!r} from a request; {known}")
        fits, read = _KINDS[kinds[name]]
        if not fits(value):
            raise OptionError(f"option {name} of evaluator {evaluator} must be a {kinds[name]}, not {value!r}")
        if kinds[name] == "number" and value > _MOST.get(name, math.inf):
            raise OptionError(f"option {name} of evaluator {evaluator} may be {_MOST[name]} at most, not {value:g}")
        found[name] = read(root, value)
    return found


def named_options(evaluator: str, given: Mapping[str, Any], root: DataRoot, field: str) -> dict[str, Any]:
    """As `served_options`; what is wrong with an option is told of that field of the request, e.g. `body.options.lr`.

    Raises:
        UnknownPlugin: there is no such evaluator.
        RequestValidationError: an option cannot be.
    """
    from api.rest.fields import naming

    found = served_options(evaluator, {}, root)
    for name, value in given.items():
        with naming(f"{field}.{name}", OptionError):
            found |= served_options(evaluator, {name: value}, root)
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# kind of an option -> (whether a value is one, what the evaluator gets)
_KINDS: dict[str, tuple[Callable[[object], bool], Callable[[DataRoot, Any], Any]]] = {
    "number": (_is_number, lambda _, value: value),
    "flag": (lambda value: isinstance(value, bool), lambda _, value: value),
    "text": (_is_text, lambda _, value: value),
    "data": (_is_text, lambda root, value: root.data(value)),
    "file": (_is_text, lambda root, value: str(root.file(value))),
    "checkpoint": (_is_text, lambda root, value: str(root.path(value))),
}
