"""What the runner tells of a board's state, on recorded boards (recorded/README.md) and here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latency.disturbance import spoiled
from latency.onboard import procfs
from latency.onboard.facts import read_facts
from latency.onboard.heat import cpu_zones
from latency.onboard.state import read_state
from latency.onboard.work import stopped_s

State = Callable[..., dict[str, Any]]


@pytest.fixture
def state(recorded: Any, monkeypatch: pytest.MonkeyPatch) -> State:
    """The state of a recorded board."""

    def read(name: str, cores: list[int]) -> dict[str, Any]:
        board = recorded(name)
        monkeypatch.setattr(procfs, "SYS", f"{board.root}/sys")
        monkeypatch.setattr(procfs, "PROC", f"{board.root}/proc")
        monkeypatch.setenv("PATH", board.environment["PATH"])
        return read_state(cores)

    return read


def test_a_raspberry_pi(state: State) -> None:
    told = state("rpi3", [3])
    assert (told["governor"], told["mhz"], told["limit_mhz"]) == (["ondemand"], [600], [1200])
    assert (told["celsius"], told["cpu_celsius"], told["limit_celsius"]) == ([82.74], 82.74, None)
    assert told["throttled"] == "0x50005"
    assert told["load"] == [2.31, 1.8, 1.1]
    assert told["free_bytes"] == 182000 * 1024
    assert told["work"]["swapped_pages"] == 5120 + 15360
    assert told["work"]["mhz_ticks"] == {"policy0": {"600": 1000, "1200": 1037}}


def test_only_the_clusters_used_are_told(state: State) -> None:
    big, both = state("rk3588", [4, 5, 6]), read_state([0, 7])
    assert (big["limit_mhz"], both["limit_mhz"]) == ([2400] * 3, [1800, 2400])
    assert set(big["work"]["mhz_ticks"]) == {"policy4", "policy6"}
    assert set(both["work"]["mhz_ticks"]) == {"policy0", "policy6"}
    # Of 13 s each core was busy, those used and those not.
    assert (big["work"]["used_s"], big["work"]["other_s"]) == (pytest.approx(39.0), pytest.approx(65.0))


@pytest.mark.parametrize(
    ("name", "celsius", "limit", "zones"),
    [
        ("jetson-nano", 31.5, 97.0, 6),  # not the PMIC's 100
        ("jetson-orin", 44.593, 99.0, 5),
        ("odroid-n2", 32.0, 80.0, 2),  # the second passive trip point is the target
        ("rk3588", 47.153, None, 7),
    ],
)
def test_the_cpus_temperature_and_its_limit(
    state: State, name: str, celsius: float, limit: float | None, zones: int
) -> None:
    told = state(name, [0])
    assert (told["cpu_celsius"], told["limit_celsius"], len(told["celsius"])) == (pytest.approx(celsius), limit, zones)


def test_slowing_down_to_cool(state: State) -> None:
    told = state("imx8mm", [0])
    assert told["slowed_by"] == {"cpufreq-cpu0": 1}
    assert (told["limit_mhz"], told["limit_celsius"]) == ([1600], 85.0)
    assert state("rpi5", [0])["slowed_by"] == {}  # a fan


def test_a_container_tells_how_long_its_quota_stopped_it(state: State) -> None:
    told = state("container", [4])
    assert told["work"]["stopped_s"] == pytest.approx(0.345678)
    assert (told["governor"], told["mhz"], told["cpu_celsius"], told["throttled"]) == ([], [], None, None)


def test_an_older_container_too(state: State, recorded: Any) -> None:
    board = recorded("rpi4")
    stat = board.path("/sys/fs/cgroup/cpu/cpu.stat")
    stat.parent.mkdir(parents=True)
    stat.write_text("nr_periods 5\nnr_throttled 2\nthrottled_time 1500000000\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procfs, "SYS", f"{board.root}/sys")
        patch.setattr(procfs, "PROC", f"{board.root}/proc")
        assert stopped_s() == pytest.approx(1.5)


@pytest.mark.parametrize("name", ["rpi4", "rk3588", "odroid-n2", "jetson-nano", "jetson-orin", "container"])
def test_nothing_happened_on_a_board_that_stood_still(state: State, name: str) -> None:
    before = state(name, [2])
    after = {**before, "work": {**before["work"], "clock_s": before["work"]["clock_s"] + 10}}
    assert spoiled(before, after) is None


def test_a_throttled_board_has_no_good_pass(state: State) -> None:
    told = state("rpi3", [3])
    assert spoiled(told, told) == "the firmware reports under-voltage now, throttling now"


def test_state_and_facts_are_plain_json(state: State, recorded: Any) -> None:
    told = state("rk3588", [4])
    assert json.loads(json.dumps(told)) == told
    facts = read_facts([4])
    assert facts["features"] == ["asimd", "asimdhp", "fphp", "asimddp"]
    assert facts["model"] == "Radxa ROCK 5B"


def test_this_machine_counts_its_own_work() -> None:
    cores = sorted(os.sched_getaffinity(0))
    before = read_state(cores)["work"]
    while sum(os.times()[:4]) < before["own_s"] + 1.1:  # with the children that have ended
        pass
    after = read_state(cores)["work"]
    assert after["own_s"] - before["own_s"] >= 1.0
    assert after["used_s"] - before["used_s"] >= 0.5  # the kernel may count in ticks
    assert after["clock_s"] > before["clock_s"]


@pytest.mark.parametrize("name", ["rk3588", "container"])
def test_an_old_python_reads_it_too(recorded: Any, runner_file: Path, name: str) -> None:
    python = shutil.which("python3.9")
    done = subprocess.run([python or "-", "-V"], capture_output=True, check=False) if python else None
    if python is None or done is None or done.returncode != 0:
        pytest.skip("no Python 3.9 here")
    code = (
        "import json; from onboard.facts import read_facts; from onboard.state import read_state; "
        "print(json.dumps([read_state([4]), read_facts([4])]))"
    )
    environment = {**recorded(name).environment, "PYTHONPATH": str(runner_file)}
    old, new = (
        json.loads(
            subprocess.run([each, "-c", code], env=environment, capture_output=True, check=True, timeout=60).stdout
        )
        for each in (python, sys.executable)
    )
    same = ("governor", "mhz", "limit_mhz", "celsius", "cpu_celsius", "limit_celsius", "slowed_by", "throttled", "load")
    assert {key: old[0][key] for key in same} == {key: new[0][key] for key in same}
    assert old[1]["features"] == new[1]["features"]


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        (["acpitz", "x86_pkg_temp", "iwlwifi_1"], [1]),
        (["package-thermal", "bigcore0-thermal", "littlecore-thermal", "gpu-thermal"], [1, 2]),
        (["soc_thermal", "ddr_thermal"], [0]),
        (["gpu-thermal", "battery"], []),
        (["acpitz"], [0]),
        (["cpu-0-0-thermal", "gpuss-0-thermal"], [0]),
        ([], []),
    ],
)
def test_which_zones_are_the_cpus(kinds: list[str], chosen: list[int]) -> None:
    assert cpu_zones(kinds) == chosen


def test_measuring_tells_the_state_before_and_after(tmp_path: Path, recorded: Any, runner_file: Path) -> None:
    """The firmware is asked once a measurement, not twice."""
    from latency.engines import get_engine
    from nas.graph import Graph

    board = recorded("rpi4")
    asked = tmp_path / "asked"
    (board.programs / "vcgencmd").write_text(f"#!/bin/sh\necho asked >>{asked}\necho throttled=0x0\n")
    g = Graph((3, 8, 8))
    g.linear(g.global_pool(g.conv(g.input, 4, kernel=3, path="stem"), path="pool"), 2, path="fc")
    model = get_engine("ncnn").build(g)
    core = min(os.sched_getaffinity(0))
    hello = {
        "engine": "ncnn",
        "threads": 1,
        "cores": [core],
        "dtype": "fp32",
        "lock": str(tmp_path / "lock"),
        "owner": "me",
    }
    requests = [
        {"do": "hello", **hello},
        {"do": "load", "name": "n", "model": model.model, "shape": model.input_shape},
        {"do": "measure", "names": ["n"], "runs": 2, "warm": 1},
    ]
    done = subprocess.run(
        [sys.executable, runner_file],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        env=board.environment,
        timeout=60,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sorted(set(answer) & {"before", "state", "whole"}) for answer in answers] == [
        ["state"], [], ["whole"], ["before", "state"],
    ]  # fmt: skip
    before, after = answers[-1]["before"], answers[-1]["state"]
    assert before["work"]["clock_s"] < after["work"]["clock_s"]
    assert before["throttled"] == after["throttled"] == "0x0"
    assert asked.read_text().count("asked") == 2  # hello, measure
    assert spoiled(before, after) is None
