from __future__ import annotations

import asyncio
import datetime as dt
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI, Request, Response
from processes import wait_for

from api import compose
from api.app import create_app
from api.auth import Role
from api.client import Client, LeasedTrial, ServerError
from api.client.client import find_token
from api.commands.watch import Screen
from api.errors import OptionError
from api.jobs.context import JobContext
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.rest.stream import EventHub, Listener
from api.rest.turnstile import Turnstile
from api.results.artifacts import ArtifactStore
from api.schemas.events import EventOut
from api.schemas.jobs import ExportRequest
from api.schemas.searches import SearchOut, SearchRequest
from api.schemas.spaces import Budgets, FeasibilityRequest, PriceRequest
from api.schemas.tokens import TokenRequest
from api.service import Service
from api.settings import ServeSettings, Settings
from api.store import Store
from api.store.models import evaluations, now
from api.submit.steer import delete_search
from api.worker.child import run_job
from nas.evaluator import Architecture
from nas.evaluators import build_evaluator
from nas.executor import Task
from nas.rungs import Stop
from nas.search import SearchEvent, TrialEnded, TrialStarted, TrialStep
from nas.spaces import build_space
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial, TrialState

ROOT = Path(__file__).parents[3]
SPACE = build_space("nas-bench-macro")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The databases differ in what lies behind the routes, which has tests of its own."""
    return Settings(tmp_path / "home")


class Served:
    """A real server in this process, which can be stopped and started again at its address."""

    def __init__(self, app: FastAPI) -> None:
        self.app, self.port, self._server, self._thread = app, 0, None, None
        self._server: uvicorn.Server | None
        self._thread: threading.Thread | None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(self.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        self._thread.start()
        wait_for(lambda: server.started)

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(60)
            self._server = None


@contextmanager
def serving(app: FastAPI) -> Iterator[Served]:
    served = Served(app)
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture
def served(store: Store, tmp_path: Path) -> Iterator[Served]:
    serve = ServeSettings(tmp_path / "data", rate_per_minute=100_000)
    with serving(create_app(Service(store, serve))) as found:
        yield found


@pytest.fixture
def client(served: Served, store: Store) -> Iterator[Client]:
    _, token = store.tokens.create("alice", Role.ADMIN)
    with Client(served.url, token) as made:
        yield made


@pytest.fixture
def work(store: Store) -> Iterator[Callable[[], threading.Thread]]:
    """Runs the oldest queued job, as a worker's process does, in a thread."""
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def start() -> threading.Thread:
        claim = store.jobs.claim("worker", 600)
        assert claim is not None
        context = JobContext(store, claim.job, claim.fence, stopping.is_set)
        threads.append(threading.Thread(target=run_job, args=(context,)))
        threads[-1].start()
        return threads[-1]

    yield start
    stopping.set()
    for thread in threads:
        thread.join(60)


def _submit(client: Client, **more: Any) -> SearchOut:
    given = {"space": "nas-bench-macro", "evaluator": "remote", "strategy": "annealing", "trials": 10, **more}
    return client.submit(SearchRequest.model_validate(given))


def _look_up(table: Path) -> Callable[[LeasedTrial], float]:
    evaluator = build_evaluator("table", {"path": str(table)})

    def evaluate(trial: LeasedTrial) -> float:
        architecture = Architecture(SPACE, trial.encoding)
        return evaluator.evaluate(architecture, seed=trial.seed, workdir=Path(), report=lambda _: None).accuracy

    return evaluate


def _trials(store: Store, search: int) -> list[Trial]:
    return list(store.searches.log(search).load())


def test_the_loop_makes_the_trials_of_a_search_here(
    client: Client, store: Store, work: Callable[[], threading.Thread], benchmark_table: Path
) -> None:
    search = _submit(client, name="mine", trials=12, parallel=2)
    worker = work()
    evaluate = _look_up(benchmark_table)

    def loop() -> None:
        for trial in client.trials("mine"):
            with trial:
                assert trial.graph == SPACE.graph(trial.encoding)
                trial.tell(evaluate(trial), {"column": "x"})

    loops = [threading.Thread(target=loop) for _ in range(2)]
    for thread in loops:
        thread.start()
    for thread in [*loops, worker]:
        thread.join(120)
        assert not thread.is_alive()
    assert client.search("mine").state == "complete"

    options = {"path": str(benchmark_table)}
    spec = SearchSpec(
        SpaceSpec.of("nas-bench-macro"),
        evaluator="table",
        evaluator_options=options,
        strategy="annealing",
        trials=12,
        parallel=2,
    )
    here = compose.create_search(store, build_plan(spec, None), board=None)
    compose.run_search(store, here)
    facts = [[(t.encoding, t.state, t.accuracy, t.reward) for t in _trials(store, n)] for n in (search.id, here.id)]
    assert facts[0] == facts[1]


