"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass

from latency.board import Board
from latency.health.clusters import Cluster, Core, clusters_of, recommended_cores
from latency.probe import BoardFacts


@dataclass(frozen=True)
class Zone:
    """A place whose temperature is told.

    Attributes:
        name: e.g. `cpu-thermal`.
        celsius: now.
        limit_celsius: above it the kernel slows the CPU down; None where untold.
        is_cpu: whether it is the CPU's, or the chip's where none is. A PMIC that stands at 100 °C is no worry.
    """

    name: str
    celsius: float
    limit_celsius: float | None
    is_cpu: bool


@dataclass(frozen=True)
class Cooling:
    """Something that cools: a fan, or slowing down.

    Attributes:
        name: e.g. `thermal-cpufreq-0` or `pwm-fan`.
        level: 0 is off.
        highest: its highest level.
        slows: whether it slows the CPU down.
    """

    name: str
    level: int
    highest: int
    slows: bool


@dataclass(frozen=True)
class Health:
    """The state of a board.

    Attributes:
        board: its name.
        facts: what it is made of.
        os: e.g. `Debian GNU/Linux 12 (bookworm)`.
        model: e.g. `Raspberry Pi 4 Model B Rev 1.4`; empty where untold.
        cores: every core that is on.
        allowed: the cores this account's programs may use.
        isolated: the cores the scheduler leaves alone (`isolcpus`).
        features: of the CPU, those that decide which kernels an engine picks (`asimdhp`: 16-bit floats, `asimddp` and
            `i8mm`: 8-bit integers, `bf16`).
        zones: every temperature told.
        cooling: every cooling device told.
        throttled: what `vcgencmd` tells, as bits; None where there is no such program.
        firmware_refused: what `vcgencmd` says instead where this account may not ask; empty elsewhere.
        load: processes wanting to run, averaged over a minute.
        busiest: (percent of a core, name) of the programs that were busy while we looked.
        memory_bytes: of the whole board.
        memory_free_bytes: available now.
        swap_used_bytes: of memory that was moved to the disk.
        quota_cores: the CPU quota of this account's control group, in cores; None where there is none.
        holder: who measures on the board now; empty where nobody does.
        engine: the board's engine.
        engine_version: its version there; empty if it has to be sent when profiling.
        problems: what prevents profiling, each with its mend.
        warnings: what would spoil measurements, each with its mend.
    """

    board: str
    facts: BoardFacts
    os: str
    model: str
    cores: tuple[Core, ...]
    allowed: tuple[int, ...]
    isolated: tuple[int, ...]
    features: tuple[str, ...]
    zones: tuple[Zone, ...]
    cooling: tuple[Cooling, ...]
    throttled: int | None
    firmware_refused: str
    load: float
    busiest: tuple[tuple[int, str], ...]
    memory_bytes: int
    memory_free_bytes: int
    swap_used_bytes: int
    quota_cores: float | None
    holder: str
    engine: str
    engine_version: str = ""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """Cores by kind and highest frequency, the slowest first."""
        return clusters_of(self.cores)

    @property
    def hottest(self) -> Zone | None:
        """The CPU's hottest zone."""
        return max((zone for zone in self.zones if zone.is_cpu), key=lambda zone: zone.celsius, default=None)

    def recommended(self, board: Board) -> tuple[int, ...]:
        """The cores to pin a board's threads to; empty where no kind has enough."""
        usable = set(self.allowed) or {core.number for core in self.cores}
        return recommended_cores(self.clusters, board.threads, allowed=usable, isolated=self.isolated)
