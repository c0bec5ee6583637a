"""How a board is doing, for `nas boards check`: what it is, what would disturb measurements, and how to mend that.

Reads only. One script asks for everything; `parse` and `advise` work on its text, so tests feed them recorded boards.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from latency import deploy
from latency.board import Board
from latency.errors import BoardUnfit
from latency.probe import PROBE, PROBE_TIMEOUT_S, BoardFacts, answers, ask, number, parse_probe
from latency.transport import LocalTransport, Transport

HOT_C: Final = 75.0
"""Most boards begin to slow down between 80 and 85 °C."""
BUSY_LOAD: Final = 0.5
SMALL_MEMORY_BYTES: Final = 300 * 2**20

_SCRIPT: Final = (
    PROBE
    + r"""
say os "$(. /etc/os-release 2>/dev/null; printf %s "$PRETTY_NAME")"
say model "$(tr -d '\000' </proc/device-tree/model 2>/dev/null)"
sed -n 's/^\(processor\|CPU implementer\|CPU part\|model name\|Hardware\)[[:space:]]*:/lightnas:cpu=\1:/p' /proc/cpuinfo
for path in /sys/devices/system/cpu/cpu[0-9]*; do
  [ -d "$path/cpufreq" ] || continue
  say freq "${path##*cpu} $(cat "$path/cpufreq/cpuinfo_max_freq" 2>/dev/null || echo 0) $(
    cat "$path/cpufreq/scaling_cur_freq" 2>/dev/null || echo 0) $(cat "$path/cpufreq/scaling_governor" 2>/dev/null)"
done
for path in /sys/class/thermal/thermal_zone*; do
  [ -r "$path/temp" ] && say temp "$(cat "$path/temp" 2>/dev/null) $(cat "$path/type" 2>/dev/null)"
done
command -v vcgencmd >/dev/null && say throttled "$(vcgencmd get_throttled 2>/dev/null)"
say load "$(cut -d' ' -f1 /proc/loadavg 2>/dev/null)"
for path in "$base/lightnas"/*-*/; do [ -d "$path" ] && say deployed "${path%/}"; done
say done yes
"""
)
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
_THROTTLED: Final = (
    (0, "under-voltage"),
    (1, "capped frequency"),
    (2, "throttling"),
    (3, "the soft temperature limit"),
)
"""Bits of `vcgencmd get_throttled`: these now, and 16 higher since boot."""


@dataclasses.dataclass(frozen=True)
class Core:
    """One CPU core.

    Attributes:
        number: as the kernel counts.
        kind: e.g. `Cortex-A76`; empty where unknown.
        max_mhz: its highest frequency, 0 where untold.
        now_mhz: its present frequency, 0 where untold.
        governor: e.g. `ondemand`; empty where there is no frequency scaling.
    """

    number: int
    kind: str
    max_mhz: int
    now_mhz: int
    governor: str


@dataclasses.dataclass(frozen=True)
class Health:
    """The state of a board.

    Attributes:
        board: its name.
        facts: what it is made of.
        os: e.g. `Debian GNU/Linux 12 (bookworm)`.
        model: e.g. `Raspberry Pi 4 Model B Rev 1.4`; empty where untold.
        cores: every core.
        temperature_c: of the hottest zone in degrees Celsius; None where untold.
        throttled: what `vcgencmd` tells, as bits; None where there is no such program.
        load: processes wanting to run, averaged over a minute.
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
    temperature_c: float | None
    throttled: int | None
    load: float
    engine: str
    engine_version: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def clusters(self) -> dict[str, tuple[int, ...]]:
        """Cores of a kind, e.g. `{"Cortex-A55 at 1800 MHz": (0, 1, 2, 3), …}`, the fastest last."""
        kinds: dict[tuple[int, str], list[int]] = {}
        for core in self.cores:
            label = core.kind or "core"
            kinds.setdefault((core.max_mhz, f"{label} at {core.max_mhz} MHz" if core.max_mhz else label), []).append(
                core.number
            )
        return {label: tuple(numbers) for (_, label), numbers in sorted(kinds.items())}


def check(transport: Transport, board: Board) -> Health:
    """Examines a board.

    Raises:
        LatencyError: it does not answer sensibly.
        ConnectionLost: the link broke.
    """
    text = ask(transport, _SCRIPT, timeout_s=2 * PROBE_TIMEOUT_S)
    health = parse(text, board)
    version, problems = "", []
    try:
        if isinstance(transport, LocalTransport):
            version = deploy.engine_version(transport, deploy.this_python(), board.engine, None)[0] or ""
            problems += [] if version else [f"{board.engine} is not installed here: pip install {board.engine}"]
        else:
            python = deploy.fit_python(health.facts, board=board.name)
            deployed = [p for p in answers(text).get("deployed", []) if f"/{board.engine}-" in p]
            for folder in (None, *deployed):
                version = deploy.engine_version(transport, python, board.engine, folder)[0] or version
            if not version:
                deploy.require_wheel_fit(health.facts, python, board.engine, board=board.name)
    except BoardUnfit as error:
        problems.append(str(error))
    health = dataclasses.replace(health, engine_version=version, problems=tuple(problems))
    return dataclasses.replace(health, warnings=tuple(advise(health, board)))


