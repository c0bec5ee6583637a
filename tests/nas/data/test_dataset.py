from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import nas.data.dataset
from nas.data.dataset import available_memory

GIB = 1 << 30
Machine = Callable[[dict[str, str]], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes a machine of what the kernel tells in its files; MemFree is 1 GiB, MemAvailable 8 GiB."""

    def make(files: dict[str, str]) -> None:
        told = {"proc/meminfo": "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nMemAvailable: 8388608 kB\n", **files}
        for name, text in told.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(nas.data.dataset, "_PROC", tmp_path / "proc")
        monkeypatch.setattr(nas.data.dataset, "_GROUPS", tmp_path / "cgroup")

    return make


def _v2(group: str, most: str, used: int, cached: int | None) -> dict[str, str]:
    stat = {} if cached is None else {"memory.stat": f"anon 1\nactive_file 7\ninactive_file {cached}\n"}
    files = {"memory.max": f"{most}\n", "memory.current": f"{used}\n", **stat}
    return {f"cgroup{group}/{name}": text for name, text in files.items()}


def _v1(group: str, most: int, used: int, cached: int) -> dict[str, str]:
    return {
        f"cgroup/memory{group}/memory.limit_in_bytes": f"{most}\n",
        f"cgroup/memory{group}/memory.usage_in_bytes": f"{used}\n",
        f"cgroup/memory{group}/memory.stat": f"inactive_file 1\ntotal_inactive_file {cached}\n",
    }


def test_what_only_caches_files_counts_as_available(machine: Machine) -> None:
    machine({})
    assert available_memory() == 8 * GIB


def test_where_the_kernel_tells_nothing_the_free_pages_count(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine({"proc/meminfo": "MemTotal: 16777216 kB\n"})
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert available_memory() == 4_096_000
    monkeypatch.setattr(nas.data.dataset, "_PROC", Path("/nowhere"))
    assert available_memory() == 4_096_000


V1_NO_LIMIT = 0x7FFFFFFFFFFFF000


@pytest.mark.parametrize(
    ("group", "files", "gib"),
    [
        pytest.param("0::/", _v2("", str(4 * GIB), 3 * GIB, GIB), 2, id="v2, a container"),
        pytest.param("0::/", _v2("", str(4 * GIB), 3 * GIB, None), 1, id="v2, no statistics"),
        pytest.param("0::/", _v2("", "max", 3 * GIB, GIB), 8, id="v2, no limit"),
        pytest.param("0::/", _v2("", str(64 * GIB), GIB, 0), 8, id="v2, a limit above the machine"),
        pytest.param("0::/", _v2("", str(GIB), 2 * GIB, 0), 0, id="v2, over its limit"),
        pytest.param(
            "0::/a/b", {**_v2("/a/b", "max", 1, 0), **_v2("/a", str(3 * GIB), GIB, 0)}, 2, id="v2, a slice's limit"
        ),
        pytest.param("0::/", {}, 8, id="v2, no memory controller"),
        pytest.param("4:memory:/x\n0::/", _v1("/x", 4 * GIB, 3 * GIB, GIB), 2, id="v1"),
        pytest.param("4:memory:/docker/x\n0::/", _v1("", 4 * GIB, 3 * GIB, GIB), 2, id="v1, seen from inside"),
        pytest.param("4:cpu,memory:/\n0::/", _v1("", V1_NO_LIMIT, 3 * GIB, GIB), 8, id="v1, no limit"),
        pytest.param("3:cpu:/", _v1("", GIB, 0, 0), 8, id="v1, another controller's group"),
        pytest.param("0::/", _v2("", "many", 0, 0), 8, id="not understood"),
    ],
)
def test_a_group_gives_no_more_than_its_limit_leaves(
    machine: Machine, group: str, files: dict[str, str], gib: int
) -> None:
    machine({"proc/self/cgroup": f"{group}\n", **files})
    assert available_memory() == gib * GIB


def test_this_machine_has_some() -> None:
    assert 0 < available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
