"""`nas boards check`: recorded boards (recorded/README.md), this machine, and an emulated one.

No machine of ours has clusters, frequency scaling or a throttling firmware: those are tested on recorded boards alone.
"""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.board import Board
from latency.health import Core, Health, advise, check, format_list, parse, recommended_cores
from latency.health.clusters import clusters_of, parse_list
from latency.health.script import SCRIPT
from latency.probe import ask
from latency.reach import connect
from latency.transport import LocalTransport

ALL = ("rpi3", "rpi4", "rpi4-32bit", "rpi5", "rk3588", "odroid-n2", "jetson-nano", "jetson-orin", "imx8mm", "container")
Examine = Callable[..., Health]


@pytest.fixture
def examine(recorded: Any) -> Examine:
    """Checks a recorded board with the real script; a board's own settings may be given."""

    def run(name: str, **settings: Any) -> Health:
        return check(recorded(name).transport(), Board(name, f"me@{name}", **settings))

    return run


def calm(health: Health, **change: Any) -> Health:
    cores = tuple(dataclasses.replace(core, governor="performance", cap_mhz=core.max_mhz) for core in health.cores)
    return dataclasses.replace(health, **{"cores": cores, "load": 0.0, "busiest": (), **change})


def mends(health: Health) -> list[str]:
    return [line.rpartition(": ")[2] for line in health.warnings]


@pytest.mark.parametrize("name", ALL)
def test_every_recorded_board_is_read_without_a_remark_of_the_shell(recorded: Any, name: str) -> None:
    board = recorded(name)
    done = subprocess.run(
        ["sh", "-s"], input=SCRIPT.encode(), capture_output=True, env=board.environment, timeout=60, check=True
    )
    assert done.stderr == b""
    health = parse(done.stdout.decode(), Board(name, name))
    assert health.cores
    assert health.memory_free_bytes
    assert health.os


@pytest.mark.parametrize(
    ("name", "clusters", "cores"),
    [
        ("rpi3", ["0-3: Cortex-A53 at 1200 MHz"], "3"),
        ("rpi4", ["0-3: Cortex-A72 at 1800 MHz"], "3"),
        ("rpi5", ["0-3: Cortex-A76 at 2400 MHz"], "3"),
        ("rk3588", ["0-3: Cortex-A55 at 1800 MHz", "4-7: Cortex-A76 at 2400 MHz"], "7"),
        # A higher frequency does not make a small core the faster one.
        ("odroid-n2", ["0-1: Cortex-A53 at 1896 MHz", "2-5: Cortex-A73 at 1800 MHz"], "5"),
        ("jetson-nano", ["0-3: Cortex-A57 at 1479 MHz"], "3"),
        ("jetson-orin", ["0-7: Cortex-A78AE at 2201 MHz"], "7"),
        ("imx8mm", ["0-3: Cortex-A53 at 1800 MHz"], "3"),
        ("container", ["0-15: Neoverse-N1"], "7"),
    ],
)
def test_clusters_and_the_core_to_pin(examine: Examine, name: str, clusters: list[str], cores: str) -> None:
    health = examine(name)
    assert [f"{format_list(cluster.cores)}: {cluster.label}" for cluster in health.clusters] == clusters
    assert format_list(health.recommended(Board(name, name))) == cores


@pytest.mark.parametrize(("threads", "cores"), [(2, "6-7"), (3, "5-7"), (4, "4-7"), (5, "")])
def test_several_threads_stay_in_one_cluster_and_if_possible_in_one_policy(
    examine: Examine, threads: int, cores: str
) -> None:
    health = examine("rk3588")
    assert health.clusters[1].policies == ((4, 5), (6, 7))
    assert format_list(health.recommended(Board("x", "x", threads=threads))) == cores


