"""Counters of work done since boot."""

from __future__ import annotations

import os
import re
from pathlib import Path
from time import monotonic
from typing import Any

from . import procfs
from .procfs import number_after, policy_folders, read_text


def stopped_s() -> float | None:
    """Seconds for which a CPU quota (of a container, say) has stopped our control group; None where it tells none."""
    group = re.search(r"^0::(\S+)", read_text(procfs.PROC + "/self/cgroup"), re.M)
    own = group.group(1).rstrip("/") if group else ""
    for path in (f"/fs/cgroup{own}/cpu.stat", "/fs/cgroup/cpu.stat", "/fs/cgroup/cpu/cpu.stat"):
        text = read_text(procfs.SYS + path)
        for label, unit_s in (("throttled_usec", 1e-6), ("throttled_time", 1e-9)):
            told = number_after(label, text)
            if told is not None:
                return told * unit_s
    return None


def read_work(cores: list[int]) -> dict[str, Any]:
    """Counters of which only the difference tells: who had the CPUs, at which frequencies, what was swapped."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    ours = os.times()
    clock_s = monotonic()
    busy: dict[bool, float] = {True: 0.0, False: 0.0}
    for core, text in re.findall(r"^cpu(\d+) (.*)$", read_text(procfs.PROC + "/stat"), re.M):
        # user, nice, system, idle, iowait, irq, softirq, and steal: what a virtual machine was not given
        counts = [int(word) for word in text.split()[:8]]
        busy[int(core) in cores] += (sum(counts) - sum(counts[3:5])) * tick_s
    frequencies = {}
    for folder in policy_folders(cores):
        pairs = re.findall(r"^(\d+)\d{3} (\d+)$", read_text(folder + "/stats/time_in_state"), re.M)
        if pairs:
            frequencies[Path(folder).name] = {mhz: int(ticks) for mhz, ticks in pairs}
    memory = read_text(procfs.PROC + "/vmstat")
    return {
        "clock_s": clock_s,
        "own_s": ours.user + ours.system + ours.children_user + ours.children_system,
        "used_s": busy[True],
        "other_s": busy[False],
        "cores": len(cores),
        "mhz_ticks": frequencies,  # of 10 ms
        "stopped_s": stopped_s(),
        "swapped_pages": sum(number_after(label, memory) or 0 for label in ("pswpin", "pswpout")),
    }
