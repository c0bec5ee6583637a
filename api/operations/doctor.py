"""What `nas doctor` looks at: each check tells in one line how something is, and how to mend it."""

from __future__ import annotations

import datetime as dt
import errno
import importlib.util
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path

import sqlalchemy as sa

from api.migrations import HEAD
from api.settings import ServeSettings, Settings
from api.store import Store
from api.store.models import jobs
from latency.board import Board
from nas.errors import LightnasError

_TIGHT_BYTES, _FULL_BYTES = 5 << 30, 256 << 20
_STUCK = dt.timedelta(minutes=2)  # a claim this long past its end: a living worker would have taken it
_DEATHS = 3
_SLOW_MS = 50.0


class Health(StrEnum):
    """How something is."""

    OK = "ok"
    WARNING = "warning"  # works, but may bite
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        check: what was looked at.
        health: how it is.
        text: what was found.
        mend: what to do; empty where there is nothing to mend.
    """

    check: str
    health: Health
    text: str
    mend: str = ""


def _ok(check: str, text: str) -> Finding:
    return Finding(check, Health.OK, text)


def _warn(check: str, text: str, mend: str) -> Finding:
    return Finding(check, Health.WARNING, text, mend)


def _broken(check: str, text: str, mend: str) -> Finding:
    return Finding(check, Health.BROKEN, text, mend)


def examine(settings: Settings, *, boards: bool = False, server: str | None = None) -> Iterator[Finding]:
    """Look at everything, one thing after the other; whatever goes wrong becomes a finding.

    Args:
        settings: where things are kept.
        boards: whether to reach every board.
        server: a service's URL to ask, too.
    """
    yield from _guarded("python", check_python)
    yield from _guarded("gpu", check_gpu)
    for engine in ("ncnn", "onnxruntime"):
        yield from _guarded(engine, partial(check_engine, engine))
    yield from _guarded("ray", check_ray)
    yield from _guarded("home", partial(check_home, settings.home))
    yield from _guarded("data", partial(check_data, settings))
    yield from _guarded("database", partial(_check_store, settings, boards=boards))
    if server is not None:
        yield from _guarded("server", partial(check_server, server))


def examine_worker(settings: Settings) -> Iterator[Finding]:
    """Only whether this machine's worker lives: what a container's health check asks."""

    def check() -> Iterator[Finding]:
        with Store(settings) as store:
            if (revision := store.database.revision()) != HEAD:
                yield _old(store, revision)
                return
            host = socket.gethostname()
            mine = [w for w in store.workers.alive() if w.host == host]
        if mine:
            yield _ok("worker", f"{', '.join(w.name for w in mine)} on {host}")
        else:
            yield _broken("worker", f"none on {host} lives", "start one: nas worker; its log says why it ended")

    yield from _guarded("worker", check)


def _guarded(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except LightnasError as e:
        yield _broken(check, str(e), "")  # our errors name the fix themselves
    except Exception as e:  # a doctor that falls over its first patient helps nobody
        yield _broken(check, f"{type(e).__name__}: {' '.join(str(e).split())}", "")


# This machine ---------------------------------------------------------------------------------------------------


def check_python() -> Iterator[Finding]:
    """Python, lightnas, and torch that computes."""
    import torch

    torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3))
    cores = len(os.sched_getaffinity(0))
    text = f"Python {platform.python_version()}, lightnas {version('lightnas')}, torch {torch.__version__}"
    yield _ok("python", f"{text}, {cores} core{'' if cores == 1 else 's'}")


def check_gpu() -> Iterator[Finding]:
    """GPUs that torch can use; one that it cannot is a warning."""
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            torch.ones(1, device=f"cuda:{i}").item()
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield _ok("gpu", ", ".join(names))
    elif Path("/dev/nvidia0").exists():
        yield _warn(
            "gpu",
            f"there is one, but torch {torch.__version__} cannot use it",
            "install torch's CUDA wheel, or mend the driver (nvidia-smi)",
        )
    else:
        yield _ok("gpu", "none; trainings use the CPU")


def check_engine(name: str) -> Iterator[Finding]:
    """An inference engine loads and runs a tiny network, in a process of its own as on a board."""
    from latency.deploy import deploy
    from latency.engines import get_engine
    from latency.errors import BoardBusy
    from latency.session import RunnerSession
    from latency.transport import LocalTransport
    from nas.graph import Graph

    if importlib.util.find_spec(name) is None:
        yield _broken(name, "not installed", f"pip install {name}")
        return
    graph = Graph((3, 8, 8))
    graph.linear(graph.global_pool(graph.conv(graph.input, 8, kernel=3, path="conv"), path="pool"), 2, path="fc")
    engine, board = get_engine(name), Board("here", "local", name)
    link = LocalTransport()
    try:
        with RunnerSession(link, deploy(link, name), board, engine) as session:
            session.load("tiny", engine.build(graph), timed=False)
            for _ in session.measure(["tiny"], runs=1, warm=0):
                pass
    except BoardBusy:
        yield _ok(name, f"{version(name)}; not tried: this machine is being measured")
        return
    yield _ok(name, f"{version(name)} runs a network")


def check_ray() -> Iterator[Finding]:
    """Ray, which is optional."""
    if importlib.util.find_spec("ray") is None:
        yield _ok("ray", "not installed; only --executor ray needs it: pip install 'lightnas[ray]'")
    else:
        yield _ok("ray", version("ray"))


def check_home(home: Path) -> Iterator[Finding]:
    """The home can be written and has room."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        mend = "make room" if e.errno == errno.ENOSPC else "mend its permissions, or set LIGHTNAS_HOME"
        yield _broken("home", f"{home}: {e.strerror}", mend)
        return
    free = shutil.disk_usage(home).free
    text = f"{home}, {free / 2**30:.1f} GiB free"
    if free < _FULL_BYTES:
        yield _broken("home", text, "make room: trainings and the database stop when the disk is full")
    elif free < _TIGHT_BYTES:
        yield _warn("home", text, "make room: checkpoints and exports go there")
    else:
        yield _ok("home", text)


