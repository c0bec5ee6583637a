"""The doctor: what is well is said so, what is broken is found and its mend told; exit status 1 then."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.migrations import HEAD
from api.operations.doctor import (
    Finding,
    check_boards,
    check_data,
    check_database,
    check_engine,
    check_gpu,
    check_home,
    check_jobs,
    check_python,
    check_ray,
    check_server,
    check_workers,
    examine,
    examine_worker,
)
from api.settings import Settings
from api.store import Store
from api.store.models import jobs, workers
from latency.board import Board

Nas = Callable[..., tuple[int, str, str]]


def only(found: Iterator[Finding]) -> Finding:
    (finding,) = found
    return finding


def age(store: Store, **columns: dt.timedelta) -> None:
    with store.database.write() as c:
        moment = store.database.now(c)
        c.execute(sa.update(jobs).values({name: moment - by for name, by in columns.items()}))


def test_this_machine() -> None:
    for check in (check_python, check_gpu, check_ray):
        finding = only(check())
        assert finding.health in ("ok", "warning")
        assert finding.text


@pytest.mark.parametrize("engine", ["ncnn", "onnxruntime"])
def test_an_engine_runs_a_network(engine: str) -> None:
    finding = only(check_engine(engine))
    assert finding.health == "ok"
    assert "runs a network" in finding.text


def test_an_engine_that_is_missing() -> None:
    finding = only(check_engine("tflite_of_nowhere"))
    assert (finding.health, finding.mend) == ("broken", "pip install tflite_of_nowhere")


def test_the_home(tmp_path: Path) -> None:
    assert only(check_home(tmp_path / "new")).health in ("ok", "warning")
    finding = only(check_home(Path("/proc/1")))
    assert (finding.health, "LIGHTNAS_HOME" in finding.mend) == ("broken", True)


def test_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path)
    assert "LIGHTNAS_DATA_ROOT" in only(check_data(settings)).mend
    (tmp_path / "elsewhere" / "one").mkdir(parents=True)
    monkeypatch.setenv("LIGHTNAS_DATA_ROOT", str(tmp_path / "elsewhere"))
    finding = only(check_data(settings))
    assert (finding.health, "1 data set" in finding.text) == ("ok", True)


def test_the_database(store: Store) -> None:
    finding = only(check_database(store))
    assert HEAD in finding.text
    if store.database.is_sqlite:
        assert finding.health == "ok"
    else:  # the server of the tests runs without fsync
        assert (finding.health, "fsync" in finding.mend) == ("warning", True)
    with store.database.write() as c:
        c.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    finding = only(check_database(store))
    assert (finding.health, "nas db upgrade" in finding.mend) == ("broken", True)


def test_a_database_that_is_away_ends_nothing(tmp_path: Path) -> None:
    settings = Settings(tmp_path, "postgresql+psycopg://u:hunter2@127.0.0.1:1/nas")
    found = {f.check: f for f in examine(settings)}
    assert "cannot be reached" in found["database"].text
    assert "hunter2" not in found["database"].text
    assert {"python", "gpu", "ncnn", "onnxruntime", "ray", "home", "data"} < {*found}
    assert "workers" not in found
    assert only(examine_worker(settings)).health == "broken"


def test_jobs_that_wait_for_nobody(store: Store) -> None:
    assert only(check_workers(store)).health == "ok"
    store.jobs.create("profile", {})
    finding = only(check_workers(store))
    assert (finding.health, "nas worker" in finding.mend) == ("broken", True)
    store.workers.seen("w", host="h", pid=1, capacity=2, executor="processes")
    finding = only(check_workers(store))
    assert (finding.health, "w (2 jobs, processes)" in finding.text) == ("ok", True)
    with store.database.write() as c:
        c.execute(sa.update(workers).values(seen_at=store.database.now(c) - dt.timedelta(hours=1)))
    assert only(check_workers(store)).health == "broken"


def test_jobs_that_are_stuck_or_kill_their_workers(store: Store) -> None:
    assert only(check_jobs(store)).health == "ok"
    job = store.jobs.create("profile", {})
    assert store.jobs.claim("w", 30) is not None
    assert only(check_jobs(store)).health == "ok"
    age(store, lease_until=dt.timedelta(seconds=30))
    assert only(check_jobs(store)).health == "ok"  # some worker is about to take it
    age(store, lease_until=dt.timedelta(minutes=10))
    finding = only(check_jobs(store))
    assert (finding.health, f"job {job.id} lost" in finding.text) == ("broken", True)
    with store.database.write() as c:
        c.execute(sa.update(jobs).values(attempts=4, state="queued"))
    finding = only(check_jobs(store))
    assert (finding.health, f"job {job.id} died" in finding.text) == ("warning", True)


def test_the_worker_of_this_machine(store: Store) -> None:
    assert only(examine_worker(store.settings)).health == "broken"
    facts = {"pid": 1, "capacity": 1, "executor": "processes"}
    store.workers.seen("far", host="elsewhere", **facts)
    assert only(examine_worker(store.settings)).health == "broken"
    store.workers.seen("near", host=os.uname().nodename, **facts)
    assert only(examine_worker(store.settings)).health == "ok"


@pytest.fixture
def answering() -> Iterator[Callable[[int], str]]:
    """A server that gives /readyz a status; its URL."""
    servers = []

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/nas/readyz" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/nas/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server(answering: Callable[[int], str]) -> None:
    assert only(check_server(answering(200))).health == "ok"
    assert "503" in only(check_server(answering(503))).text
    for url in ("http://127.0.0.1:1", "nonsense", "http://[broken"):
        assert only(check_server(url)).health == "broken"


def test_the_server_of_the_environment(
    nas: Nas, answering: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNAS_SERVER", url := answering(503))
    status, out, _ = nas("doctor", "--json")
    (told,) = [f for f in json.loads(out)["findings"] if f["check"] == "server"]
    assert (status, told["health"], url.rstrip("/") in told["text"]) == (1, "broken", True)


def test_the_command_line(nas: Nas, home: Path) -> None:
    (home / "data").mkdir(parents=True)
    status, out, _ = nas("doctor")
    assert status == 0
    assert "made by the first command" in out
    assert all(line.split()[0] in ("ok", "warning") for line in out.splitlines())
    status, out, _ = nas("doctor", "--worker")
    assert status == 1
    assert "nas db upgrade" in out
    assert nas("db", "upgrade")[0] == 0
    status, out, _ = nas("doctor", "--worker", "--json")
    assert status == 1
    assert json.loads(out)["findings"] == [
        {
            "check": "worker",
            "health": "broken",
            "text": f"none on {os.uname().nodename} lives",
            "mend": "start one: nas worker; its log says why it ended",
        }
    ]


def test_boards_are_reached(tmp_path: Path) -> None:
    with Store.open(Settings(tmp_path)) as store:
        store.boards.add(Board("here", "local"))
        store.boards.add(Board("gone", "nobody@127.0.0.1:1"))
        found = {f.check: f.health for f in check_boards(store)}
    assert found == {"board here": "ok", "board gone": "broken"}