def test_isolated_cores_are_taken_first() -> None:
    clusters = clusters_of(Core(n, "Cortex-A72", max_mhz=1800, policy="policy0") for n in range(4))
    assert recommended_cores(clusters, 1, allowed=range(4), isolated=(1,)) == (1,)
    assert recommended_cores(clusters, 2, allowed=range(4), isolated=(1,)) == (1, 3)
    assert recommended_cores(clusters, 3, allowed=(0, 1)) == ()


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(["Cortex-A55", "Cortex-A76"]), st.integers(0, 2)), min_size=1, max_size=12
    ),
    threads=st.integers(1, 4),
    data=st.data(),
)
def test_recommended_cores_are_usable_and_of_one_kind(kinds: list[tuple[str, int]], threads: int, data: Any) -> None:
    cores = [Core(n, kind, max_mhz=1800, policy=f"policy{p}") for n, (kind, p) in enumerate(kinds)]
    allowed = data.draw(st.sets(st.sampled_from(range(len(cores)))))
    isolated = data.draw(st.sets(st.sampled_from(range(len(cores)))))
    chosen = recommended_cores(clusters_of(cores), threads, allowed=allowed, isolated=isolated)
    assert set(chosen) <= allowed
    assert len({cores[n].kind for n in chosen}) == bool(chosen)
    enough = any(sum(cores[n].kind == kind for n in allowed) >= threads for kind in ("Cortex-A55", "Cortex-A76"))
    assert len(chosen) == (threads if enough else 0)


@given(st.sets(st.integers(0, 1000)))
def test_lists_of_cores_are_written_as_they_are_read(cores: set[int]) -> None:
    assert set(parse_list(format_list(cores))) == cores
    assert parse_list("0-3,junk") == ()


def test_a_core_is_told_in_full(examine: Examine) -> None:
    core = examine("rk3588").cores[4]
    assert (core.lowest_mhz, core.max_mhz, core.floor_mhz, core.cap_mhz, core.now_mhz) == (408, 2400, 408, 2400, 408)
    assert (core.governor, core.policy, core.capacity) == ("ondemand", "policy4", 1024)
    assert "performance" in core.governors


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("rpi4", ("asimd",)),
        ("rpi5", ("asimd", "asimdhp", "fphp", "asimddp")),
        ("rk3588", ("asimd", "asimdhp", "fphp", "asimddp")),
        ("imx8mm", ("asimd",)),
    ],
)
def test_features_that_decide_kernels_are_told(examine: Examine, name: str, features: tuple[str, ...]) -> None:
    assert set(examine(name).features) == set(features)


@pytest.mark.parametrize(
    ("name", "zone", "celsius", "limit"),
    [
        ("jetson-nano", "CPU-therm", 31.5, 97.0),  # not the PMIC's 100
        ("rk3588", "bigcore0-thermal", 47.153, None),
        ("odroid-n2", "soc_thermal", 32.0, 80.0),
        ("imx8mm", "cpu-thermal", 85.0, 85.0),
        ("rpi4", "cpu-thermal", 48.199, None),
    ],
)
def test_the_cpus_own_temperature(examine: Examine, name: str, zone: str, celsius: float, limit: float | None) -> None:
    hottest = examine(name).hottest
    assert hottest is not None
    assert (hottest.name, hottest.celsius, hottest.limit_celsius) == (zone, pytest.approx(celsius), limit)


def test_a_board_in_trouble_is_told_everything(examine: Examine) -> None:
    health = examine("rpi3", cores=(3,))
    told = "\n".join(health.warnings)
    assert "under-voltage now, throttling now: use a stronger power supply" in told
    assert "the CPU is at 83 °C (cpu-thermal) and slows down at 80 °C" in told
    assert "load 2.31" in told
    assert "only 178 MiB of memory are free" in told
    assert "60 MiB of memory are in the swap space" in told
    assert health.problems == ()


def test_throttling_of_the_past_is_told_apart(examine: Examine) -> None:
    (warning,) = [line for line in examine("rpi5", cores=(3,)).warnings if "firmware" in line]
    assert "under-voltage since boot, throttling since boot" in warning
    assert " now" not in warning
    assert "sudo reboot" in warning


def test_a_firmware_that_may_not_be_asked(recorded: Any) -> None:
    board = recorded("rpi4")
    (board.programs / "vcgencmd").write_text("#!/bin/sh\necho 'VCHI initialization failed' >&2\nexit 255\n")
    health = check(board.transport(), Board("rpi4", "rpi4"))
    assert health.throttled is None
    assert "sudo usermod -aG video $USER" in "\n".join(health.warnings)


