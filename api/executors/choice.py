"""Which executor evaluates the trials of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.errors import OptionError
from nas.evaluators import build_evaluator
from nas.executor import Executor, build_executor

if TYPE_CHECKING:
    from api.plans.plan import Plan
    from api.store import Store

KINDS = ("processes", "ray")
REMOTE = "remote"
"""The evaluator whose trials clients ask for over REST."""


@dataclass(frozen=True)
class TrialExecutor:
    """Where the trials of a worker's searches run.

    Attributes:
        kind: `processes` of this machine, or `ray`.
        address: of the Ray cluster; None: one of this machine's own.
        cpus: of a trial on Ray.
        gpus: of a trial on Ray.
        processes: of one job, at most, on this machine; a search's further trials wait for one, and so do a final's
            trainings. None: as many as it asks for.

    Raises:
        OptionError: there is no such kind.
    """

    kind: str = "processes"
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    processes: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"no executor {self.kind!r}; there are {', '.join(KINDS)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON types; the keyword arguments that make it again."""
        return asdict(self)

    def build(self, store: Store, search_id: int, plan: Plan, options: Mapping[str, Any], workdir: Path) -> Executor:
        """The executor for a search.

        Args:
            store: where remote evaluators meet their trials.
            search_id: whose trials.
            plan: of the search.
            options: the evaluator's, with what depends on this machine.
            workdir: the search's folder.

        Raises:
            LightnasError: the evaluator or its options are wrong, or Ray is missing.
        """
        spec = plan.spec
        if spec.evaluator == REMOTE:
            from api.executors.remote import RemoteExecutor

            return RemoteExecutor(store, search_id, **options)
        if self.kind == "ray" and build_evaluator(spec.evaluator, options).isolated:
            from api.executors.ray import RayExecutor

            return RayExecutor(
                spec.space,
                spec.evaluator,
                options,
                parallel=spec.parallel,
                workdir=workdir,
                address=self.address,
                cpus=self.cpus,
                gpus=self.gpus,
            )
        parallel = self.at_once(spec.parallel)  # proposals depend on the spec's, whatever waits for a process here
        return build_executor(spec.space, plan.space, spec.evaluator, options, parallel=parallel, workdir=workdir)

    def at_once(self, parallel: int) -> int:
        """How many processes this machine gives a job that asks for `parallel`."""
        return parallel if self.processes is None else min(parallel, self.processes)
