from __future__ import annotations

import asyncio
import base64
import datetime as dt
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from api.plans.spec import SearchSpec
from api.rest.heavy import place
from api.routes import evaluations as routes
from api.store import Store
from api.store.models import evaluations
from nas.executor import Task
from nas.graph import Graph
from nas.spaces import build_space
from nas.spaces.recipe import SpaceSpec

Ask = Callable[..., httpx.Response]
SPACE = build_space("nas-bench-macro")


@pytest.fixture
def app(app: FastAPI) -> FastAPI:
    app.include_router(routes.router)
    return app


@pytest.fixture
def search(store: Store) -> int:
    """Alice's search with the evaluator remote, which a worker runs."""
    spec = SearchSpec(SpaceSpec.of("nas-bench-macro"), evaluator="remote")
    record = store.searches.create(
        spec.to_dict(), space="nas-bench-macro", space_digest=SPACE.digest, owner="alice", state="running"
    )
    return record.id


@pytest.fixture
def put(store: Store, search: int) -> Callable[..., None]:
    """The search offers trials."""

    def offer(*numbers: int, **rungs: float) -> None:
        below = {name.removeprefix("at"): limit for name, limit in rungs.items()}
        for number in numbers:
            task = Task(number, (0, 1, 2, 0, 1, 2, 0, number % 3), 7, Path(), below)
            store.evaluations.put(search, task, attempts=3, lease_s=60)

    return offer


def _lapse(store: Store) -> None:
    with store.database.write() as c:
        past = store.database.now(c) - dt.timedelta(seconds=1)
        leased = evaluations.c.state == "leased"
        c.execute(sa.update(evaluations).where(leased).values(lease_until=past))


def test_a_trial_from_ask_to_tell(store: Store, search: int, put: Callable[..., None], ask: Ask) -> None:
    put(0, 1, at2=0.9)
    answer = ask("POST", f"searches/{search}/ask", json={"count": 1, "client": "lab-3"})
    assert answer.status_code == 200
    assert answer.json()["finished"] is False
    (lease,) = answer.json()["leases"]
    encoding = [0, 1, 2, 0, 1, 2, 0, 0]
    facts = {"number": 0, "encoding": encoding, "seed": 7, "stop_below": {"2": 0.9}, "attempt": 1, "lease_s": 60.0}
    assert {name: lease[name] for name in facts} == facts
    assert Graph.from_dict(lease["graph"]) == SPACE.graph(encoding)
    assert lease["architecture"]["genes"] == SPACE.decode(encoding)
    assert sum(op["flops"] for op in lease["architecture"]["ops"]) == SPACE.graph(encoding).flops
    assert lease["onnx"] is None

    path, token = f"searches/{search}/evaluations/0", {"token": lease["token"]}
    assert ask("POST", f"{path}/heartbeat", json=token).json() == {"lease_s": 60.0}
    report = {**token, "step": 1, "steps": 3, "metrics": {"val_accuracy": 0.5}}
    assert ask("POST", f"{path}/report", json=report).json() == {"stop": False}
    for _ in range(2):
        assert ask("POST", f"{path}/report", json={**report, "step": 2}).json() == {"stop": True}
    assert ask("POST", f"{path}/tell", json={**token, "accuracy": 0.5}).status_code == 204
    (standing,) = store.evaluations.standing(search, [0])
    assert standing.outcome is not None
    assert standing.outcome["pruned_at"] == 2


def test_the_network_comes_as_onnx_if_it_is_asked_for(search: int, put: Callable[..., None], ask: Ask) -> None:
    put(0)
    (lease,) = ask("POST", f"searches/{search}/ask", json={"onnx": True}).json()["leases"]
    model = onnx.load_model_from_string(base64.b64decode(lease["onnx"]))
    onnx.checker.check_model(model)
    refused = ask("POST", f"searches/{search}/ask", json={"onnx": True, "count": 5})
    assert refused.status_code == 422


def test_networks_as_onnx_are_few_at_a_time(
    search: int, put: Callable[..., None], ask: Ask, token: Callable[..., str]
) -> None:
    put(0)
    mine = token("alice", "user")
    known = {"Authorization": f"Bearer {mine}"}
    with place(mine.split("_")[1]), place(mine.split("_")[1]):
        refused = ask("POST", f"searches/{search}/ask", json={"onnx": True}, headers=known)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
    answer = ask("POST", f"searches/{search}/ask", json={"onnx": True}, headers=known)
    assert len(answer.json()["leases"]) == 1  # nothing was leased to who was refused


def test_the_same_key_gets_the_same_leases(search: int, put: Callable[..., None], ask: Ask) -> None:
    put(0, 1, 2)
    send = {"json": {"count": 2}, "headers": {"Idempotency-Key": "mine"}}
    first, again = (ask("POST", f"searches/{search}/ask", **send) for _ in range(2))
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = ask("POST", f"searches/{search}/ask", json={"count": 2}, headers={"Idempotency-Key": "another"})
    assert [lease["number"] for lease in other.json()["leases"]] == [2]


def test_who_may(store: Store, search: int, put: Callable[..., None], ask: Ask) -> None:
    put(0)
    assert ask("POST", f"searches/{search}/ask", by="bob", json={}).status_code == 403
    assert ask("POST", f"searches/{search}/ask", by="reader", json={}).status_code == 403
    (lease,) = ask("POST", f"searches/{search}/ask", by="root", json={}).json()["leases"]
    token = {"token": lease["token"]}
    for what, body in (("heartbeat", {}), ("report", {"step": 1, "steps": 1}), ("tell", {"accuracy": 0.5})):
        path = f"searches/{search}/evaluations/0/{what}"
        assert ask("POST", path, by="bob", json={**token, **body}).status_code == 403
    assert [s.outcome for s in store.evaluations.standing(search, [0])] == [None]