def test_a_lost_clients_trial_is_made_by_another_one_and_told_once(
    client: Client, store: Store, work: Callable[[], threading.Thread]
) -> None:
    search = _submit(client, trials=1)
    worker = work()
    (lost,) = wait_for(lambda: client.ask(search.id, wait_s=30))
    lost.let_go()  # as if its machine had gone
    with store.database.write() as c:
        past = store.database.now(c) - dt.timedelta(seconds=1)
        c.execute(sa.update(evaluations).values(lease_until=past))
    for trial in client.trials(search.id):
        assert (trial.number, trial.attempt) == (0, 2)
        with trial:
            assert lost.tell(0.9) is False
            assert lost.lost
            with pytest.raises(Stop):
                lost.report(1, {"val_accuracy": 0.9})
            assert trial.tell(0.5) is True
            assert trial.tell(0.6) is True  # again: nothing changes
    worker.join(60)
    (trial,) = _trials(store, search.id)
    assert (trial.state, trial.accuracy) == (TrialState.COMPLETE, 0.5)


def test_heartbeats_keep_a_trial(client: Client, store: Store, work: Callable[[], threading.Thread]) -> None:
    search = _submit(client, trials=1, evaluator_options={"lease_s": 5})
    work()
    (trial,) = wait_for(lambda: client.ask(search.id, wait_s=30))

    def until() -> dt.datetime:
        with store.database.read() as c:
            found: dt.datetime = c.execute(sa.select(evaluations.c.lease_until)).scalar_one()
        return found

    first = until()
    wait_for(lambda: until() > first)
    trial.let_go()


def test_rungs_failures_and_forgetfulness_end_a_trial_and_the_loop_goes_on(
    client: Client, store: Store, work: Callable[[], threading.Thread]
) -> None:
    search = _submit(client, trials=6, rungs=[1], eta=2, evaluator_options={"steps": 2})
    worker = work()
    for trial in client.trials(search.id):
        with trial:
            if trial.number == 2:
                trial.report(1, {"val_accuracy": 0.1, "loss": float("nan")}, steps=2)
                raise AssertionError("the trial has ended")
            trial.report(1, {"val_accuracy": 0.5}, steps=2)
            if trial.number == 3:
                raise ValueError("no\nmemory for caf\udce9.png")
            if trial.number == 4:
                trial.tell(float("nan"))
            elif trial.number < 2:
                trial.tell(0.5 + trial.number / 10, {"epochs": 2})
    worker.join(60)
    made = _trials(store, search.id)
    states = [t.state.value for t in made]
    assert states == ["complete", "complete", "pruned", "failed", "failed", "failed"]
    assert made[1].extras == {"epochs": 2, "rungs": {"1": 0.5}}
    assert (made[2].accuracy, made[2].pruned_at) == (0.1, 1)
    assert [t.error for t in made[3:]] == [
        "ValueError: no memory for caf?.png",
        "the accuracy is nan",
        "its evaluator told no accuracy",
    ]


def test_what_the_server_refuses_fails_the_trial_and_the_loop_goes_on(
    client: Client, store: Store, work: Callable[[], threading.Thread]
) -> None:
    search = _submit(client, trials=4, rungs=[1], evaluator_options={"steps": 2})
    worker = work()
    for trial in client.trials(search.id):
        with trial:
            # A rung needs a number, and what is not finite is left out.
            trial.report(1, {"val_accuracy": float("nan") if trial.number == 0 else 0.5}, steps=2)
            trial.tell(0.5, {"notes": "x" * {1: 70_000, 2: 3_000_000}.get(trial.number, 1)})
    worker.join(60)
    made = _trials(store, search.id)
    assert [t.state.value for t in made] == ["failed", "failed", "failed", "complete"]
    for trial, why in zip(made, ("did not report val_accuracy", "extras are longer", "bytes long"), strict=False):
        assert why in (trial.error or "")


