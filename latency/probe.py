"""What a board is made of, asked by one `sh` script that needs nothing installed, not even Python.

The script writes `lightnas:key=value` lines; whatever else a board's shell says is skipped. The machine a wheel must
fit is what the board's Python says of itself: `uname -m` speaks of the kernel, and that may run 32-bit programs.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Final

from latency.errors import LatencyError
from latency.transport import Transport

OLDEST_PYTHON: Final = (3, 9)
PROBE_TIMEOUT_S: Final = 120.0
_MARK: Final = "lightnas:"

SAY: Final = r"""
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin; export PATH
say() { printf 'lightnas:%s=%s\n' "$1" "$2"; }
"""
"""The head of every script sent to a board: how it speaks."""

PROBE: Final = (
    SAY
    + r"""
say system "$(uname -s)"
say machine "$(uname -m)"
say kernel "$(uname -r)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)
[ -n "$libc" ] || libc=$(ldd --version 2>&1 | head -n 2 | tr '\n' ' ')
say libc "$libc"
base=${XDG_CACHE_HOME:-$HOME/.cache}
say folder "$base/lightnas"
there=$base; while [ ! -d "$there" ] && [ "$there" != / ]; do there=${there%/*}; there=${there:-/}; done
say disk_free_kib "$(df -Pk "$there" 2>/dev/null | awk 'END {print $4}')"
say memory_kib "$(awk '/^MemTotal:/ {print $2}' /proc/meminfo 2>/dev/null)"
say memory_free_kib "$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo 2>/dev/null)"
say cores "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
asked=
for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python; do
  path=$(command -v "$name" 2>/dev/null) || continue
  real=$(readlink -f "$path" 2>/dev/null || echo "$path")
  case " $asked " in *" $real "*) continue;; esac
  asked="$asked $real"
  "$path" -c '
import json, os, struct, sys, sysconfig
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (ValueError, OSError):
    libc = ""
bits, name = 8 * struct.calcsize("P"), sys.implementation.name
print("lightnas:python=" + json.dumps({
    "executable": sys.executable, "version": list(sys.version_info[:3]), "implementation": name, "bits": bits,
    "soabi": sysconfig.get_config_var("SOABI") or "", "platform": sysconfig.get_platform(), "libc": libc}))
sys.exit(0 if sys.version_info >= (3, 9) and bits == 64 and name == "cpython" else 1)
' 2>/dev/null </dev/null && break
done
say end yes
"""
)


@dataclasses.dataclass(frozen=True)
class BoardPython:
    """A Python found on a board, in its own words.

    Attributes:
        executable: its absolute path.
        version: (major, minor, micro).
        implementation: `cpython`, `pypy`, …
        soabi: e.g. `cpython-311-aarch64-linux-gnu`.
        platform: `sysconfig.get_platform()`; names the kernel's machine, whatever the bits.
        bits: 32 or 64.
        libc: e.g. `glibc 2.36`; empty where it is not glibc.
    """

    executable: str
    version: tuple[int, int, int]
    implementation: str
    soabi: str
    platform: str
    bits: int
    libc: str

    @property
    def machine(self) -> str:
        """The machine its wheels are for, e.g. `aarch64`."""
        parts = self.soabi.split("-")
        return parts[2] if len(parts) > 2 else self.platform.rpartition("-")[2]

    @property
    def abi(self) -> str:
        """Its wheels' ABI tag, e.g. `cp311`, or `cp313t` without the global lock."""
        parts = self.soabi.split("-")
        return f"cp{parts[1]}" if len(parts) > 1 else f"cp{self.version[0]}{self.version[1]}"


@dataclasses.dataclass(frozen=True)
class BoardFacts:
    """What a board is made of. Numbers are 0 and texts empty where it did not tell.

    Attributes:
        system: `Linux`.
        machine: the kernel's machine, `uname -m`; not to be trusted for programs.
        kernel: the kernel's release.
        bits: of its programs: 32 or 64.
        libc: `glibc`, `musl` or empty.
        libc_version: e.g. `2.36`.
        folder: the one folder lightnas uses there.
        disk_free_bytes: free where that folder is or will be.
        memory_bytes: of the whole board.
        memory_free_bytes: free now.
        cores: online.
        pythons: the Pythons asked, the default one first, up to the first that is fit.
    """

    system: str
    machine: str
    kernel: str
    bits: int
    libc: str
    libc_version: str
    folder: str
    disk_free_bytes: int
    memory_bytes: int
    memory_free_bytes: int
    cores: int
    pythons: tuple[BoardPython, ...]

    @property
    def python(self) -> BoardPython | None:
        """The first Python that is CPython and new enough, a 64-bit one before any other."""
        fit = [p for p in self.pythons if p.version >= OLDEST_PYTHON and p.implementation == "cpython"]
        return min(fit, key=lambda p: p.bits != 64, default=None)


def probe(transport: Transport) -> BoardFacts:
    """Asks a board what it is made of; changes nothing there.

    Raises:
        LatencyError: it answers nothing sensible.
        ConnectionLost: the link broke.
    """
    return parse_probe(ask(transport, PROBE), board=transport.name)


def ask(transport: Transport, script: str, *arguments: str, timeout_s: float = PROBE_TIMEOUT_S) -> str:
    """Runs a script on the board's `sh` and returns what it wrote.

    Raises:
        LatencyError: there is no POSIX shell.
    """
    # Read from standard input, the script needs no quoting, and no limit on arguments applies.
    done = transport.run(["sh", "-s", "--", *arguments], timeout_s=timeout_s, input=script.encode())
    if done.exit_status in (126, 127):
        raise LatencyError(f"{transport.name}: the board has no POSIX shell (sh), which profiling needs")
    return done.stdout.decode("utf-8", "replace")


def answers(text: str) -> dict[str, list[str]]:
    """The `lightnas:key=value` lines of a script's output, in order, by key."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith(_MARK):
            key, _, value = line[len(_MARK) :].partition("=")
            found.setdefault(key, []).append(value.strip())
    return found


def parse_probe(text: str, *, board: str) -> BoardFacts:
    """Reads what `PROBE` wrote.

    Raises:
        LatencyError: the script did not run to its end.
    """
    found = answers(text)
    if "end" not in found:
        raise LatencyError(
            f"{board}: the board's shell did not run the probe to its end: log in there and try 'sh -c uname'"
        )
    first = {key: values[0] for key, values in found.items()}
    pythons = tuple(python for line in found.get("python", []) if (python := _python(line)) is not None)
    # Small systems lack getconf and ldd; there Python knows.
    libc, version = _libc(next((p.libc for p in pythons if p.libc), first.get("libc", "")))
    return BoardFacts(
        system=first.get("system", ""),
        machine=first.get("machine", ""),
        kernel=first.get("kernel", ""),
        bits=number(first.get("bits", "")) or next((p.bits for p in pythons), 0),
        libc=libc,
        libc_version=version,
        folder=first.get("folder", ""),
        disk_free_bytes=number(first.get("disk_free_kib", "")) * 1024,
        memory_bytes=number(first.get("memory_kib", "")) * 1024,
        memory_free_bytes=number(first.get("memory_free_kib", "")) * 1024,
        cores=number(first.get("cores", "")),
        pythons=pythons,
    )


def number(text: str) -> int:
    """A whole number; 0 for anything else, which is how the facts write "not told"."""
    return int(text) if text.isascii() and text.isdigit() else 0


def _libc(text: str) -> tuple[str, str]:
    if "musl" in text.lower():
        found = re.search(r"Version (\d+(?:\.\d+)+)", text)
        return "musl", found[1] if found else ""
    found = re.search(r"(\d+\.\d+)", text)
    is_glibc = found and re.search(r"glibc|GNU libc|GLIBC|ldd", text)
    return ("glibc", found[1]) if found and is_glibc else ("", "")


def _python(text: str) -> BoardPython | None:
    try:
        told = json.loads(text)
        major, minor, micro = (int(part) for part in told["version"])
        return BoardPython(
            executable=str(told["executable"]),
            version=(major, minor, micro),
            implementation=str(told["implementation"]),
            soabi=str(told["soabi"]),
            platform=str(told["platform"]),
            bits=int(told["bits"]),
            libc=str(told["libc"]),
        )
    except (ValueError, KeyError, TypeError):
        return None  # something that calls itself python3 but is not
