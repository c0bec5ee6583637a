"""Puts the runner, and the engine where it is missing, into one folder of the board's cache; `clean` removes it again.

The folder is `${XDG_CACHE_HOME:-~/.cache}/lightnas` on the board. Inside, all is named by its content and renamed into
place when whole, so a second deployment uploads nothing and a cut one leaves nothing half done under a final name.
Nothing else on the board is touched, nothing is installed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

from latency import wheels
from latency.bundle import runner_bundle
from latency.errors import BoardBusy, BoardUnfit, LatencyError
from latency.probe import OLDEST_PYTHON, SAY, BoardFacts, BoardPython, answers, ask, number, probe
from latency.process import one_line
from latency.transport import LocalTransport, Transport

_IMPORT_TIMEOUT_S: Final = 120.0
_UNPACK_TIMEOUT_S: Final = 600.0
_SPARE_BYTES: Final = 16 * 2**20

_CHECKS: Final = {
    "ncnn": "import ncnn; ncnn.Net(); print('lightnas:version=' + ncnn.__version__)",
    # Told not to, it writes nothing into the account's cache and tells its maker nothing.
    "onnxruntime": "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; import onnxruntime as o; "
    "o.SessionOptions(); print('lightnas:version=' + o.__version__)",
}
"""For each engine we can deploy, what proves that it works and tells its version."""
_WHEELS: Final = {"ncnn": ("ncnn",), "onnxruntime": ("onnxruntime", "numpy")}
"""The wheels that importing the engine needs, its own first; more than that its metadata may ask for."""

_UNPACK: Final = (
    SAY
    + r"""
python=$1 target=$2 part=$2.part.$$; shift 2
whole=yes
for wheel in "$@"; do "$python" -m zipfile -e "$wheel" "$part" || whole=; done
[ -n "$whole" ] && sync && { [ -d "$target" ] || mv "$part" "$target"; } && sync && say done yes
rm -rf "$part" "$@"
"""
)
_CLEAN: Final = (
    SAY
    + r"""
say folder "$1"
[ -d "$1" ] || exit 0
if [ -e "$1/lock" ] && command -v flock >/dev/null; then
  flock -n "$1/lock" true || { say busy yes; exit 0; }
fi
say files "$(find "$1" -type f | wc -l | tr -d ' ')"
say kib "$(du -sk "$1" | awk '{print $1}')"
rm -rf "$1" || say left yes
"""
)


@dataclasses.dataclass(frozen=True)
class Deployment:
    """Where everything is that running the runner needs; paths are the board's.

    Attributes:
        folder: the folder of ours.
        python: the Python to run.
        runner_path: the runner's file.
        lock_path: the file the runner holds an flock on; two profilers on one board would spoil each other's times.
        pythonpath: a folder with the unpacked engine, or None where Python finds the engine itself.
        engine: its name.
        engine_version: as it tells it on the board.
        facts: what the board is made of.
        uploaded_bytes: what had to be sent; 0 when everything was there.
    """

    folder: str
    python: str
    runner_path: str
    lock_path: str
    pythonpath: str | None
    engine: str
    engine_version: str
    facts: BoardFacts
    uploaded_bytes: int

    @property
    def env(self) -> Mapping[str, str]:
        """What to add to the runner's environment; bytecode would be a file nobody asked for."""
        path = {"PYTHONPATH": self.pythonpath} if self.pythonpath else {}
        return {**path, "PYTHONDONTWRITEBYTECODE": "1"}


@dataclasses.dataclass(frozen=True)
class Removed:
    """What `clean` took away.

    Attributes:
        folder: the folder of ours on the board.
        files: how many files it held; 0 if there was no such folder.
        size_bytes: the disk they took.
    """

    folder: str
    files: int
    size_bytes: int


