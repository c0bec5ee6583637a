"""Reads what the script of `nas boards check` wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from latency.board import Board
from latency.health.clusters import Core, core_kind, parse_list
from latency.health.report import Cooling, Health, Zone
from latency.onboard.facts import FEATURES
from latency.onboard.heat import cpu_zones, slows_cpu
from latency.probe import answers, number, parse_probe

_Lines = Mapping[str, Sequence[str]]


def parse(text: str, board: Board) -> Health:
    """The state of a board, but for its engine, problems and warnings.

    Raises:
        LatencyError: the script did not run to its end.
    """
    found = answers(text)

    def first(key: str) -> str:
        return next(iter(found.get(key, [])), "")

    cores = _cores(found)
    facts = parse_probe(text, board=board.name)
    throttled = re.search(r"0x([0-9a-fA-F]+)", first("throttled"))
    told = {word for line in found.get("features", []) for word in line.split()}
    memory = {key: number(value) * 1024 for key, _, value in (line.partition(":") for line in found.get("memory", []))}
    load = first("load").partition(" ")[0]
    busiest = [line.partition(" ") for line in found.get("busiest", [])]
    return Health(
        board=board.name,
        facts=facts,
        os=first("os"),
        model=first("model"),
        cores=cores,
        allowed=tuple(n for n in parse_list(first("allowed")) if n in {core.number for core in cores}),
        isolated=parse_list(first("isolated")),
        features=tuple(feature for feature in FEATURES if feature in told),
        zones=_zones(found),
        cooling=tuple(
            Cooling(name, number(level), number(highest), slows_cpu(name))
            for level, highest, name in (_split(line, 3) for line in found.get("cooling", []))
        ),
        throttled=int(throttled[1], 16) if throttled else None,
        firmware_refused="" if throttled else first("throttled"),
        load=float(load) if re.fullmatch(r"\d+(\.\d+)?", load) else 0.0,
        busiest=tuple((number(share), name) for share, _, name in busiest if number(share)),
        memory_bytes=memory.get("MemTotal", facts.memory_bytes),
        memory_free_bytes=memory.get("MemAvailable", facts.memory_free_bytes),
        swap_used_bytes=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
        quota_cores=_quota(found.get("quota", [])),
        holder=first("holder"),
        engine=board.engine,
    )


def _split(line: str, count: int) -> list[str]:
    """Exactly so many words; the last one takes the rest."""
    return [*line.split(None, count - 1), *[""] * count][:count]


def _by_core(lines: Sequence[str]) -> dict[int, str]:
    parts = [_split(line, 2) for line in lines]
    return {number(core): rest for core, rest in parts}


def _cores(found: _Lines) -> tuple[Core, ...]:
    kinds = _kinds(found.get("cpu", []))
    frequencies, offered = _by_core(found.get("freq", [])), _by_core(found.get("governors", []))
    capacities = _by_core(found.get("capacity", []))
    online = parse_list(next(iter(found.get("online", [])), "")) or tuple({*kinds, *frequencies})
    cores = []
    for core in sorted(online):
        *khz, policy, set_by, governor = _split(frequencies.get(core, ""), 8)
        lowest, highest, floor, cap, now = (number(word) // 1000 for word in khz)
        cores.append(
            Core(
                core,
                kinds.get(core, ""),
                lowest_mhz=lowest,
                max_mhz=highest,
                floor_mhz=floor,
                cap_mhz=cap,
                now_mhz=now,
                governor=governor,
                governors=tuple(offered.get(core, "").split()),
                may_set=set_by == "us",
                policy=policy,
                capacity=number(capacities.get(core, "")),
            )
        )
    return tuple(cores)


def _kinds(lines: Sequence[str]) -> dict[int, str]:
    """Core number → kind, from the lines of /proc/cpuinfo."""
    kinds: dict[int, str] = {}
    core, implementer = -1, 0
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdigit():
            core = int(value)
            kinds[core] = ""
        elif core >= 0 and key == "CPU implementer" and _is_hex(value):
            implementer = int(value, 16)
        elif core >= 0 and key == "CPU part" and _is_hex(value):
            kinds[core] = core_kind(implementer, int(value, 16))
        elif core >= 0 and key == "model name" and not kinds[core]:
            kinds[core] = value
    return kinds


def _is_hex(text: str) -> bool:
    return re.fullmatch(r"0x[0-9a-fA-F]+", text) is not None


def _zones(found: _Lines) -> tuple[Zone, ...]:
    lines = [_split(line, 3) for line in found.get("zone", [])]
    known = sorted((number(zone), int(temp), name) for zone, temp, name in lines if re.fullmatch(r"-?\d{1,7}", temp))
    of_cpu = cpu_zones([name for _, _, name in known])
    trips: dict[int, list[float]] = {}
    for zone, temp in (_split(line, 2) for line in found.get("trip", [])):
        if number(temp) > 40_000:  # x86 fills unused ones with 0
            trips.setdefault(number(zone), []).append(number(temp) / 1000)
    return tuple(
        Zone(name, temp / 1000, max(trips.get(zone, []), default=None), i in of_cpu)
        for i, (zone, temp, name) in enumerate(known)
    )


def _quota(lines: Sequence[str]) -> float | None:
    """The smallest of the quotas on the way up: `max 100000` and `-1 100000` are none."""
    pairs = [_split(line, 2) for line in lines]
    return min(
        (number(quota) / number(period) for quota, period in pairs if number(quota) and number(period)), default=None
    )