def test_slowing_down_to_cool_is_told_but_a_fan_is_not(examine: Examine) -> None:
    assert any("cpufreq-cpu0 at 1 of 2" in line for line in examine("imx8mm").warnings)
    assert not any("fan" in line.partition(":")[0] for line in examine("rk3588").warnings)


def test_a_governor_that_may_not_be_set_is_told_with_the_command(recorded: Any) -> None:
    board = recorded("rpi4")
    text = ask(board.transport(), SCRIPT)
    mine, theirs = (parse(text.replace("policy0 us", f"policy0 {who}"), Board("p", "p")) for who in ("us", "nobody"))
    assert advise(mine, Board("p", "p")) == []  # a profile sets it and gives it back
    (warning,) = advise(theirs, Board("p", "p"))
    assert "ondemand" in warning
    assert warning.endswith(": echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor")
    without = dataclasses.replace(
        theirs, cores=tuple(dataclasses.replace(core, governors=("ondemand",)) for core in theirs.cores)
    )
    (warning,) = advise(without, Board("p", "p"))
    assert warning.endswith(": echo 1800000 | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_min_freq")


def test_a_cap_is_told(examine: Examine) -> None:
    (warning,) = [line for line in examine("jetson-orin", cores=(7,)).warnings if "MHz" in line]
    assert "may run at 1728 of 2201 MHz" in warning


@pytest.mark.parametrize(
    ("settings", "reason", "mend"),
    [
        ({}, "none are pinned", "nas boards remove rk3588 && nas boards add rk3588 me@rk3588 --cores 7"),
        (
            {"cores": (3, 4), "threads": 2, "identity_file": "/k y"},
            "several kinds",
            "nas boards remove rk3588 && nas boards add rk3588 me@rk3588 --threads 2 --cores 6-7 --identity '/k y'",
        ),
        ({"cores": (4, 9)}, "but the board has 0-7", "--cores 7"),
        ({"threads": 9}, "9 threads are to run on 8 core(s)", "set fewer threads"),
        ({"threads": 6}, "none are pinned", "set fewer threads"),
    ],
)
def test_cores_that_do_not_suit_are_told(examine: Examine, settings: dict[str, Any], reason: str, mend: str) -> None:
    board = Board("rk3588", "me@rk3588", **settings)
    (warning,) = advise(calm(examine("rk3588")), board)
    assert reason in warning
    assert warning.endswith(mend)


def test_the_mend_is_a_command_that_parses(examine: Examine) -> None:
    from api.commands.boards import parse_cores

    words = shlex.split(mends(examine("rk3588"))[0])
    assert parse_cores(words[words.index("--cores") + 1]) == (7,)


def test_cores_that_do_suit_need_no_advice(examine: Examine) -> None:
    assert advise(calm(examine("rk3588")), Board("rk3588", "x", cores=(6, 7), threads=2)) == []
    assert advise(calm(examine("rpi4")), Board("rpi4", "x")) == []


def test_a_container_with_a_quota(examine: Examine) -> None:
    health = examine("container", cores=(7,))
    assert (health.quota_cores, health.allowed) == (1.5, (4, 5, 6, 7))
    assert health.warnings == ()  # one thread has room in it
    assert "gives this account's programs 1.5 cores" in advise(health, Board("c", "c", threads=2))[0]
    (warning,) = advise(health, Board("c", "c", cores=(2,)))
    assert "may only use 4-7" in warning


@pytest.mark.parametrize(
    ("name", "dtype", "told"), [("rpi4", "fp16", True), ("rpi5", "fp16", False), ("rpi5", "bf16", True)]
)
def test_arithmetic_the_cpu_lacks(examine: Examine, name: str, dtype: str, told: bool) -> None:
    warnings = advise(calm(examine(name), throttled=0), Board(name, name, dtype=dtype))
    assert [f"has no {dtype} arithmetic" in line for line in warnings] == [True] * told


