"""The CPU's temperature, its limit, and what slows it down to cool."""

from __future__ import annotations

import re
from typing import Any

from . import procfs
from .procfs import find, numbers, read_text


def cpu_zones(kinds: list[str]) -> list[int]:
    """Which thermal zones, told by their types, are the CPU's; else the chip's; else whichever may be.

    A board has more: a Jetson Nano's PMIC stands at 100 degrees for ever, a phone's battery stays cool.
    """
    others = r"gpu|npu|vpu|cv\d|pmic|batt|wifi|iwl|nvme|ddr|mem|fan|pll|charger|board|\bao\b"
    names = [kind.lower() for kind in kinds]
    for pattern in (r"cpu|core|x86_pkg", r"soc|pkg|package", "."):
        found = [i for i, name in enumerate(names) if re.search(pattern, name) and not re.search(others, name)]
        if found:
            return found
    return []


def read_heat() -> dict[str, Any]:
    """Every zone's temperature; that of the CPU zone nearest to its limit, and the limit where the kernel tells it."""
    zones = [zone for zone in find("/class/thermal/thermal_zone*") if numbers(zone + "/temp")]
    celsius = [numbers(zone + "/temp")[0] / 1000 for zone in zones]
    candidates = []
    for i in cpu_zones([read_text(zone + "/type") for zone in zones]):
        # At a passive trip point the kernel slows the CPU down. A second one, where there is one, is the target.
        points = [path[: -len("type")] for path in find(zones[i][len(procfs.SYS) :] + "/trip_point_*_type")]
        trips = [numbers(point + "temp")[:1] for point in points if read_text(point + "type") == "passive"]
        limit = max((trip[0] / 1000 for trip in trips if trip and trip[0] > 40_000), default=None)
        candidates.append((celsius[i], limit))
    nearest = max(candidates, key=lambda pair: pair[0] - (pair[1] or 80.0), default=(None, None))
    return {"celsius": celsius, "cpu_celsius": nearest[0], "limit_celsius": nearest[1]}


def slows_cpu(kind: str) -> bool:
    """Whether a cooling device of this type slows the CPU down; a fan does not."""
    return re.search(r"cpu|processor|powerclamp", kind, re.I) is not None and "fan" not in kind


def slowed_by() -> dict[str, int]:
    """The cooling devices that slow the CPU down now, and how far."""
    found = {}
    for device in find("/class/thermal/cooling_device*"):
        kind = read_text(device + "/type")
        level = numbers(device + "/cur_state")
        if slows_cpu(kind) and level and level[0] > 0:
            found[kind] = level[0]
    return found