@pytest.mark.parametrize("status", [None, 401, 403, 429, 503])
def test_a_server_that_is_away_or_lets_nobody_in_ends_the_loop(
    client: Client, store: Store, status: int | None
) -> None:
    search = _submit(client, trials=1).id
    store.evaluations.put(search, Task(0, (0,) * 8, 7, Path()), attempts=3, lease_s=60)
    (trial,) = client.ask(search)
    with pytest.raises(ServerError, match="no"), trial:
        raise ServerError("no", status)
    assert [s.outcome for s in store.evaluations.standing(search, [0])] == [None]


def test_a_client_that_is_gone_is_leased_nothing(client: Client, served: Served, store: Store) -> None:
    search = _submit(client, trials=1).id
    path, body = f"/api/v1/searches/{search}/ask", b'{"wait_s": 30}'
    headers = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {_token(client)}",
        "Content-Type": "application/json",
        "Idempotency-Key": "mine",
    }
    head = "\r\n".join([f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())])
    waiting = Turnstile.of(served.app)._gates
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as link:
        link.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for(lambda: waiting)
    store.evaluations.put(search, Task(0, (0,) * 8, 7, Path()), attempts=1, lease_s=60)
    wait_for(lambda: not waiting)
    assert store.evaluations.waiting(search) == 1
    answer = httpx.post(served.url + path, content=body, headers=headers, timeout=300)
    assert [(lease["number"], lease["attempt"]) for lease in answer.json()["leases"]] == [(0, 1)]
    assert "Idempotency-Replayed" not in answer.headers


def test_a_failed_trial_is_evaluated_again_when_it_is_retried(
    client: Client, store: Store, work: Callable[[], threading.Thread]
) -> None:
    search = _submit(client, trials=1)
    worker = work()
    for trial in client.trials(search.id):
        trial.fail("no memory")
    worker.join(60)
    assert client.search(search.id).state == "failed"
    client.retry(search.id)
    worker = work()
    for trial in client.trials(search.id):
        trial.tell(0.5)
    worker.join(60)
    assert [t.accuracy for t in _trials(store, search.id)] == [0.5]


def test_a_server_that_is_away_is_waited_for(
    client: Client, served: Served, store: Store, work: Callable[[], threading.Thread]
) -> None:
    search = _submit(client, trials=2)
    worker = work()
    for trial in client.trials(search.id):
        with trial:
            served.stop()
            threading.Timer(1.0, served.start).start()
            trial.tell(0.5)
    worker.join(60)
    assert [t.accuracy for t in _trials(store, search.id)] == [0.5, 0.5]


def test_a_busy_server_is_asked_again_with_the_same_key() -> None:
    app, keys = FastAPI(), list[str]()

    @app.post("/api/v1/tokens/")
    @app.post("/api/v1/tokens")
    def make(request: Request) -> Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) < 3:
            return Response('{"detail": "busy"}', 503, {"Retry-After": "1"}, "application/problem+json")
        return Response('{"detail": "taken by\\nanother"}', 409, media_type="application/problem+json")

    with serving(app) as server, Client(server.url, None) as client:
        began = time.monotonic()
        with pytest.raises(ServerError, match=r"^taken by another$") as refused:
            client.make_token(TokenRequest(user="bob"))
        assert refused.value.status == 409
        assert time.monotonic() - began >= 2
        assert len(keys) == 3
        assert len(set(keys)) == 1
        with pytest.raises(ServerError, match=r"^taken by another$"):
            client.make_token(TokenRequest(user="bob"))
        assert len(set(keys)) == 2


def test_a_busy_server_is_not_asked_for_ever() -> None:
    app = FastAPI()
    app.get("/api/v1/me")(lambda: Response('{"detail": "busy"}', 503, media_type="application/problem+json"))
    with serving(app) as server, Client(server.url, None, patience_s=1) as client:
        with pytest.raises(ServerError, match=r"^busy$"):
            client.me()
        server.stop()
        with pytest.raises(ServerError, match=r"cannot be reached .*; is `nas serve` running there\?"):
            client.me()


def test_events_come_once_and_in_order_whatever_happens_to_the_server(
    client: Client, served: Served, store: Store
) -> None:
    for n in range(5):
        store.events.add("test", {"n": n})
    found = []
    for event in client.events(after=0):
        found.append(event.data["n"])
        if len(found) == 5:
            served.stop()
            for n in range(5, 8):
                store.events.add("test", {"n": n})
            served.start()
        if len(found) == 8:
            break
    assert found == list(range(8))