@pytest.mark.parametrize(
    ("name", "match"),
    [("rpi4-32bit", "32-bit programs on a 64-bit kernel"), ("jetson-nano", "no CPython 3.9 or newer")],
)
def test_problems_are_told_instead_of_failing(examine: Examine, name: str, match: str) -> None:
    (problem,) = examine(name).problems
    assert match in problem


def test_check_asks_for_the_engine_where_it_was_deployed(recorded: Any) -> None:
    from latency.fakes import FakeTransport
    from latency.transport import Completed

    board = recorded("rpi4")
    (board.root / "cache/lightnas/ncnn-1.0-abc").mkdir(parents=True)
    shell = board.transport()

    def run(argv: Any, data: bytes | None) -> Completed:
        if argv[0] == "sh":
            return shell.run(argv, timeout_s=60, input=data)
        found = f"PYTHONPATH={board.root}/cache/lightnas/ncnn-1.0-abc" in argv
        return Completed(0, b"lightnas:version=1.0\n") if found else Completed(1, b"", b"no module")

    health = check(FakeTransport(run=run), Board("rpi4", "rpi4"))
    assert (health.engine_version, health.problems) == ("1.0", ())


def test_a_board_that_tells_little_is_read_too(examine: Examine, recorded: Any) -> None:
    text = ask(recorded("rk3588").transport(), SCRIPT)
    kept = ("system", "machine", "kernel", "bits", "libc", "folder", "end", "done")
    bare = parse(
        "\n".join(x for x in text.splitlines() if x.startswith(tuple(f"lightnas:{k}=" for k in kept))), Board("b", "b")
    )
    assert (bare.cores, bare.zones, bare.load, bare.quota_cores, bare.throttled) == ((), (), 0.0, None, None)
    assert advise(bare, Board("b", "b", cores=(4,))) == []


def test_an_unknown_part_is_shown_by_number(recorded: Any) -> None:
    text = ask(recorded("rk3588").transport(), SCRIPT)
    assert parse(text.replace("0xd0b", "0xfff"), Board("b", "b")).cores[7].kind == "part 0xfff of implementer 0x41"


@pytest.fixture
def busy() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    process.kill()
    process.wait()


def test_this_machine(busy: None) -> None:
    with LocalTransport() as local:
        health = check(local, Board("here", "local"))
    assert health.cores
    assert health.allowed
    assert health.engine_version
    assert health.problems == ()
    assert any("python" in name for _, name in health.busiest)


def test_who_measures_is_told(recorded: Any, tmp_path: Path) -> None:
    import fcntl

    board = recorded("rpi4")
    lock = board.root / "cache/lightnas/lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("ada@one pid 7 (runner pid 8 of pi on pi4)\n")
    assert check(board.transport(), Board("rpi4", "rpi4")).holder == ""
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        health = check(board.transport(), Board("rpi4", "rpi4"))
    assert health.warnings[0].startswith("the board is being measured by ada@one pid 7 (runner pid 8 of pi on pi4)")


def test_what_people_are_shown(examine: Examine) -> None:
    from api.commands.boards import describe

    shown = list(describe(examine("rk3588"), Board("rk3588", "x")))
    assert ("cores", "4-7: Cortex-A76 at 2400 MHz") in shown
    assert ("  frequency", "408 MHz now, 408-1800 allowed") in shown
    assert ("cores to pin", "--cores 7 is best (now none)") in shown
    assert ("temperature", "46 °C soc-thermal") in shown
    shown = list(describe(examine("rpi5"), Board("rpi5", "x")))
    assert ("throttling", "now nothing; since boot under-voltage, throttling") in shown
    assert ("cooling", "pwm-fan 1 of 4") in shown
    assert ("CPU quota", "1.5 cores") in list(describe(examine("container"), Board("c", "x")))


@pytest.mark.slow
@pytest.mark.qemu
def test_an_aarch64_board(qemu_board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board("qemu", qemu_board.write_ssh_config(tmp_path / "config"))
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(tmp_path / "config"))
    with connect(board) as link:
        health = check(link, board)
    assert [(cluster.label, cluster.cores) for cluster in health.clusters] == [("Cortex-A72", (0,))]
    assert "asimd" in health.features
    assert (health.problems, health.engine_version) == ((), "")