def parse(text: str, board: Board) -> Health:
    """Reads what the script wrote; problems and warnings are left to `check`."""
    found = answers(text)

    def first(key: str) -> str:
        return next(iter(found.get(key, [])), "")

    frequencies = {}
    for line in found.get("freq", []):
        parts = [*line.split(), "", "", ""]
        frequencies[number(parts[0])] = (number(parts[1]) // 1000, number(parts[2]) // 1000, parts[3])
    kinds = _kinds(found.get("cpu", []))
    cores = tuple(Core(n, kinds.get(n, ""), *frequencies.get(n, (0, 0, ""))) for n in sorted({*kinds, *frequencies}))
    celsius = [int(word) / 1000 for line in found.get("temp", []) if re.fullmatch(r"-?\d+", word := line.split(" ")[0])]
    throttled = re.search(r"0x([0-9a-fA-F]+)", first("throttled"))
    load = first("load")
    return Health(
        board=board.name,
        facts=parse_probe(text, board=board.name),
        os=first("os"),
        model=first("model"),
        cores=cores,
        temperature_c=max(celsius, default=None),
        throttled=int(throttled[1], 16) if throttled else None,
        load=float(load) if re.fullmatch(r"\d+(\.\d+)?", load) else 0.0,
        engine=board.engine,
        engine_version="",
    )


def _kinds(lines: list[str]) -> dict[int, str]:
    """Core number → kind, from the lines of /proc/cpuinfo."""
    kinds: dict[int, str] = {}
    core, implementer = -1, 0
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdigit():
            core = int(value)
            kinds[core] = ""
        elif core >= 0 and key == "CPU implementer":
            implementer = int(value, 16)
        elif core >= 0 and key == "CPU part":
            part = int(value, 16)
            kinds[core] = _PARTS.get((implementer, part), f"part {part:#x} of implementer {implementer:#x}")
        elif core >= 0 and key == "model name" and not kinds[core]:
            kinds[core] = value
    return kinds


def advise(health: Health, board: Board) -> list[str]:
    """What would disturb measurements, each with its mend."""
    found = []
    governors = sorted({core.governor for core in health.cores if core.governor not in ("", "performance")})
    if governors:
        found.append(
            f"the CPU governor is {', '.join(governors)}, so frequencies change while measuring: "
            "sudo cpupower frequency-set -g performance"
        )
    if health.temperature_c is not None and health.temperature_c >= HOT_C:
        found.append(f"the board is at {health.temperature_c:.0f} °C and may slow down: cool it")
    if health.throttled:
        now = [name for bit, name in _THROTTLED if health.throttled >> bit & 1]
        past = [name for bit, name in _THROTTLED if health.throttled >> (bit + 16) & 1 and name not in now]
        told = [*(f"{name} now" for name in now), *(f"{name} since boot" for name in past)]
        found.append(f"the firmware reports {', '.join(told)}: use a stronger power supply or cool the board")
    if health.load > BUSY_LOAD:
        found.append(f"other programs keep the board busy (load {health.load:.2f}): stop them while profiling")
    if 0 < health.facts.memory_free_bytes < SMALL_MEMORY_BYTES:
        free = health.facts.memory_free_bytes / 2**20
        found.append(f"only {free:.0f} MiB of memory are free: stop other programs, or profile at a smaller resolution")
    return [*found, *_core_advice(health, board)]


def _core_advice(health: Health, board: Board) -> list[str]:
    online = {core.number for core in health.cores}
    clusters = health.clusters
    missing = sorted(set(board.cores) - online)
    if missing and online:
        return [f"cores {missing} are to be pinned, but the board has {sorted(online)}: correct the board's cores"]
    if len(online) and board.threads > len(online):
        return [f"{board.threads} threads are to run on {len(online)} core(s): set fewer threads"]
    if len(clusters) > 1:
        used = [label for label, cores in clusters.items() if set(cores) & set(board.cores)]
        described = "; ".join(f"{label}: {','.join(map(str, cores))}" for label, cores in clusters.items())
        if not board.cores:
            return [f"the cores differ ({described}) and none are pinned: choose some of one kind, or times will jump"]
        if len(used) > 1:
            return [f"the cores to be pinned are of several kinds ({described}): choose some of one kind"]
    return []
