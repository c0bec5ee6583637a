"""Examines a board."""

from __future__ import annotations

import dataclasses

from latency import deploy
from latency.board import Board
from latency.errors import BoardUnfit
from latency.health.advice import advise
from latency.health.parse import parse
from latency.health.report import Health
from latency.health.script import SCRIPT
from latency.probe import PROBE_TIMEOUT_S, answers, ask
from latency.transport import LocalTransport, Transport


def check(transport: Transport, board: Board) -> Health:
    """Examines a board; changes nothing there.

    Raises:
        LatencyError: it does not answer sensibly.
        ConnectionLost: the link broke.
    """
    text = ask(transport, SCRIPT, timeout_s=2 * PROBE_TIMEOUT_S)
    health = parse(text, board)
    version, problems = "", []
    try:
        if isinstance(transport, LocalTransport):
            version = deploy.engine_version(transport, deploy.this_python(), board.engine, None)[0] or ""
            problems += [] if version else [f"{board.engine} is not installed here: pip install {board.engine}"]
        else:
            python = deploy.fit_python(health.facts, board=board.name)
            deployed = [p for p in answers(text).get("deployed", []) if f"/{board.engine}-" in p]
            for folder in (None, *deployed):
                version = deploy.engine_version(transport, python, board.engine, folder)[0] or version
            if not version:
                deploy.require_wheel_fit(health.facts, python, board.engine, board=board.name)
    except BoardUnfit as error:
        problems.append(str(error))
    health = dataclasses.replace(health, engine_version=version, problems=tuple(problems))
    return dataclasses.replace(health, warnings=tuple(advise(health, board)))
