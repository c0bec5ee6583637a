"""One training in several processes, each on a GPU of its own, through torch.distributed.

Every process goes through the same batches and trains on its part of each; gradients are averaged. The first one
judges, saves and reports. On CUDA the norms see the whole batch (`SyncBatchNorm`), so the result is that of one GPU but
for rounding.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from nas.errors import EvaluationError, LightnasError
from nas.evaluator import Progress, Report
from nas.lifeline import die_with_parent
from nas.network import Network

_POLL_S = 0.2


@dataclass(frozen=True)
class Ranks:
    """Which of several processes this is.

    Attributes:
        index: 0 for the first one.
        count: of them.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one judges, saves and reports."""
        return self.index == 0

    def part(self, n: int) -> slice:
        """Which of a batch's n pictures are this process's."""
        return slice(self.index, n, self.count)

    def wrap(self, network: Network, device: torch.device) -> nn.Module:
        """The network as it is called while training, its gradients shared."""
        if self.count == 1:
            return network
        if device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a scalar over all processes."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value


ALONE = Ranks()

Work = Callable[[Ranks, Any, Report], None]
"""What a process does: which one it is, what it was given, whom to report to. A function of a module."""


def run_ranks(work: Work, given: Any, count: int, device: str, report: Report) -> None:
    """Have `count` processes do the work together, and pass on what the first one reports.

    Args:
        work: what each does.
        given: what each is given; picklable.
        count: of them.
        device: type of the devices: `cuda` or, for tests, `cpu`.
        report: what it raises ends the processes.

    Raises:
        EvaluationError: one of them failed; says why.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    messages = get_context("spawn").SimpleQueue()
    running = spawn(_process, (work, given, count, device, address, messages, os.getpid()), nprocs=count, join=False)  # type: ignore[no-untyped-call]
    failure = ""
    try:
        over = False
        while not over:
            over = running.join(timeout=_POLL_S)
            while not messages.empty():
                message = messages.get()
                if isinstance(message, str):
                    failure = failure or message
                else:
                    report(Progress(*message))
    except (ProcessRaisedException, ProcessExitedException) as e:
        while not failure and not messages.empty():
            message = messages.get()
            failure = message if isinstance(message, str) else ""
        lines = str(e).strip().splitlines()
        raise EvaluationError(failure or f"a process of the training on {count} GPUs died: {lines[-1]}") from e
    finally:
        for process in running.processes:
            process.kill()


def _process(
    index: int, work: Work, given: Any, count: int, device: str, address: str, messages: Any, parent: int
) -> None:
    die_with_parent(parent)  # torch asks for SIGINT then, which a slot's children ignore
    if device == "cuda":
        torch.cuda.set_device(index)
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo", init_method=address, rank=index, world_size=count
    )
    try:
        work(Ranks(index, count), given, lambda p: messages.put((p.step, p.steps, dict(p.metrics))))
    except LightnasError as e:
        messages.put(str(e))
        raise
    finally:
        distributed.destroy_process_group()
    # Not through Python's own end: a thread of torch's that still lets go of something then may abort the process, and
    # a training that is done would pass for one that died. What is told has been written by now.
    os._exit(0)
