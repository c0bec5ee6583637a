"""What stays: the machine and its system."""

from __future__ import annotations

import os
import platform
import re
import sys
from typing import Any

from . import procfs
from .procfs import number_after, read_text

FEATURES = (
    "neon", "asimd", "asimdhp", "fphp", "asimddp", "i8mm", "bf16", "sve", "sve2", "avx2", "avx512f", "avx512_vnni",
)  # fmt: skip
"""The abilities of a CPU that decide which kernels an engine picks; asimdhp is 16-bit float arithmetic."""


def read_facts(cores: list[int]) -> dict[str, Any]:
    """What stays: the machine and its system."""
    cpuinfo = read_text(procfs.PROC + "/cpuinfo")
    names = re.findall(r"^(?:model name|Hardware|CPU part)\s*:\s*(.+)$", cpuinfo, re.M)
    told = {word for line in re.findall(r"^(?:Features|flags)\s*:\s*(.+)$", cpuinfo, re.M) for word in line.split()}
    return {
        "model": read_text(procfs.PROC + "/device-tree/model") or (names[0] if names else platform.machine()),
        "cpu": sorted(set(names)),
        "features": [feature for feature in FEATURES if feature in told],
        "machine": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "system": platform.platform(),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpus": os.cpu_count(),
        "cores": cores,
        "memory_bytes": (number_after("MemTotal:", read_text(procfs.PROC + "/meminfo")) or 0) * 1024,
        "pid": os.getpid(),
    }
