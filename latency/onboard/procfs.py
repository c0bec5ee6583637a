"""The small files of /proc and /sys."""

from __future__ import annotations

import os
import re
from pathlib import Path

SYSROOT = os.environ.get("LIGHTNAS_SYSROOT", "")
"""The folder that holds /proc and /sys: none but in tests, which put recorded trees of boards there."""
PROC, SYS = SYSROOT + "/proc", SYSROOT + "/sys"


def read_text(path: str) -> str:
    """A small file of /proc or /sys, or nothing."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def number_after(label: str, text: str) -> int | None:
    """The first whole number behind a label at the start of a line."""
    found = re.search(rf"^{re.escape(label)}\D*(\d+)", text, re.M)
    return int(found.group(1)) if found else None


def find(pattern: str) -> list[str]:
    """The paths below /sys of a pattern, zone2 before zone10."""
    found = map(str, Path(SYS).glob(pattern.lstrip("/")))
    return sorted(found, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)])


def numbers(path: str) -> list[int]:
    """The whole numbers in a small file."""
    return [int(word) for word in re.findall(r"-?\d+", read_text(path))]


def policy_folders(cores: list[int]) -> dict[str, int]:
    """The cpufreq folders of the cores, each once, with the first core it is of; cores share their cluster's."""
    found: dict[str, int] = {}
    for core in cores:
        folder = f"{SYS}/devices/system/cpu/cpu{core}/cpufreq"
        if Path(folder).is_dir():
            found.setdefault(os.path.realpath(folder), core)
    return found
