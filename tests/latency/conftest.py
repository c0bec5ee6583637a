"""Boards that are not here, unpacked from text (see recorded/README.md), and networks that hold a bit of everything."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from latency.bundle import runner_bundle
from latency.fakes import FakeTransport
from latency.transport import Completed
from nas.blocks import FAMILIES
from nas.graph import Graph

RECORDED = Path(__file__).parent / "recorded"


@dataclasses.dataclass(frozen=True)
class RecordedBoard:
    """A recorded board on disk.

    Attributes:
        root: holds its /proc and /sys.
        programs: a folder for PATH: commands that answer as the board's.
    """

    root: Path
    programs: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "LIGHTNAS_SYSROOT": str(self.root),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.root / "cache"),
        }

    def transport(self) -> FakeTransport:
        """A link to it: scripts run in a real shell that sees its files and commands, engines are not there."""

        def run(argv: Sequence[str], data: bytes | None) -> Completed:
            if argv[0] != "sh":
                return Completed(1, b"", b"no module")
            done = subprocess.run(argv, input=data, capture_output=True, env=self.environment, timeout=60, check=False)
            return Completed(done.returncode, done.stdout, done.stderr)

        return FakeTransport(run=run)

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")


Record = Callable[[str], RecordedBoard]


def unpack(name: str, folder: Path) -> RecordedBoard:
    board = RecordedBoard(folder / "root", folder / "programs")
    board.programs.mkdir(parents=True)
    answers: dict[str, list[str]] = {"sleep": ["*) exit 0;;"]}  # nothing moves in a recorded board
    lines = iter((RECORDED / f"{name}.txt").read_text().splitlines())
    for line in lines:
        if line.startswith("$ "):
            command, _, answer = line[2:].partition(" = ")
            program, _, arguments = command.partition(" ")
            answers.setdefault(program, []).append(f"{shlex.quote(arguments)}*) echo {shlex.quote(answer)}; exit 0;;")
        elif line.startswith("["):
            text = "".join(f"{inside}\n" for inside in iter(lambda: next(lines), "[end]"))
            write(board.path(line.strip("[]")), text)
        elif " -> " in line:
            link, _, target = line.partition(" -> ")
            board.path(link).parent.mkdir(parents=True, exist_ok=True)
            board.path(link).symlink_to(target)
        elif not line.startswith("#"):
            path, _, value = line.partition(" = ")
            write(board.path(path), f"{value}\n")
    for program, cases in answers.items():
        write(board.programs / program, "\n".join(["#!/bin/sh", 'case "$*" in', *cases, "esac", "exit 1", ""]))
        (board.programs / program).chmod(0o755)
    return board


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def runner_file(tmp_path: Path) -> Path:
    """The runner as a board gets it."""
    path = tmp_path / "runner.pyz"
    path.write_bytes(runner_bundle())
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Record:
    """Unpacks a recorded board by its name."""
    return lambda name: unpack(name, tmp_path / name)


@pytest.fixture
def family_network() -> Callable[[str, str], Graph]:
    """A network of a block family and an activation, the family's other knobs turned on."""

    def build(family: str, act: str) -> Graph:
        g = Graph((3, 15, 12))
        x = g.conv(g.input, 8, kernel=3, stride=2, act=act, path="stem")
        for i, (c, stride) in enumerate(((8, 1), (12, 2))):
            knobs = {"se": True, "expansion": 2} if family == "mbconv" else {}
            x = FAMILIES[family].build(g, x, c, stride=stride, kernel=5, act=act, path=f"b{i}", **knobs)
        g.linear(g.global_pool(x, path="pool"), 5, act=act, path="classifier")
        return g

    return build


@pytest.fixture
def every_kind_of_op() -> Graph:
    """A network with an op of every kind."""
    g = Graph((3, 14, 14))
    x = g.conv(g.input, 12, kernel=(3, 1), stride=(2, 1), groups=3, path="conv")
    x = g.add(g.max_pool(x, kernel=3, stride=1), g.avg_pool(x, kernel=3, stride=1), act="relu")
    x = g.avg_pool(g.max_pool(x, kernel=2, stride=2), kernel=3, stride=2)
    a, b, c = g.split(x, (2, 4, 6))
    x = g.shuffle(g.concat((c, a, b)), 3)
    x = g.scale(x, g.linear(x, 12, act="hsigmoid", path="gate"))  # a linear layer in the middle
    g.depthwise(x, kernel=3, norm=False, path="out")
    return g