def deploy(transport: Transport, engine: str, *, wheel_cache: Path | None = None) -> Deployment:
    """Makes a board ready to run the runner.

    Args:
        transport: the board.
        engine: the engine's name.
        wheel_cache: where this machine keeps wheels; None for the user's cache folder.

    Raises:
        BoardUnfit: the board lacks something; found out before anything is sent.
        LatencyError: the engine is unknown, or its wheel cannot be downloaded.
        ConnectionLost: the link broke; deploying again goes on.
    """
    if engine not in _CHECKS:
        raise LatencyError(f"{transport.name}: engine {engine!r} cannot be deployed: use one of {', '.join(_CHECKS)}")
    facts = probe(transport)
    if isinstance(transport, LocalTransport):
        return _deploy_here(transport, engine, facts)
    python = fit_python(facts, board=transport.name)
    uploaded, pythonpath = 0, None
    version, problem = engine_version(transport, python, engine, None)
    if version is None:
        require_wheel_fit(facts, python, engine, board=transport.name)
    _make_folder(transport, facts)
    if version is None:
        uploaded, pythonpath = _upload_engine(transport, facts, python, engine, wheel_cache)
        version, problem = engine_version(transport, python, engine, pythonpath)
        if version is None:
            raise BoardUnfit(
                f"{transport.name}: {engine} does not start on the board ({problem}): install what it lacks there, "
                f"or install {engine} for {python.executable} yourself"
            )
    runner_path, runner_bytes = _put_runner(transport, facts)
    return Deployment(
        folder=facts.folder,
        python=python.executable,
        runner_path=runner_path,
        lock_path=f"{facts.folder}/lock",
        pythonpath=pythonpath,
        engine=engine,
        engine_version=version,
        facts=facts,
        uploaded_bytes=uploaded + runner_bytes,
    )


def _deploy_here(transport: LocalTransport, engine: str, facts: BoardFacts) -> Deployment:
    """This machine: our own Python and engine; the runner is the file that a board gets."""
    version, problem = engine_version(transport, this_python(), engine, None)
    if version is None:
        raise BoardUnfit(f"local: {engine} does not start here ({problem}): pip install {engine}")
    _make_folder(transport, facts)
    return Deployment(
        folder=facts.folder,
        python=sys.executable,
        runner_path=_put_runner(transport, facts)[0],
        lock_path=f"{facts.folder}/lock",
        pythonpath=None,
        engine=engine,
        engine_version=version,
        facts=facts,
        uploaded_bytes=0,
    )


def this_python() -> BoardPython:
    """The Python we run on, which is also the one a local board uses."""
    bits = 64 if sys.maxsize > 2**32 else 32
    return BoardPython(sys.executable, sys.version_info[:3], sys.implementation.name, "", "", bits, "")


def fit_python(facts: BoardFacts, *, board: str) -> BoardPython:
    """The Python to use.

    Raises:
        BoardUnfit: it is no Linux, or has no CPython 3.9 or newer.
    """
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if facts.system != "Linux":
        raise BoardUnfit(
            f"{board}: the board runs {facts.system or 'an unknown system'}: only Linux boards can be profiled"
        )
    if facts.python is None:
        found = ", ".join(
            f"{p.implementation} {'.'.join(map(str, p.version))} at {p.executable}" for p in facts.pythons
        )
        raise BoardUnfit(
            f"{board}: the board has no CPython {oldest} or newer{f' (only {found})' if found else ''}: install one "
            "there, e.g. sudo apt install python3"
        )
    return facts.python


def require_wheel_fit(facts: BoardFacts, python: BoardPython, engine: str, *, board: str) -> None:
    """Tells what no wheel can mend, before any is looked for.

    Raises:
        BoardUnfit: 32-bit programs, or no glibc, or one older than any wheel's.
    """
    way_out = f"or install {engine} for {python.executable} there yourself"
    if python.bits != 64 or facts.bits == 32:
        kernel = " on a 64-bit kernel" if facts.machine in ("aarch64", "x86_64") else ""
        raise BoardUnfit(f"{board}: the board runs 32-bit programs{kernel}: install a 64-bit system, {way_out}")
    if facts.libc != "glibc":
        libc = f"{facts.libc} {facts.libc_version}".strip() or "an unknown C library"
        raise BoardUnfit(
            f"{board}: the board has {libc}, but {engine} is built for glibc: use a system with glibc, {way_out}"
        )
    if not wheels.platform_tags(python.machine, wheels.glibc_minor(facts)):
        raise BoardUnfit(
            f"{board}: the board's glibc {facts.libc_version} is older than 2.17: update its system, {way_out}"
        )


