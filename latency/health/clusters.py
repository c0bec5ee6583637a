"""CPU cores, their clusters, and which of them to measure on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_PARTS: Final = {
    (0x41, part): name
    for part, name in {
        0xB76: "ARM1176", 0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9",
        0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55",
        0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76",
        0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE",
        0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2",
        0xD4B: "Cortex-A78C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520",
        0xD81: "Cortex-A720", 0xD82: "Cortex-X4",
    }.items()
} | {(0x4E, 0x003): "Denver 2", (0x4E, 0x004): "Carmel"}  # fmt: skip
"""(implementer, part) of /proc/cpuinfo → name; from the MIDR tables of the Linux kernel's cputype.h."""
_IN_ORDER: Final = re.compile(r"Cortex-A(5|7|35|53|55|510|520)")


@dataclass(frozen=True)
class Core:
    """One CPU core. Frequencies are 0, texts empty where the board does not tell.

    Attributes:
        number: as the kernel counts.
        kind: e.g. `Cortex-A76`.
        lowest_mhz: of the hardware.
        max_mhz: the hardware's highest frequency.
        floor_mhz: the lowest frequency allowed now.
        cap_mhz: the highest frequency allowed now.
        now_mhz: its present frequency.
        governor: e.g. `ondemand`; empty where there is no frequency scaling.
        governors: those the kernel offers.
        may_set: whether this account may set the governor.
        policy: the cores with the same one change their frequency together, e.g. `policy4`.
        capacity: its speed beside the fastest core's 1024, as the kernel tells it; 0 where it does not.
    """

    number: int
    kind: str
    lowest_mhz: int = 0
    max_mhz: int = 0
    floor_mhz: int = 0
    cap_mhz: int = 0
    now_mhz: int = 0
    governor: str = ""
    governors: tuple[str, ...] = ()
    may_set: bool = False
    policy: str = ""
    capacity: int = 0

    @property
    def speed(self) -> float:
        """To compare cores of one board; frequency alone misleads (Odroid N2: A53 at 1896, A73 at 1800 MHz)."""
        # Where the kernel tells no capacity: a core that runs out of order does about twice the work in a cycle.
        return self.capacity or (self.max_mhz or 1) * (1 if _IN_ORDER.fullmatch(self.kind) else 2)


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind and one highest frequency.

    Attributes:
        label: e.g. `Cortex-A76 at 2400 MHz`.
        cores: their numbers.
        policies: the same by what changes its frequency together.
        speed: see `Core.speed`.
    """

    label: str
    cores: tuple[int, ...]
    policies: tuple[tuple[int, ...], ...]
    speed: float


def core_kind(implementer: int, part: int) -> str:
    """A name for what /proc/cpuinfo tells in numbers."""
    return _PARTS.get((implementer, part), f"part {part:#x} of implementer {implementer:#x}")


def clusters_of(cores: Iterable[Core]) -> tuple[Cluster, ...]:
    """The clusters, the slowest first."""
    alike: dict[tuple[str, int], list[Core]] = {}
    for core in cores:
        alike.setdefault((core.kind, core.max_mhz), []).append(core)
    found = []
    for (kind, max_mhz), members in alike.items():
        label = kind or "core"
        policies: dict[str, list[int]] = {}
        for core in members:
            policies.setdefault(core.policy, []).append(core.number)
        found.append(
            Cluster(
                f"{label} at {max_mhz} MHz" if max_mhz else label,
                tuple(core.number for core in members),
                tuple(map(tuple, policies.values())),
                max(core.speed for core in members),
            )
        )
    return tuple(sorted(found, key=lambda cluster: (cluster.speed, cluster.cores)))


def recommended_cores(
    clusters: Sequence[Cluster], threads: int, *, allowed: Collection[int], isolated: Collection[int] = ()
) -> tuple[int, ...]:
    """The cores to pin to: of the fastest kind that has enough, all in one policy where possible.

    Isolated cores come first, for nothing else runs there; core 0 comes last, for most interrupts go there.

    Args:
        clusters: the slowest first.
        threads: how many cores are wanted.
        allowed: the cores this account's programs may use.
        isolated: the cores the kernel's scheduler leaves alone.

    Returns:
        Their numbers in order; empty where no cluster has enough.
    """
    for cluster in reversed(clusters):
        for groups in (cluster.policies, (cluster.cores,)):
            usable = [sorted((n for n in group if n in allowed), key=lambda n: (n in isolated, n)) for group in groups]
            chosen = [group[-threads:] for group in usable if len(group) >= threads]
            if chosen:
                best = max(chosen, key=lambda group: (sum(n in isolated for n in group), 0 not in group, group))
                return tuple(sorted(best))
    return ()


def parse_list(text: str) -> tuple[int, ...]:
    """The kernel's lists of cores: `0-3,6` -> numbers; what is no such list gives nothing."""
    if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", text):
        return ()
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def format_list(cores: Iterable[int]) -> str:
    """Numbers -> `0-3,6`, as `--cores` takes them."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