def check_data(settings: Settings) -> Iterator[Finding]:
    """The folder whose data sets users of the service may name."""
    root = ServeSettings.from_env(settings).data_root
    if not root.is_dir():
        mend = f"mkdir -p {root}, or set LIGHTNAS_DATA_ROOT, if users shall search on data sets of their own"
        yield _warn("data", f"{root} is no folder", mend)
    elif not os.access(root, os.R_OK | os.X_OK):
        yield _broken("data", f"{root} cannot be read", "mend its permissions, or set LIGHTNAS_DATA_ROOT")
    else:
        with os.scandir(root) as entries:
            yield _ok("data", f"{root}, {sum(1 for _ in entries)} data sets")


# The store ------------------------------------------------------------------------------------------------------


def _check_store(settings: Settings, *, boards: bool) -> Iterator[Finding]:
    with Store(settings) as store:
        if store.database.path is not None and not store.database.path.exists():
            yield _ok("database", f"{store.database.label} is made by the first command that needs it")
            return
        found = list(check_database(store))
        yield from found
        if found[0].health is Health.BROKEN:
            return
        yield from _guarded("workers", partial(check_workers, store))
        yield from _guarded("jobs", partial(check_jobs, store))
        if boards:
            yield from check_boards(store)


def check_database(store: Store) -> Iterator[Finding]:
    """Reachable, of this program's revision, quick, and safe when the power goes."""
    database = store.database
    revision = database.revision()
    if revision != HEAD:
        yield _old(store, revision)
        return
    times = []
    with database.read() as c:
        for _ in range(5):
            began = time.perf_counter()
            c.execute(sa.text("SELECT 1"))
            times.append((time.perf_counter() - began) * 1e3)
        if database.is_sqlite:
            kind = f"SQLite {c.execute(sa.text('SELECT sqlite_version()')).scalar()}"
            safe = c.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
            mend = "move it to a file system with locks and shared memory (no NFS), or use PostgreSQL"
        else:
            kind = f"PostgreSQL {c.execute(sa.text('SHOW server_version')).scalar()}"
            safe = all(c.execute(sa.text(f"SHOW {n}")).scalar() != "off" for n in ("fsync", "synchronous_commit"))
            mend = "set fsync and synchronous_commit to on: without, a power cut loses or corrupts what was stored"
    median_ms = sorted(times)[2]
    text = f"{database.label}, {kind}, revision {revision}, {median_ms:.1f} ms a query"
    if not safe:
        yield _warn("database", f"{text}, {'no WAL' if database.is_sqlite else 'writes are not durable'}", mend)
    elif median_ms > _SLOW_MS:
        yield _warn("database", text, "a database this far away slows every request; move it nearer")
    else:
        yield _ok("database", text)


