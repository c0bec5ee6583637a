"""What may change while we measure: frequency, temperature, throttling, load, memory."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import procfs
from .heat import read_heat, slowed_by
from .procfs import number_after, numbers, read_text
from .work import read_work


def throttled() -> str | None:
    """A Raspberry Pi's throttling bits (hex): 0-3 now, 16-19 since boot; None elsewhere."""
    if shutil.which("vcgencmd") is None:  # starting nothing costs a millisecond too
        return None
    try:
        answer = subprocess.run(
            ["vcgencmd", "get_throttled"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"0x[0-9a-fA-F]+", answer.stdout.decode("ascii", "replace"))
    return found.group(0) if found else None


def read_state(cores: list[int], *, ask_firmware: bool = True) -> dict[str, Any]:
    """What may change while we measure; None or empty where the board does not tell.

    Asking a Raspberry Pi's firmware starts a process, so it can be left out.
    """
    cpufreq = [f"{procfs.SYS}/devices/system/cpu/cpu{core}/cpufreq/" for core in cores]
    governors = {read_text(folder + "scaling_governor") for folder in cpufreq} - {""}
    available = number_after("MemAvailable:", read_text(procfs.PROC + "/meminfo"))
    return {
        "governor": sorted(governors),
        "mhz": [khz // 1000 for folder in cpufreq for khz in numbers(folder + "scaling_cur_freq")[:1]],
        "limit_mhz": [khz // 1000 for folder in cpufreq for khz in numbers(folder + "scaling_max_freq")[:1]],
        **read_heat(),
        "slowed_by": slowed_by(),
        "throttled": throttled() if ask_firmware else None,
        "load": [float(word) for word in read_text(procfs.PROC + "/loadavg").split()[:3]],
        "free_bytes": available * 1024 if available is not None else None,
        "work": read_work(cores),
    }


def resident_bytes() -> int:
    """Resident memory of this process."""
    fields = read_text("/proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def forget_peak() -> None:
    """Has `peak_bytes` begin anew, where the kernel lets us, and gives back what earlier networks have left free."""
    with contextlib.suppress(ImportError, OSError, AttributeError):  # of glibc only
        importlib.import_module("ctypes").CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most resident memory that this process has had, since the last `forget_peak`."""
    return (number_after("VmHWM:", read_text("/proc/self/status")) or 0) * 1024