def test_searches_by_number_and_by_name_and_all_of_their_pages(client: Client, store: Store) -> None:
    import api.client.client as module

    search = _submit(client, name="mine", trials=700)
    assert client.search(search.id) == client.search("mine") == client.search(str(search.id)) == search
    with pytest.raises(ServerError, match="has no search 'yours'"):
        client.search("yours")
    log = store.searches.log(search.id)
    for number in range(module._PAGE + 20):
        log.started(Trial(number, (0,) * 8))
    assert [t.number for t in client.list_trials("mine")] == list(range(module._PAGE + 20))
    log.finished(Trial(3, (0,) * 8).complete(0.5, 0.5, 1.0, {"epochs": 2}))
    assert client.trial("mine", 3).extras == {"epochs": 2}
    assert [t.number for t in client.list_trials("mine", order="reward")] == [3]
    assert client.architecture("mine", 3).totals.flops == SPACE.graph([0] * 8).flops
    assert client.onnx("mine", 3)[:2] == b"\x08\x08"
    assert client.front("mine", "flops", [1e9]).answers[0].best is not None
    assert [s.name for s in client.searches(state="queued")] == ["mine"]


def test_events_of_a_search_end_with_it(client: Client) -> None:
    search = _submit(client).id
    client.cancel(search)
    heard: list[str] = []

    def listen() -> None:
        deleted = False
        for event in client.stream(search):
            if event is None and not deleted:  # later ones are signs of life
                client.delete(search)
                deleted = True
            elif event is None:
                continue
            else:
                heard.append(event.kind)

    with pytest.raises(ServerError, match=f"no search {search}"):
        listen()
    assert heard == ["search.deleted"]