def test_what_is_refused(store: Store, search: int, put: Callable[..., None], ask: Ask) -> None:
    put(0)
    (lost,) = ask("POST", f"searches/{search}/ask", json={}).json()["leases"]
    _lapse(store)
    (lease,) = ask("POST", f"searches/{search}/ask", json={}).json()["leases"]
    path = f"searches/{search}/evaluations/0"
    refused = ask("POST", f"{path}/tell", json={"token": lost["token"], "accuracy": 0.5})
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert "no longer this client's" in refused.json()["detail"]
    token = {"token": lease["token"]}
    bad: list[dict[str, Any]] = [
        {},
        {"accuracy": 1.5},
        {"accuracy": -0.1},
        {"accuracy": 0.5, "error": "x"},
        {"error": ""},
        {"error": "\x1b[31mred"},
        {"error": "a\u202eb"},
        {"accuracy": 0.5, "extras": {"note": "x" * 65536}},
        {"accuracy": 0.5, "extras": {"rungs": 3}},
        {"accuracy": 0.5, "extras": {f"k{n}": 1 for n in range(65)}},
        {"accuracy": 0.5, "path": "/etc/passwd"},
    ]
    for body in bad:
        assert ask("POST", f"{path}/tell", json={**token, **body}).status_code == 422, body
    for metrics in ({"a" * 65: 1.0}, {"val_accuracy": "high"}, {f"k{n}": 1.0 for n in range(17)}):
        body = {**token, "step": 1, "steps": 1, "metrics": metrics}
        assert ask("POST", f"{path}/report", json=body).status_code == 422
    text = f'{{"token": "{lease["token"]}", "step": 1, "steps": 1, "metrics": {{"a": NaN}}}}'
    told = ask("POST", f"{path}/report", content=text, headers={"Content-Type": "application/json"})
    assert told.status_code in (400, 422)
    assert ask("POST", f"searches/{search}/evaluations/5/heartbeat", json=token).status_code == 404
    assert ask("POST", "searches/999/ask", json={}).status_code == 404
    assert [s.outcome for s in store.evaluations.standing(search, [0])] == [None]


def test_a_search_that_is_evaluated_here_gives_no_trials_away(store: Store, search: int, ask: Ask) -> None:
    spec = {**store.searches.by_id(search).spec, "evaluator": "training"}
    store.searches.set_spec(search, spec)
    refused = ask("POST", f"searches/{search}/ask", json={})
    assert refused.status_code == 409
    assert "is evaluated by training on the server" in refused.json()["detail"]


def test_waiting_ends_with_a_trial_the_end_of_the_search_or_the_time(
    store: Store, search: int, put: Callable[..., None], ask: Ask
) -> None:
    assert ask("POST", f"searches/{search}/ask", json={"wait_s": 0.3}).json() == {"leases": [], "finished": False}
    timers = [threading.Timer(0.3, put, (0,)), threading.Timer(0.3, store.searches.set_state, (search, "complete"))]
    timers[0].start()
    began = time.monotonic()
    assert len(ask("POST", f"searches/{search}/ask", json={"wait_s": 30}).json()["leases"]) == 1
    timers[1].start()
    assert ask("POST", f"searches/{search}/ask", json={"wait_s": 30}).json() == {"leases": [], "finished": True}
    assert time.monotonic() - began < 30


def test_a_server_that_was_away_gives_silent_clients_another_lease(
    store: Store, search: int, put: Callable[..., None], ask: Ask
) -> None:
    put(0)
    (lease,) = store.evaluations.lease(search, "a client")
    _lapse(store)  # the server was away for longer than the lease
    assert ask("POST", f"searches/{search}/ask", json={}).json()["leases"] == []
    _lapse(store)  # the client was
    (other,) = ask("POST", f"searches/{search}/ask", json={}).json()["leases"]
    assert (other["attempt"], other["token"] != lease.token) == (2, True)


@pytest.mark.slow
def test_two_hundred_wait_and_none_in_vain(
    app: FastAPI, store: Store, search: int, put: Callable[..., None], token: Callable[..., str]
) -> None:
    headers = {"Authorization": f"Bearer {token('alice', 'user')}"}

    async def wait(client: httpx.AsyncClient) -> dict[str, Any]:
        while True:
            began = time.monotonic()
            answer: dict[str, Any] = (await client.post(f"searches/{search}/ask", json={"wait_s": 30})).json()
            if answer["leases"] or answer["finished"]:
                return answer
            assert time.monotonic() - began >= 30  # in vain only where this machine takes longer than one may wait

    async def all_of_them() -> list[dict[str, Any]]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1/", headers=headers) as client:
            asking = [asyncio.create_task(wait(client)) for _ in range(200)]
            await asyncio.sleep(1)
            me = await client.get("searches", timeout=10)  # the waiting ones hold no thread
            assert me.status_code == 200
            await asyncio.to_thread(put, *range(150))
            while sum(task.done() for task in asking) < 150:
                await asyncio.sleep(0.05)
            await asyncio.to_thread(store.searches.set_state, search, "complete")
            return list(await asyncio.gather(*asking))

    answers = asyncio.run(all_of_them())
    leases = [lease for answer in answers for lease in answer["leases"]]
    assert sorted(lease["number"] for lease in leases) == list(range(150))
    assert sum(answer["finished"] for answer in answers) == 50
