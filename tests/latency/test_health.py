"""`nas boards check`: recorded boards, this machine, and an emulated one."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from latency.board import Board
from latency.health import Core, Health, advise, check, parse
from latency.transport import Completed, FakeTransport, LocalTransport, connect

PYTHON = json.dumps(
    {
        "executable": "/usr/bin/python3", "version": [3, 11, 2], "implementation": "cpython", "bits": 64,
        "soabi": "cpython-311-aarch64-linux-gnu", "platform": "linux-aarch64", "libc": "glibc 2.36",
    }
)  # fmt: skip
RK3588 = (
    f"""
Last login: today
lightnas:system=Linux
lightnas:machine=aarch64
lightnas:kernel=5.10.160
lightnas:bits=64
lightnas:libc=glibc 2.36
lightnas:folder=/home/me/.cache/lightnas
lightnas:disk_free_kib=20000000
lightnas:memory_kib=8000000
lightnas:memory_free_kib=6000000
lightnas:cores=8
lightnas:python={PYTHON}
lightnas:end=yes
lightnas:os=Debian GNU/Linux 12 (bookworm)
lightnas:model=Radxa ROCK 5B
"""
    + "".join(
        f"lightnas:cpu=processor: {n}\nlightnas:cpu=CPU implementer: 0x41\n"
        f"lightnas:cpu=CPU part: {'0xd05' if n < 4 else '0xd0b'}\n"
        f"lightnas:freq={n} {1800000 if n < 4 else 2400000} 408000 {'ondemand' if n < 4 else 'performance'}\n"
        for n in range(8)
    )
    + """lightnas:temp=46230 soc-thermal
lightnas:temp=47153 bigcore0-thermal
lightnas:load=0.11
lightnas:deployed=/home/me/.cache/lightnas/ncnn-1.0-abc
lightnas:done=yes
"""
)
PLAIN = Board("rock", "me@rock", cores=(4, 5), threads=2)


@pytest.fixture
def rock() -> Health:
    return parse(RK3588, PLAIN)


def calm(health: Health, **change: Any) -> Health:
    cores = tuple(dataclasses.replace(core, governor="performance") for core in health.cores)
    return dataclasses.replace(health, cores=cores, **change)


def test_a_board_is_read(rock: Health) -> None:
    assert (rock.os, rock.model) == ("Debian GNU/Linux 12 (bookworm)", "Radxa ROCK 5B")
    assert rock.cores[0] == Core(0, "Cortex-A55", 1800, 408, "ondemand")
    assert rock.clusters == {"Cortex-A55 at 1800 MHz": (0, 1, 2, 3), "Cortex-A76 at 2400 MHz": (4, 5, 6, 7)}
    assert rock.temperature_c == pytest.approx(47.153)
    assert rock.throttled is None
    assert rock.load == 0.11


def test_a_board_that_tells_little_is_read_too() -> None:
    text = "\n".join(
        line for line in RK3588.splitlines() if "freq" not in line and "temp" not in line and "cpu" not in line
    )
    health = parse(text.replace("lightnas:load=0.11", "lightnas:load="), PLAIN)
    assert (health.cores, health.temperature_c, health.load) == ((), None, 0.0)
    assert advise(health, PLAIN) == []


def test_an_unknown_part_is_shown_by_number() -> None:
    health = parse(RK3588.replace("0xd0b", "0xfff"), PLAIN)
    assert health.cores[7].kind == "part 0xfff of implementer 0x41"


def test_a_calm_board_needs_no_advice(rock: Health) -> None:
    assert advise(calm(rock), PLAIN) == []


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"temperature_c": 81.0}, "81 °C"),
        ({"load": 1.5}, "load 1.50"),
        ({"throttled": 0x50005}, "under-voltage now, throttling now: use a stronger power supply"),
        ({"throttled": 0x20000}, "capped frequency since boot"),
    ],
)
def test_disturbances_are_told_with_their_mend(rock: Health, change: dict[str, Any], match: str) -> None:
    (warning,) = advise(calm(rock, **change), PLAIN)
    assert match in warning


def test_a_restless_governor_is_told(rock: Health) -> None:
    (warning,) = advise(rock, PLAIN)
    assert "ondemand" in warning
    assert "cpupower frequency-set -g performance" in warning


def test_little_memory_is_told(rock: Health) -> None:
    small = dataclasses.replace(rock.facts, memory_free_bytes=100 * 2**20)
    (warning,) = advise(calm(rock, facts=small), PLAIN)
    assert "100 MiB" in warning


@pytest.mark.parametrize(
    ("board", "match"),
    [
        (Board("rock", "rock"), "none are pinned"),
        (Board("rock", "rock", cores=(3, 4)), "several kinds"),
        (Board("rock", "rock", cores=(4, 9)), r"cores \[9\]"),
        (Board("rock", "rock", threads=9), "9 threads"),
    ],
)
def test_cores_that_do_not_suit_are_told(rock: Health, board: Board, match: str) -> None:
    (warning,) = advise(calm(rock), board)
    assert re.search(match, warning)


def test_check_asks_for_the_engine_where_it_was_deployed() -> None:
    def run(argv: Any, _: bytes | None) -> Completed:
        if argv[0] == "sh":
            return Completed(0, RK3588.encode())
        found = "PYTHONPATH=/home/me/.cache/lightnas/ncnn-1.0-abc" in argv
        return Completed(0, b"lightnas:version=1.0\n") if found else Completed(1, b"", b"no module")

    health = check(FakeTransport(run=run), PLAIN)
    assert (health.engine_version, health.problems) == ("1.0", ())


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("lightnas:bits=64", "lightnas:bits=32", "32-bit"),
        (f"lightnas:python={PYTHON}\n", "", "no CPython"),
        ("glibc 2.36", "glibc 2.11", "older than 2.17"),
    ],
)
def test_check_tells_problems_instead_of_failing(old: str, new: str, match: str) -> None:
    def run(argv: Any, _: bytes | None) -> Completed:
        return Completed(0, RK3588.replace(old, new).encode()) if argv[0] == "sh" else Completed(1)

    (problem,) = check(FakeTransport(run=run), PLAIN).problems
    assert match in problem


def test_this_machine() -> None:
    with LocalTransport() as local:
        health = check(local, Board("here", "local"))
    assert health.cores
    assert health.engine_version
    assert health.problems == ()


@pytest.mark.slow
@pytest.mark.qemu
def test_an_aarch64_board(qemu_board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board("qemu", qemu_board.write_ssh_config(tmp_path / "config"))
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(tmp_path / "config"))
    with connect(board) as link:
        health = check(link, board)
    assert health.clusters == {"Cortex-A72": (0,)}
    assert (health.problems, health.engine_version) == ((), "")