def _make_folder(transport: Transport, facts: BoardFacts) -> None:
    if not facts.folder.startswith("/"):
        raise BoardUnfit(f"{transport.name}: the account on the board has no home folder: give it one")
    done = transport.run(["mkdir", "-p", facts.folder], timeout_s=_IMPORT_TIMEOUT_S)
    if done.exit_status != 0:
        reason = one_line(done.stderr.decode("utf-8", "replace"))
        raise BoardUnfit(
            f"{transport.name}: cannot make {facts.folder} on the board ({reason}): let the account write there"
        )


def _put_runner(transport: Transport, facts: BoardFacts) -> tuple[str, int]:
    """Sends the runner, unless it is there: (its path, bytes sent)."""
    content = runner_bundle()
    path = f"{facts.folder}/runner-{_digest(content)}.pyz"
    if transport.exists(path):
        return path, 0
    transport.put(content, path)
    return path, len(content)


def engine_version(
    transport: Transport, python: BoardPython, engine: str, pythonpath: str | None
) -> tuple[str | None, str]:
    """Starts the engine once: (its version, "") or (None, why not)."""
    env = ["env", "PYTHONDONTWRITEBYTECODE=1", *([f"PYTHONPATH={pythonpath}"] if pythonpath else [])]
    done = transport.run([*env, python.executable, "-c", _CHECKS[engine]], timeout_s=_IMPORT_TIMEOUT_S)
    version = answers(done.stdout.decode("utf-8", "replace")).get("version")
    if done.exit_status == 0 and version:
        return version[0], ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return None, one_line(lines[-1]) if lines else f"exit status {done.exit_status}"


def _upload_engine(
    transport: Transport, facts: BoardFacts, python: BoardPython, engine: str, wheel_cache: Path | None
) -> tuple[int, str]:
    """Sends the wheels the engine needs and unpacks them into one folder, unless it is there: (bytes sent, folder)."""
    cache = wheel_cache if wheel_cache is not None else platformdirs.user_cache_path("lightnas-wheels")
    files = [
        wheels.fetch(name, wheels.version_for(name, python), python, facts, cache, board=transport.name)
        for name in _WHEELS[engine]
    ]
    contents = [file.read_bytes() for file in files]
    size = sum(map(len, contents))
    target = f"{facts.folder}/{engine}-{wheels.version_for(engine, python)}-{_digest(b''.join(contents))}"
    if transport.exists(target):
        return 0, target
    needed = size + sum(map(_unpacked_bytes, files)) + _SPARE_BYTES
    if 0 < facts.disk_free_bytes < needed:
        raise BoardUnfit(
            f"{transport.name}: {engine} needs {needed / 2**20:.0f} MiB in {facts.folder}, but only "
            f"{facts.disk_free_bytes / 2**20:.0f} MiB are free: make room on the board"
        )
    sent = [f"{target}.{name}.whl" for name in _WHEELS[engine]]
    for content, path in zip(contents, sent, strict=True):
        transport.put(content, path)
    said = ask(transport, _UNPACK, python.executable, target, *sent, timeout_s=_UNPACK_TIMEOUT_S)
    if "done" not in answers(said):
        raise BoardUnfit(f"{transport.name}: cannot unpack {engine} into {target}: is the board's disk full?")
    return size, target


def _unpacked_bytes(wheel: Path) -> int:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        raise LatencyError(f"{wheel} is not a wheel (an interrupted download?): delete it") from None


def clean(transport: Transport) -> Removed:
    """Removes our folder from a board.

    Raises:
        BoardBusy: a profiler is using it.
        LatencyError: something in it could not be removed.
    """
    folder = probe(transport).folder
    if not folder.startswith("/"):
        return Removed(folder, 0, 0)
    told = {key: values[0] for key, values in answers(ask(transport, _CLEAN, folder)).items()}
    if "busy" in told:
        raise BoardBusy(
            f"{transport.name}: a profiler is running on the board: wait for it or stop it, then clean again"
        )
    if "left" in told:
        raise LatencyError(f"{transport.name}: {folder} could not be removed whole: log in and look at its permissions")
    return Removed(folder, number(told.get("files", "")), number(told.get("kib", "")) * 1024)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
