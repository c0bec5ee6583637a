"""Trials of a search, evaluated by this process: leased, kept by heartbeats, told."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from api.client.transport import ServerError, Transport
from api.redaction import visible
from api.schemas.evaluations import LeaseOut, ReportAnswer
from nas.graph import Graph
from nas.rungs import Stop

_GONE = (404, 409)  # the trial is another client's by now, or nobody waits for it
_REFUSED = (413, 422)  # what was told of the trial cannot be taken, now or later; other trials are not concerned
_LONGEST = 2000  # of an error's text

log = logging.getLogger("lightnas.client")


class LeasedTrial:
    """A trial that is this process's until it is told, or this process is not heard of.

    As a context manager it ends the trial however the block ends: a `Stop` passes for what it is, any other exception
    is told as the reason why the trial failed, and the loop goes on; one of a server that refuses what it was told
    (`ServerError` of status 413 or 422), too, but that of a server that stays away or lets nobody in ends the loop.

    Attributes:
        number: of the trial.
        encoding: choice indices.
        seed: decides all randomness of the evaluation.
        architecture: genes by name, stages, and the ops with all that another framework needs to build them.
        graph: the same as lightnas has it: `nas.network.Network(trial.graph)` is the torch module.
        stop_below: rung (a step, as text) -> `val_accuracy` below which it ends there; each of these steps has to be
            reported.
        attempt: 1 unless other clients were lost with it.
        onnx: the network as ONNX, if that was asked for.
        lost: whether it is another client's by now, or the search is over.
    """

    def __init__(self, transport: Transport, search_id: int, lease: LeaseOut, *, patience_s: float) -> None:
        self.number, self.encoding, self.seed = lease.number, tuple(lease.encoding), lease.seed
        self.architecture, self.stop_below, self.attempt = lease.architecture, dict(lease.stop_below), lease.attempt
        self.graph = Graph.from_dict(lease.graph)
        self.onnx: bytes | None = lease.onnx
        self.lost = False
        self._transport, self._patience_s = transport, patience_s
        self._path = f"searches/{search_id}/evaluations/{lease.number}"
        self._token, self._lease_s = lease.token, lease.lease_s
        self._ended = threading.Event()
        threading.Thread(target=self._beat, name=f"heartbeat of trial {self.number}", daemon=True).start()

    def report(self, step: int, metrics: Mapping[str, float], *, steps: int | None = None) -> None:
        """Tell what is known after a step; `val_accuracy` is what rungs compare.

        Args:
            step: 1, 2, 3, … (epochs).
            metrics: numbers by name; those that are not finite are left out.
            steps: how many there will be.

        Raises:
            Stop: the trial has ended at a rung, or is no longer this process's: do not go on.
            ServerError: the server refuses the report, or stays away.
        """
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        body = {"step": step, "steps": max(step, steps or step), "metrics": finite}
        try:
            response = self._post("report", body, once=False)  # the same step may be told twice
        except ServerError as e:
            if e.status not in _GONE:
                raise
            self._lose(e)
            raise Stop from e
        if self._transport.read(ReportAnswer, response).stop:
            self._ended.set()
            raise Stop

    def tell(self, accuracy: float, extras: Mapping[str, Any] | None = None) -> bool:
        """End the trial.

        Args:
            accuracy: on the validation pictures, in [0, 1].
            extras: JSON values kept with it, e.g. `{"epochs": 10}`.

        Returns:
            Whether it counts; False if the trial is no longer this process's.

        Raises:
            ServerError: the server refuses it, or stays away.
        """
        if not math.isfinite(accuracy):
            return self.fail(f"the accuracy is {accuracy}")
        return self._tell({"accuracy": float(accuracy), "extras": dict(extras or {})})

    def fail(self, error: str) -> bool:
        """End the trial without an accuracy; returns as `tell`."""
        told = "\n".join(map(visible, error.splitlines()))  # a server takes nothing that steers a terminal
        told = told.encode("utf-8", "replace").decode()  # a file's name may be no text
        return self._tell({"error": told[:_LONGEST] or "no reason was given"})

    def let_go(self) -> None:
        """Stop holding the trial; if it was not told, another client gets it when the lease has run out."""
        self._ended.set()

    def __enter__(self) -> LeasedTrial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            if isinstance(error, Stop):
                return True
            if isinstance(error, ServerError) and error.status not in _REFUSED:
                return False
            if isinstance(error, Exception):
                log.error("trial %d failed", self.number, exc_info=error)
                told = " ".join(str(error).split())
                self.fail(told if isinstance(error, ServerError) else f"{type(error).__name__}: {told}")
                return True
            if error is None and not self._ended.is_set():
                self.fail("its evaluator told no accuracy")
            return False
        finally:
            self.let_go()

    # Parts -----------------------------------------------------------------------------------------------------

    def _tell(self, body: dict[str, Any]) -> bool:
        try:
            self._post("tell", body)
        except ServerError as e:
            if e.status not in _GONE:
                raise
            self._lose(e)
            return False
        self._ended.set()
        return True

    def _post(self, what: str, body: dict[str, Any], *, once: bool = True) -> Any:
        given = {"token": self._token, **body}
        return self._transport.request(
            "POST", f"{self._path}/{what}", body=given, once=once, patience_s=self._patience_s
        )

    def _lose(self, error: ServerError) -> None:
        self.lost = True
        self._ended.set()
        log.warning("trial %d is dropped: %s", self.number, error)

    def _beat(self) -> None:
        while not self._ended.wait(self._lease_s / 3):
            try:
                self._transport.request(
                    "POST",
                    f"{self._path}/heartbeat",
                    body={"token": self._token},
                    once=False,
                    patience_s=self._lease_s / 3,
                )
            except ServerError as e:
                if e.status in _GONE and not self._ended.is_set():
                    self._lose(e)
            except RuntimeError:  # the client was closed
                return