def _old(store: Store, revision: str | None) -> Finding:
    text = f"{store.database.label} has revision {revision or 'none'}, this program needs {HEAD}"
    return _broken("database", text, "back it up (nas db backup), then: nas db upgrade")


def check_workers(store: Store) -> Iterator[Finding]:
    """Somebody lives to do what waits."""
    alive = store.workers.alive()
    with store.database.read() as c:
        waiting = c.execute(sa.select(sa.func.count()).where(jobs.c.state == "queued")).scalar_one()
    if alive:
        names = ", ".join(f"{w.name} ({w.capacity} jobs, {w.executor})" for w in alive)
        yield _ok("workers", f"{names}; {waiting} jobs wait")
    elif waiting:
        yield _broken("workers", f"{waiting} jobs wait and no worker lives", "start one: nas worker, or nas serve")
    else:
        yield _ok("workers", "none lives, and no job waits")


def check_jobs(store: Store) -> Iterator[Finding]:
    """No job hangs where nobody works on it, or kills its workers."""
    with store.database.read() as c:
        lost = (jobs.c.state == "running") & (jobs.c.lease_until < store.database.now(c) - _STUCK)
        stuck = c.execute(sa.select(jobs.c.id).where(lost).order_by(jobs.c.id).limit(10)).scalars().all()
        deadly = (jobs.c.state.in_(("queued", "running"))) & (jobs.c.attempts >= _DEATHS)
        killers = c.execute(sa.select(jobs.c.id).where(deadly).order_by(jobs.c.id).limit(10)).scalars().all()
        oldest = c.execute(sa.select(sa.func.min(jobs.c.created_at)).where(jobs.c.state == "queued")).scalar()
    if stuck:
        yield _broken("jobs", f"{_numbers(stuck)} lost their worker and no other took them", "start one: nas worker")
    if killers:
        text = f"the processes of {_numbers(killers)} died {_DEATHS} times or more without progress"
        yield _warn("jobs", text, "read the worker's log; a process the kernel killed lacked memory (dmesg)")
    if not stuck and not killers:
        waits = "none waits" if oldest is None else f"the oldest waits since {oldest:%Y-%m-%d %H:%M} UTC"
        yield _ok("jobs", f"none is stuck; {waits}")


def check_boards(store: Store) -> Iterator[Finding]:
    """Every board answers, and its engine is there or can be sent."""
    for board in store.boards.all():
        yield from _guarded(f"board {board.name}", partial(_check_board, board))


def _check_board(board: Board) -> Iterator[Finding]:
    from latency.health import check
    from latency.reach import connect

    label = f"board {board.name}"
    with connect(board) as link:
        health = check(link, board)
    if health.problems:
        yield _broken(label, "; ".join(health.problems), f"nas boards check {board.name}")
    else:
        yield _ok(label, f"{health.model or board.address}, {health.engine} {health.engine_version or 'to be sent'}")


def _numbers(ids: Sequence[int]) -> str:
    return f"job{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


# A server -------------------------------------------------------------------------------------------------------


def check_server(url: str) -> Iterator[Finding]:
    """A service answers and is ready."""
    import httpx

    try:
        began = time.perf_counter()
        answer = httpx.get(f"{url.rstrip('/')}/readyz", timeout=10.0)
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        mend = "is it running, is the URL right, and does a proxy or firewall stand between?"
        yield _broken("server", f"{url} does not answer: {' '.join(str(e).split())}", mend)
        return
    took_ms = (time.perf_counter() - began) * 1e3
    if answer.status_code == 200:
        yield _ok("server", f"{url} is ready ({took_ms:.0f} ms)")
    else:
        yield _broken("server", f"{url}/readyz answers {answer.status_code}", "run nas doctor on the server's machine")
