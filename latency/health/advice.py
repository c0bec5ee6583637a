"""What would disturb measurements on a board, each with its mend."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from latency.board import Board
from latency.disturbance import LIMITS, throttling
from latency.health.clusters import Core, format_list
from latency.health.report import Health

NEAR_LIMIT_C: Final = 5.0
"""So near to its limit a board warms up and slows down within seconds of work."""
BUSY_LOAD: Final = 0.5
SMALL_MEMORY_BYTES: Final = 300 * 2**20
TIGHT_MEMORY_BYTES: Final = 2**30
"""With less than this free, memory in the swap space is a sign of need; with more, of old programs nobody uses."""
MUCH_SWAP_BYTES: Final = 32 * 2**20
_GOVERNOR_FILES: Final = "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
_DTYPE_FEATURES: Final = {"fp16": "asimdhp", "bf16": "bf16"}


def advise(health: Health, board: Board) -> list[str]:
    """One line for each disturbance, its mend behind the last colon."""
    used = [core for core in health.cores if not board.cores or core.number in board.cores]
    return [
        *_holder(health),
        *_governor(used),
        *_heat(health),
        *_firmware(health),
        *_company(health),
        *_memory(health),
        *_group(health, board),
        *_dtype(health, board),
        *_cores(health, board),
    ]


def _holder(health: Health) -> Iterator[str]:
    if health.holder:
        yield f"the board is being measured by {health.holder}: wait for its end, or end it"


def _governor(used: list[Core]) -> Iterator[str]:
    # One that we may set is no warning: a profile holds it at performance and gives it back.
    restless = [core for core in used if core.governor not in ("", "performance") and not core.may_set]
    if restless:
        names = ", ".join(sorted({core.governor for core in restless}))
        reason = (
            f"the CPU governor is {names} and this account may not change it, so frequencies change while measuring"
        )
        if all("performance" in core.governors for core in restless):
            yield f"{reason}: echo performance | sudo tee {_GOVERNOR_FILES}"
        else:
            top = max(core.cap_mhz for core in restless) * 1000
            files = _GOVERNOR_FILES.replace("governor", "min_freq")
            yield f"{reason}, and the kernel offers no 'performance': echo {top} | sudo tee {files}"
    capped = [core for core in used if 0 < core.cap_mhz < core.max_mhz]
    if capped:
        cap, top = min(core.cap_mhz for core in capped), max(core.max_mhz for core in capped)
        files = _GOVERNOR_FILES.replace("governor", "max_freq")
        yield (
            f"cores {format_list(core.number for core in capped)} may run at {cap} of {top} MHz, and a profile holds "
            f"for that alone; to lift the cap (on a Jetson sudo nvpmodel -m 0): echo {top}000 | sudo tee {files}"
        )


def _heat(health: Health) -> Iterator[str]:
    slowing = [device for device in health.cooling if device.slows and device.level > 0]
    if slowing:
        told = ", ".join(f"{device.name} at {device.level} of {device.highest}" for device in slowing)
        yield f"the kernel slows the CPU down to cool it ({told}): let the board cool, give it a heat sink or a fan"
    zone = health.hottest
    limit = (zone and zone.limit_celsius) or LIMITS.celsius
    if zone is not None and zone.celsius >= limit - NEAR_LIMIT_C:
        yield (
            f"the CPU is at {zone.celsius:.0f} °C ({zone.name}) and slows down at {limit:.0f} °C: let the board cool, "
            "give it a heat sink or a fan"
        )


def _firmware(health: Health) -> Iterator[str]:
    if health.firmware_refused:
        yield (
            f"this account may not ask the firmware about throttling ({health.firmware_refused.strip()}): "
            "sudo usermod -aG video $USER, then log in again"
        )
    bits = health.throttled or 0
    now = throttling(bits)
    past = [name for name in throttling(bits, since_boot=True) if name not in now]
    if bits:
        told = [*(f"{name} now" for name in now), *(f"{name} since boot" for name in past)]
        weak = "under-voltage" in (*now, *past)
        mend = "use a stronger power supply and a short cable" if weak else "give it a heat sink or a fan"
        again = "" if now else "; sudo reboot forgets what has been"
        yield f"the firmware reports {', '.join(told)}: {mend}{again}"


def _company(health: Health) -> Iterator[str]:
    busy = ", ".join(f"{name} {share} %" for share, name in health.busiest if share >= 5)
    if health.load > BUSY_LOAD or sum(share for share, _ in health.busiest) >= 100 * LIMITS.others_elsewhere:
        yield (
            f"other programs keep the board busy (load {health.load:.2f}{f'; {busy}' if busy else ''}): stop them "
            "while profiling"
        )


def _memory(health: Health) -> Iterator[str]:
    free, swapped = health.memory_free_bytes, health.swap_used_bytes
    if 0 < free < SMALL_MEMORY_BYTES:
        yield (
            f"only {free / 2**20:.0f} MiB of memory are free: stop other programs, or profile at a smaller resolution"
        )
    if swapped >= MUCH_SWAP_BYTES and 0 < free < TIGHT_MEMORY_BYTES:
        yield (
            f"{swapped / 2**20:.0f} MiB of memory are in the swap space and little is free, so programs wait for the "
            "disk: stop other programs, then sudo swapoff -a"
        )


def _group(health: Health, board: Board) -> Iterator[str]:
    # The runner itself wants as many cores as it has threads; what it says and reads comes on top.
    if health.quota_cores is not None and health.quota_cores < board.threads + 0.2:
        yield (
            f"a quota gives this account's programs {health.quota_cores:g} cores and stops {board.threads} thread(s) "
            "now and then: lift it (docker update --cpus 0 CONTAINER, or sudo systemctl set-property UNIT CPUQuota=)"
        )


def _dtype(health: Health, board: Board) -> Iterator[str]:
    wanted = _DTYPE_FEATURES.get(board.dtype)
    if wanted and "asimd" in health.features and wanted not in health.features:
        mend = register_again(board, board.cores, dtype="fp32")
        yield f"the CPU has no {board.dtype} arithmetic ({wanted}), so {board.dtype} would be slower than fp32: {mend}"


def _cores(health: Health, board: Board) -> Iterator[str]:
    online = {core.number for core in health.cores}
    if not online:
        return
    best = health.recommended(board)
    mend = register_again(board, best) if best else "set fewer threads"
    usable = set(health.allowed) or online
    for reason, outside in (
        ("but the board has", set(board.cores) - online),
        ("but this account's programs may only use", (set(board.cores) & online) - usable),
    ):
        if outside:
            there = online if outside - online else usable
            yield f"cores {format_list(outside)} are to be pinned, {reason} {format_list(there)}: {mend}"
            return
    if board.threads > len(usable):
        yield f"{board.threads} threads are to run on {len(usable)} core(s): set fewer threads"
        return
    if len(health.clusters) > 1:
        described = "; ".join(f"{cluster.label}: {format_list(cluster.cores)}" for cluster in health.clusters)
        kinds = sum(bool(set(cluster.cores) & set(board.cores)) for cluster in health.clusters)
        if not board.cores:
            yield f"the cores differ ({described}) and none are pinned, so times will jump: {mend}"
        elif kinds > 1:
            yield f"the cores to be pinned are of several kinds ({described}): {mend}"


def register_again(board: Board, cores: tuple[int, ...], *, dtype: str | None = None) -> str:
    """The commands that register a board with other settings."""
    words = ["nas", "boards", "add", board.name, board.address]
    for option, value, default in (
        ("--engine", board.engine, "ncnn"),
        ("--threads", str(board.threads), "1"),
        ("--cores", format_list(cores), ""),
        ("--dtype", dtype or board.dtype, "fp32"),
        ("--identity", board.identity_file or "", ""),
    ):
        words += [option, value] if value != default else []
    return f"nas boards remove {board.name} && {shlex.join(words)}"