def test_a_search_that_is_deleted_while_its_stream_begins_ends_it(
    client: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, other = _submit(client).id, _submit(client).id
    for number in (search, other):
        client.cancel(number)
    join = EventHub._join

    async def join_late(hub: EventHub, listener: Listener) -> None:
        for number in (other, search):
            await asyncio.to_thread(delete_search, store, store.searches.by_id(number))
        await join(hub, listener)

    monkeypatch.setattr(EventHub, "_join", join_late)
    heard: list[int] = []
    with pytest.raises(ServerError, match=f"no search {search}"):
        heard.extend(event.data["search_id"] for event in client.events(search))
    assert heard == [search]


def test_late_steps_begin_no_trial_again(client: Client, store: Store) -> None:
    search = _submit(client).id
    ended = Trial(0, (0,) * 8).complete(0.5, 0.5, 1.0, {"flops": 1.0, "params": 1.0})
    log = store.searches.log(search)
    log.started(Trial(0, (0,) * 8))
    log.finished(ended)
    store.events.add_steps(search, [(0, {"step": 1, "steps": 2, "metrics": {}})])
    drawn: list[SearchEvent] = []
    screen = Screen(client, search, drawn.append)  # type: ignore[arg-type]
    for event in client.events(search, after=0):
        screen.hear(event)
        if event.kind == "trial.step":
            break
    assert [type(event) for event in drawn] == [TrialStarted, TrialEnded]
    again = EventOut(id=9, kind="trial.started", search_id=search, job_id=None, trial=0, data={}, created_at=now())
    for kind in ("trial.started", "trial.step"):  # it had failed, and is made anew
        data = {"step": 1, "steps": 2, "metrics": {}} if kind == "trial.step" else {}
        screen.hear(again.model_copy(update={"kind": kind, "data": data}))
    assert [type(event) for event in drawn[2:]] == [TrialStarted, TrialStep]


def test_steering(client: Client, store: Store) -> None:
    search = _submit(client, name="mine")
    assert client.pause("mine").state == "paused"
    assert client.resume("mine", trials=20).wanted == 20
    with pytest.raises(ServerError, match=r"no failed trial|queued"):
        client.retry("mine")
    assert client.cancel(search.id).state == "cancelled"
    job = next(client.jobs(kind="search"))
    assert client.job(job.id).state == "cancelled"
    client.delete("mine")
    assert list(client.searches()) == []


def test_spaces_boards_tables_and_tokens(client: Client) -> None:
    assert "nas-bench-macro" in [s.space for s in client.spaces()]
    assert client.space("nas-bench-macro").digest == SPACE.digest
    encoding = "0,1,2,0,1,2,0,1"
    (price,) = client.price("nas-bench-macro", PriceRequest(encodings=[encoding]))
    assert price.flops == SPACE.graph(SPACE.parse(encoding)).flops
    budgets = Budgets(flops=30e6)
    assert 0 < client.feasibility("nas-bench-macro", FeasibilityRequest(budgets=budgets)).share.about < 1
    assert list(client.boards()) == []
    assert list(client.tables()) == []
    assert client.me().user == "alice"
    made = client.make_token(TokenRequest(user="bob", role=Role.READ))
    assert {t.user for t in client.tokens()} == {"alice", "bob"}
    with Client(client.url, made.token) as bob, pytest.raises(ServerError, match="needs a token of role") as refused:
        bob.make_token(TokenRequest(user="eve"))
    assert refused.value.status == 403
    client.revoke_token(made.id)
    with Client(client.url, made.token) as bob, pytest.raises(ServerError, match="give a token in LIGHTNAS_TOKEN"):
        bob.me()


def test_artifacts_arrive_whole(client: Client, store: Store, tmp_path: Path) -> None:
    search = _submit(client, name="mine")
    client.cancel("mine")
    job = store.jobs.create("export", {}, owner="alice", search_id=search.id)
    claim = store.jobs.claim("worker", 600)
    assert claim is not None
    (tmp_path / "made").write_bytes(b"x" * 100_000)
    ArtifactStore(store).keep(claim.fence, tmp_path / "made", "model/a.onnx", "application/octet-stream")
    (artifact,) = client.artifacts(search="mine")
    assert list(client.artifacts(job=job.id)) == [artifact]
    client.download(artifact, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"x" * 100_000
    broken = artifact.model_copy(update={"sha256": "0" * 64})
    client.patience_s = 0.1
    with pytest.raises(ServerError, match="arrived broken"):
        client.download(broken, tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir() if "got" in p.name or "other" in p.name) == ["got"]
    with pytest.raises(ServerError):
        client.export(ExportRequest(search="mine"))


def test_urls_and_tokens_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("", "127.0.0.1:8080", "ftp://x", "http://", "http://me:secret@x", "http://x/?a=b", "http://[::"):
        with pytest.raises(OptionError, match="server"):
            Client(url, None)
    with pytest.raises(OptionError, match="the token is none of lightnas"):
        Client("http://x", "nas_short")
    monkeypatch.setenv("LIGHTNAS_HOME", str(tmp_path))
    monkeypatch.delenv("LIGHTNAS_TOKEN", raising=False)
    assert find_token("http://127.0.0.1:8080") is None
    (tmp_path / "token").write_text("from the file\n")
    assert find_token("http://127.0.0.1:8080") == find_token("http://localhost") == "from the file"
    assert find_token("https://nas.example.org") is None  # nobody else is sent this machine's token
    monkeypatch.setenv("LIGHTNAS_TOKEN", "given")
    assert find_token("https://nas.example.org") == find_token("http://[::1]:1") == "given"


def test_the_example_tells_a_refusal_in_one_line(client: Client) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "remote_digits.py"), client.url, "none"],
        env={**os.environ, "LIGHTNAS_TOKEN": _token(client), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (run.returncode, run.stderr.count("\n")) == (2, 1), run.stderr
    assert "has no search 'none'" in run.stderr


def _token(client: Client) -> str:
    return client._transport.http.headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_example_trains_with_plain_torch(
    client: Client, store: Store, work: Callable[[], threading.Thread]
) -> None:
    search = _submit(
        client,
        space="mobilenetv2-small",
        resolution=[16],
        channels=1,
        classes=10,
        trials=3,
        rungs=[1],
        evaluator_options={"steps": 3},
    )
    worker = work()
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "remote_digits.py"), client.url, str(search.id)],
        env={**os.environ, "LIGHTNAS_TOKEN": _token(client), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert run.returncode == 0, run.stderr
    worker.join(120)
    made = _trials(store, search.id)
    assert [t.state for t in made] == [TrialState.COMPLETE] * 3
    assert all(0.5 < (t.accuracy or 0) <= 1 for t in made)
    assert all(t.extras["rungs"] for t in made)
