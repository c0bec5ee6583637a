"""`nas worker`: run the jobs that users submit to a server."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated

import typer

from api.errors import OptionError
from api.executors.choice import KINDS, TrialExecutor
from api.store import Store

JobsOption = Annotated[int, typer.Option(min=1, max=64, help="Jobs at a time.")]
ExecutorOption = Annotated[str, typer.Option(help=f"Where trials run: {' or '.join(KINDS)}.")]
RayAddressOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="ray: the cluster; default: one on this machine.")
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Trials or trainings of one job at a time on this machine; default: its cores."),
]
TrialCpusOption = Annotated[float, typer.Option(min=0.1, help="ray: CPUs of a trial.")]
TrialGpusOption = Annotated[float, typer.Option(min=0.0, help="ray: GPUs of a trial, also parts of one.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def build_trial_executor(
    kind: str, address: str | None, cpus: float, gpus: float, processes: int | None
) -> TrialExecutor:
    """Where trials run, from the options.

    Raises:
        OptionError: options of Ray without it.
    """
    if kind != "ray" and (address is not None or gpus or cpus != 1.0):
        raise OptionError("--ray-address, --trial-cpus and --trial-gpus go with --executor ray")
    if kind == "ray" and processes is not None:
        raise OptionError("--processes is of this machine; on Ray the cluster says how many trials run at a time")
    return TrialExecutor(kind, address, cpus, gpus, processes or os.cpu_count() or 1)


def worker(
    name: Annotated[str | None, typer.Option(help="Unique name of this worker; default: host and process.")] = None,
    jobs: JobsOption = 2,
    processes: ProcessesOption = None,
    executor: ExecutorOption = "processes",
    ray_address: RayAddressOption = None,
    trial_cpus: TrialCpusOption = 1.0,
    trial_gpus: TrialGpusOption = 0.0,
    boards: Annotated[
        bool, typer.Option("--boards/--no-boards", help="Whether boards can be reached from here.")
    ] = True,
    lease: Annotated[
        float, typer.Option(min=2.0, max=3600.0, help="Seconds after which another worker takes a dead one's jobs.")
    ] = 30.0,
) -> None:
    """Run jobs submitted to the server that uses the same database and home; start as many as you like, anywhere.

    Example: LIGHTNAS_DATABASE_URL=postgresql://nas@db/lightnas LIGHTNAS_HOME=/shared nas worker --jobs 4

    SIGTERM or Ctrl-C: each job ends its running step, and other workers go on with what is not done.
    """
    from api.operations.log import configure
    from api.worker.supervisor import Supervisor

    choice = build_trial_executor(executor, ray_address, trial_cpus, trial_gpus, processes)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Store.open() as store:
        supervisor = Supervisor(store, name=name, jobs=jobs, executor=choice, boards=boards, lease_s=lease)
        configure(worker=supervisor.name)
        supervisor.run(stop)
