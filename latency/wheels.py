"""Which wheel of an engine fits a board's Python, and fetching it on this side, so that the board needs no internet.

Tags are those of PEP 600: a wheel tagged `manylinux_2_N` needs glibc 2.N or newer.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from latency.errors import BoardUnfit, LatencyError
from latency.probe import BoardFacts, BoardPython
from latency.process import one_line

_PIP_TIMEOUT_S: Final = 600.0
_OLDEST_GLIBC_MINOR: Final = 17
_NEWEST_GLIBC_MINOR: Final = 60
"""Only to find out which glibc a wheel would need that does not fit."""
_NO_SUCH_WHEEL: Final = "no such wheel"
_LEGACY: Final = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}


_LAST: Final = {
    "cp39": {"onnxruntime": "1.19.2", "numpy": "2.0.2"},
    "cp310": {"onnxruntime": "1.23.2", "numpy": "2.2.6"},
}
"""The last versions made for Pythons that newer ones have left behind."""


def version_for(distribution: str, python: BoardPython) -> str:
    """The version a board gets: the one installed here, or the last one there is for its Python."""
    here = importlib.metadata.version(distribution)
    return _LAST.get(python.abi, {}).get(distribution, here)


def fetch(engine: str, version: str, python: BoardPython, facts: BoardFacts, cache: Path, *, board: str) -> Path:
    """The wheel of an engine for a board's Python: from the cache, or else downloaded into it by pip.

    Args:
        engine: the distribution, e.g. `ncnn`.
        version: exactly this version.
        python: the Python it is for.
        facts: the board's; its glibc decides.
        cache: a folder on this machine, made where missing.
        board: the board's name, for messages.

    Raises:
        BoardUnfit: there is no such wheel for this Python, or only for a newer glibc.
        LatencyError: pip could not fetch it, e.g. without internet.
    """
    minor = glibc_minor(facts)
    cache.mkdir(parents=True, exist_ok=True)
    if cached := _best(cache, engine, version, python, minor):
        return cached
    problem = _download(engine, version, python, minor, cache)
    if problem is None and (fetched := _best(cache, engine, version, python, minor)):
        return fetched
    wanted = f"{engine} {version} for {python.abi} on {python.machine}"
    # Does it exist at all? Then only glibc is in the way.
    if _download(engine, version, python, _NEWEST_GLIBC_MINOR, cache) is None:
        newer = _best(cache, engine, version, python, _NEWEST_GLIBC_MINOR)
        need = min(_glibc_minors(newer, python), default=0) if newer else 0
        raise BoardUnfit(
            f"{board}: the wheel of {wanted} needs glibc 2.{need}, but the board has {facts.libc_version}: update its "
            f"system, or install {engine} for {python.executable} there yourself"
        )
    if problem == _NO_SUCH_WHEEL:
        raise BoardUnfit(
            f"{board}: there is no wheel of {wanted}: install a Python that has one, or install {engine} for "
            f"{python.executable} on the board yourself"
        )
    raise LatencyError(
        f"{board}: cannot download the wheel of {wanted} ({problem}): connect this machine to the "
        f"internet once, or put the wheel into {cache}"
    )


def glibc_minor(facts: BoardFacts) -> int:
    """N of the board's glibc 2.N; −1 if it has none."""
    found = re.fullmatch(r"2\.(\d+)", facts.libc_version)
    return int(found[1]) if found and facts.libc == "glibc" else -1


def platform_tags(machine: str, minor: int) -> list[str]:
    """The platforms a wheel may name to run with glibc 2.`minor`, the best first."""
    tags = [f"manylinux_2_{n}_{machine}" for n in range(minor, _OLDEST_GLIBC_MINOR - 1, -1)]
    return [*tags, f"manylinux2014_{machine}"] if tags else []


def _best(cache: Path, engine: str, version: str, python: BoardPython, minor: int) -> Path | None:
    fit = [
        (min(needs), path)
        for path in sorted(cache.glob(f"{engine}-{version}-*.whl"))
        if f"-{python.abi}-" in path.name and (needs := _glibc_minors(path, python)) and min(needs) <= minor
    ]
    return max(fit, default=(0, None))[1]


def _glibc_minors(wheel: Path, python: BoardPython) -> list[int]:
    """The glibc 2.N that each of a wheel's platform tags for the Python's machine asks for."""
    platforms = wheel.name.removesuffix(".whl").rpartition("-")[2].split(".")
    minors = []
    for platform in platforms:
        found = re.fullmatch(r"(?:manylinux_2_(\d+)|(manylinux\d+))_(\w+)", platform)
        if found and found[3] == python.machine:
            minors.append(int(found[1]) if found[1] else _LEGACY.get(found[2], _NEWEST_GLIBC_MINOR))
    return minors


def _download(engine: str, version: str, python: BoardPython, minor: int, cache: Path) -> str | None:
    """Returns what pip complains of, or None."""
    major_minor = f"{python.version[0]}.{python.version[1]}"
    platforms = [word for tag in platform_tags(python.machine, minor) for word in ("--platform", tag)]
    if not platforms:
        return _NO_SUCH_WHEEL
    command: Sequence[str] = [
        sys.executable, "-m", "pip", "download", "-vv", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", major_minor, "--abi", python.abi,
        *platforms, "--dest", str(cache), f"{engine}=={version}",
    ]  # fmt: skip
    # A constraints file of this machine's environment says nothing about the board's.
    environment = {key: value for key, value in os.environ.items() if key not in ("PIP_CONSTRAINT", "PIP_REQUIREMENT")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"pip took longer than {_PIP_TIMEOUT_S:g} s"
    return None if done.returncode == 0 else _reason(done.stdout + done.stderr)


def _reason(output: str) -> str:
    """What kept pip from it, in one line; pip itself masks passwords in addresses."""
    lines = [line for line in output.splitlines() if line.strip()]
    # An index out of reach looks to pip like one that has nothing; only its most talkative mode tells.
    out_of_reach = [line for line in lines if "Could not fetch URL" in line and "404" not in line]
    if not out_of_reach and "No matching distribution found" in output:
        return _NO_SUCH_WHEEL
    errors = [line for line in lines if line.startswith("ERROR") or "No module named pip" in line]
    return one_line((out_of_reach or errors or lines or ["pip failed without a word"])[0], 200)
