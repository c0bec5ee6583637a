from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.compose import run_search
from api.executors.choice import TrialExecutor
from api.plans.spec import SearchSpec
from api.store import Store
from api.store.jobs import Claim
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial

Ask = Callable[..., httpx.Response]
Asked = dict[str, Any]


def _submit(ask: Ask, asked: Asked, **more: Any) -> dict[str, Any]:
    by, headers = more.pop("by", "alice"), more.pop("headers", {})
    answer = ask("POST", "searches", json=asked | more, by=by, headers=headers)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _claim(store: Store) -> Claim:
    claim = store.jobs.claim("w", 60)
    assert claim is not None
    return claim


def _run(store: Store) -> None:
    """What a worker does."""
    claim = _claim(store)
    assert claim.job.search_id is not None
    run_search(store, store.searches.by_id(claim.job.search_id), executor=TrialExecutor(), fence=claim.fence)
    store.jobs.finish(claim.fence, "complete")


def _of_command_line(store: Store, name: str = "by-hand") -> int:
    spec = SearchSpec(SpaceSpec("nas-bench-macro"), evaluator="table", evaluator_options={"path": "/home/x/t.csv"})
    digest = spec.space.build().digest
    return store.searches.create(spec.to_dict(), space="nas-bench-macro", space_digest=digest, name=name).id


def test_a_search_is_submitted_run_and_seen(ask: Ask, asked: Asked, store: Store, data_root: Path) -> None:
    made = _submit(ask, asked, name="first")
    assert (made["state"], made["owner"], made["name"], made["wanted"]) == ("queued", "alice", "first", 5)
    assert made["job"] == {"id": made["job"]["id"], "state": "queued", "wanted": "run", "worker": None, "attempts": 0}
    assert made["spec"]["evaluator_options"] == {"path": "recorded.csv"}
    assert store.searches.by_id(made["id"]).spec["evaluator_options"] == {"path": f"{data_root}/recorded.csv"}
    assert str(data_root) not in json.dumps(made)
    job = store.jobs.get(made["job"]["id"])
    assert (job.kind, job.state, job.owner, job.spec) == ("search", "queued", "alice", {})

    _run(store)
    seen = ask("GET", f"searches/{made['id']}", by="reader").json()
    assert (seen["state"], seen["trials"]["complete"], seen["trials"]["running"]) == ("complete", 5, 0)
    best = store.searches.best(made["id"])[0]
    assert seen["best"] == {
        "number": best.number,
        "encoding": ",".join(map(str, best.encoding)),
        "accuracy": best.accuracy,
        "reward": best.reward,
        "costs": dict(best.costs),
    }
    listed = ask("GET", "searches", by="reader").json()
    assert listed["next"] is None
    assert listed["items"] == [{name: seen[name] for name in listed["items"][0]}]
    assert not {"spec", "winner", "beliefs"} & set(listed["items"][0])


def test_the_same_request_twice_is_one_search(ask: Ask, asked: Asked, store: Store) -> None:
    key = {"Idempotency-Key": "k1"}
    first = _submit(ask, asked, name="once", headers=key)
    again = ask("POST", "searches", json=asked | {"name": "once"}, headers=key)
    assert (again.status_code, again.json()) == (201, first)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert ask("POST", "searches", json=asked | {"name": "other"}, headers=key).status_code == 422
    taken = ask("POST", "searches", json=asked | {"name": "once"})
    assert taken.status_code == 409
    assert len(store.searches.page()) == len(store.jobs.page()) == 1


def test_a_search_that_cannot_be_stored_leaves_no_job(ask: Ask, asked: Asked, store: Store) -> None:
    _submit(ask, asked, name="taken")
    assert ask("POST", "searches", json=asked | {"name": "taken"}).status_code == 409
    assert len(store.jobs.page()) == 1


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # the database has no part in it
@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"space": "mine.yaml"}, 404, "no search space 'mine.yaml'; there are"),
        ({"space": "../space.yaml"}, 422, "body.space"),
        ({"board": "pi4"}, 404, "no board 'pi4'"),
        ({"strategy": "os.system"}, 404, "no strategy 'os.system'; there are"),
        ({"evaluator": "os"}, 404, "no evaluator 'os'; there are"),
        ({"from": "nothing"}, 404, "no search 'nothing'"),
        ({"name": "17"}, 422, "not only digits"),
        ({"name": "a\nb"}, 422, "body.name"),
        ({"data": "../recorded.csv"}, 422, "no path below the data root"),
        ({"data": "/etc/passwd"}, 422, "no path below the data root"),
        ({"data": "missing.csv"}, 422, "there is no 'missing.csv' below the data root"),
        ({"data": "recorded.csv\u0000"}, 422, "body.data"),
        ({"data": None, "evaluator_options": {"path": "/etc/passwd"}}, 422, "no path below the data root"),
        ({"evaluator_options": {"file": "x"}}, 422, "takes no option 'file' from a request; it takes path, arch"),
        ({"evaluator_options": {"arch": 3}}, 422, "option arch of evaluator table must be a text, not 3"),
        ({"evaluator_options": {"arch": "nothing"}}, 422, "lacks column nothing"),
        ({"init": "x.pt"}, 422, "evaluator table takes no option 'init'"),
        ({"evaluator": "training", "data": "folder:.."}, 422, "no path below the data root"),
        ({"evaluator": "training", "data": "file:x"}, 422, "no data set 'file:x'"),
        ({"evaluator": "training", "data": "digits", "init": "no.pt"}, 422, "there is no 'no.pt' below"),
        (
            {"evaluator": "training", "data": "digits", "evaluator_options": {"cache_dir": "/tmp"}},
            422,
            "takes no option 'cache_dir' from a request",
        ),
        ({"budgets": {"flops": 1}}, 422, "the smallest achievable is"),
        ({"budgets": {"latency_ms": 5}}, 422, "a latency budget needs a latency table"),
        ({"budgets": {"watts": 5}}, 422, "body.budgets.watts"),
        ({"budgets": {"flops": -5}}, 422, "body.budgets.flops"),
        ({"trials": 1_000_001}, 422, "body.trials"),
        ({"trials": True}, 422, "body.trials"),
        ({"parallel": 257}, 422, "body.parallel"),
        ({"seed": 2**63}, 422, "body.seed"),
        ({"strategy_options": {"chains": 2}}, 422, "--chains is for --strategy annealing"),
        ({"strategy": "annealing", "strategy_options": {"start": "0,9"}}, 422, "gene"),
        ({"eta": 2.0}, 422, "--eta says how many trials go on at --rungs"),
        ({"worker": "host:22"}, 422, "body.worker"),
        ({"stop_when": 0.01, "front": "flops"}, 422, "not a front"),
    ],
)
def test_what_cannot_be_is_told(
    ask: Ask, asked: Asked, store: Store, data_root: Path, changes: Asked, status: int, told: str
) -> None:
    answer = ask("POST", "searches", json=asked | changes)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in answer.json()["detail"]
    assert str(data_root) not in answer.text
    assert store.searches.page() == []
    assert store.jobs.page() == []


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # the database has no part in it
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"data": "../recorded.csv"}, "body.data"),
        ({"evaluator": "training", "data": "folder:../etc"}, "body.data"),
        ({"evaluator": "training", "data": "npz:recorded.csv"}, "body.data"),  # there, and none
        ({"evaluator": "training", "data": "digits", "init": "no.pt"}, "body.init"),
        ({"data": None, "evaluator_options": {"key": "digits", "path": "../x"}}, "body.evaluator_options.path"),
        ({"evaluator_options": {"file": "x"}}, "body.evaluator_options.file"),
        (
            {"evaluator": "training", "data": "digits", "evaluator_options": {"threads": 257}},
            "body.evaluator_options.threads",
        ),
    ],
)
def test_what_cannot_be_names_its_field(ask: Ask, asked: Asked, data_root: Path, changes: Asked, field: str) -> None:
    answer = ask("POST", "searches", json=asked | changes)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert str(data_root) not in answer.text


def test_a_remote_search_needs_no_data(ask: Ask, asked: Asked) -> None:
    wanted = {"space": "nas-bench-macro", "evaluator": "remote", "evaluator_options": {"lease_s": 30, "attempts": 2}}
    made = _submit(ask, wanted, trials=3)
    assert made["spec"]["evaluator_options"] == {"lease_s": 30, "attempts": 2}
    assert ask("POST", "searches", json=wanted | {"data": "digits"}).status_code == 422


def test_lists_are_filtered_sorted_and_paged(ask: Ask, asked: Asked, store: Store) -> None:
    for number, (by, name) in enumerate([("alice", "a-1"), ("bob", "B-2"), ("alice", "a-3"), ("bob", "b_4")]):
        made = _submit(ask, asked, by=by, name=name, seed=number)
    store.jobs.claim("w", 60)
    _of_command_line(store)

    def names(**query: Any) -> list[str]:
        answer = ask("GET", "searches", params=query, by="reader")
        assert answer.status_code == 200, answer.text
        return [item["name"] for item in answer.json()["items"]]

    assert names() == ["by-hand", "b_4", "a-3", "B-2", "a-1"]
    assert names(sort="oldest") == ["a-1", "B-2", "a-3", "b_4", "by-hand"]
    assert names(owner="bob") == ["b_4", "B-2"]
    assert names(state="queued") == ["b_4", "a-3", "B-2"]
    assert names(space="light-nas") == []
    assert names(space="nas-bench-macro", owner="alice", state="running") == ["a-1"]
    assert names(name="b") == ["by-hand", "b_4", "B-2"]  # in capitals or not, on every database
    assert names(name="_") == ["b_4"]  # a letter, not a pattern's
    assert names(name="%") == []
    assert names(named="a-3") == ["a-3"]
    assert names(named="a") == []
    for sort in ("newest", "oldest"):
        found: list[str] = []
        query: Asked = {"sort": sort, "limit": 2}
        while True:
            answer = ask("GET", "searches", params=query, by="reader").json()
            assert 0 < len(answer["items"]) <= 2
            found += [item["name"] for item in answer["items"]]
            if answer["next"] is None:
                break
            query["cursor"] = answer["next"]
        assert found == names(sort=sort)
    for query in ({"state": "lost"}, {"limit": 0}, {"limit": 1001}, {"name": "\0"}, {"cursor": "x"}, {"sort": "name"}):
        assert ask("GET", "searches", params=query).status_code == 422, query
    newest = ask("GET", "searches", params={"limit": 1}).json()["next"]
    assert ask("GET", "searches", params={"cursor": newest, "sort": "oldest"}).status_code == 422
    assert ask("GET", f"searches/{made['id'] + 100}").status_code == 404
    assert ask("GET", f"searches/{2**31}").status_code == 422


def test_a_waiting_search_is_paused_resumed_and_cancelled(ask: Ask, asked: Asked, store: Store) -> None:
    made = _submit(ask, asked)
    place = f"searches/{made['id']}"
    assert ask("POST", f"{place}/pause").json()["state"] == "paused"
    again = ask("POST", f"{place}/pause")
    assert (again.status_code, again.json()["detail"]) == (409, f"search '{made['name']}' is paused already")
    assert store.jobs.claim("w", 60) is None
    resumed = ask("POST", f"{place}/resume", json={"trials": 7})
    assert (resumed.status_code, resumed.json()["state"], resumed.json()["wanted"]) == (200, "queued", 7)
    again = ask("POST", f"{place}/resume")
    assert (again.status_code, again.json()["detail"]) == (409, f"search '{made['name']}' is queued already")
    assert ask("POST", f"{place}/cancel").json()["state"] == "cancelled"
    again = ask("POST", f"{place}/cancel")
    assert (again.status_code, again.json()["detail"]) == (409, f"search '{made['name']}' is cancelled already")
    assert ask("POST", f"{place}/resume").json()["state"] == "queued"
    _run(store)
    assert ask("GET", place).json()["trials"]["complete"] == 7
    fewer = ask("POST", f"{place}/resume", json={"trials": 6})
    assert fewer.status_code == 422
    (error,) = fewer.json()["errors"]
    assert (error["field"], "has 7 trials already" in error["message"]) == ("body.trials", True)
    # Over; for more trials it goes on.
    assert ask("POST", f"{place}/resume", json={"trials": 9}).json()["state"] == "queued"
    _run(store)
    assert ask("GET", place).json()["trials"]["complete"] == 9


def test_a_running_search_is_asked_to_stop(ask: Ask, asked: Asked, store: Store) -> None:
    made = _submit(ask, asked)
    place, claim = f"searches/{made['id']}", _claim(store)
    paused = ask("POST", f"{place}/pause").json()
    assert (paused["state"], paused["job"]["wanted"], paused["job"]["worker"]) == ("running", "pause", "w")
    assert store.jobs.renew([claim.fence], 60) == {claim.job.id: "pause"}
    refused = ask("POST", f"{place}/resume", json={"trials": 9})
    assert (refused.status_code, "still ends its running step" in refused.json()["detail"]) == (409, True)
    assert store.searches.by_id(made["id"]).spec["trials"] == 5
    assert ask("POST", f"{place}/cancel").json()["job"]["wanted"] == "cancel"
    assert ask("DELETE", place).status_code == 409
    store.jobs.finish(claim.fence, "cancelled")
    assert ask("GET", place).json()["state"] == "cancelled"


def test_what_cannot_be_changed_when_going_on(ask: Ask, asked: Asked, store: Store) -> None:
    place = f"searches/{_submit(ask, asked, strategy='random')['id']}"
    ask("POST", f"{place}/pause")
    for changes in ({"seed": 3}, {"trials": 0}, {"trials": 10**6 + 1}, {"stop_when": 0.1}):
        answer = ask("POST", f"{place}/resume", json=changes)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [f"body.{next(iter(changes))}"]
    assert ask("GET", place).json()["state"] == "paused"


def test_failed_trials_are_evaluated_again(ask: Ask, asked: Asked, store: Store) -> None:
    place = f"searches/{(number := _submit(ask, asked)['id'])}"
    claim = _claim(store)
    assert ask("POST", f"{place}/retry").status_code == 409
    log = store.searches.log(number, claim.fence)
    log.started(Trial(0, (0,) * 8))
    log.finished(Trial(0, (0,) * 8).failed("out of memory", 1.0))
    store.jobs.finish(claim.fence, "failed", error="too many failed")
    assert ask("GET", place).json()["trials"]["failed"] == 1
    answer = ask("POST", f"{place}/retry")
    assert (answer.status_code, answer.json()["state"], answer.json()["trials"]["failed"]) == (200, "queued", 0)
    _run(store)
    seen = ask("GET", place).json()
    assert (seen["trials"]["complete"], seen["trials"]["failed"], seen["error"]) == (5, 0, None)
    again = ask("POST", f"{place}/retry")
    assert (again.status_code, "has no failed trial" in again.json()["detail"]) == (409, True)
    assert ask("GET", place).json()["state"] == "complete"  # nothing of it was done


def test_a_search_of_the_command_line(ask: Ask, asked: Asked, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    number = _of_command_line(store)
    place = f"searches/{number}"
    seen = ask("GET", place, by="reader").json()
    assert (seen["owner"], seen["job"]) == (None, None)
    assert seen["spec"]["evaluator_options"] == {"path": "…/t.csv"}
    for act in ("pause", "cancel"):
        answer = ask("POST", f"{place}/{act}", by="root")
        assert (answer.status_code, "belongs to the command line" in answer.json()["detail"]) == (409, True)
    # Impatient only while it is held: PostgreSQL lets go of a lock a moment after its connection ended.
    with store.searches.lock(store.searches.by_id(number)), monkeypatch.context() as patch:
        patch.setattr("api.store.searches.LOCK_PATIENCE_S", 0.2)
        assert ask("POST", f"{place}/resume", by="root").status_code == 409
        assert ask("DELETE", place, by="root").status_code == 409
    assert ask("POST", f"{place}/resume", by="root").json()["state"] == "queued"
    job = store.jobs.of_search(number)
    assert job is not None
    assert (job.state, job.owner) == ("queued", None)
    assert ask("POST", f"{place}/pause", by="root").json()["state"] == "paused"
    assert ask("POST", f"{place}/resume", by="root").json()["job"]["id"] == job.id


def test_only_its_owner_and_admins_change_a_search(ask: Ask, asked: Asked, store: Store) -> None:
    mine, by_hand = _submit(ask, asked)["id"], _of_command_line(store)
    for act in ("cancel", "pause", "resume", "retry"):
        for who, number in (("bob", mine), ("reader", mine), ("alice", by_hand)):
            assert ask("POST", f"searches/{number}/{act}", by=who).status_code == 403, (act, who)
    for who, number in (("bob", mine), ("reader", mine), ("alice", by_hand)):
        assert ask("DELETE", f"searches/{number}", by=who).status_code == 403
    assert ask("POST", "searches", json=asked, by="reader").status_code == 403
    assert ask("GET", f"searches/{mine}", by="bob").json()["state"] == "queued"
    assert ask("POST", f"searches/{mine}/cancel", by="root").json()["state"] == "cancelled"


def test_a_deleted_search_leaves_nothing(ask: Ask, asked: Asked, store: Store, tmp_path: Path) -> None:
    number = _submit(ask, asked)["id"]
    place = f"searches/{number}"
    assert ask("DELETE", place).status_code == 409
    _run(store)
    checkpoints = store.settings.search_folder(number)
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / "trial-0").mkdir()
    job = store.jobs.create("export", {"trial": None}, search_id=number, owner="alice")
    kept = store.settings.artifacts / str(job.id)
    kept.mkdir(parents=True)
    (kept / "network.onnx").write_bytes(b"x")
    waits = ask("DELETE", place)
    assert (waits.status_code, waits.json()["detail"]) == (409, f"job {job.id} is queued; cancel it first")
    assert checkpoints.exists()
    ask("POST", f"jobs/{job.id}/cancel")
    newest = store.events.newest()
    assert ask("DELETE", place).status_code == 204
    assert ask("GET", place).status_code == 404
    assert store.jobs.page() == []
    assert not checkpoints.exists()
    assert not kept.exists()
    assert list(store.settings.artifacts.iterdir()) == list(checkpoints.parent.iterdir()) == []
    told = store.events.after(newest)
    assert [(e.kind, e.data["search_id"]) for e in told] == [("search.deleted", number)]
    store.events.add("x", {})
    assert store.events.newest() > told[-1].id  # numbers go on rising where events were the newest
    assert ask("DELETE", place).status_code == 404


def test_a_search_another_one_starts_from_stays(ask: Ask, asked: Asked, store: Store) -> None:
    first = _submit(ask, asked, name="first")["id"]
    _run(store)
    second = _submit(ask, asked, **{"from": "first"})
    assert second["spec"]["earlier"] == {"search": first, "trials": 5}
    answer = ask("DELETE", f"searches/{first}")
    assert (answer.status_code, second["name"] in answer.json()["detail"]) == (409, True)
    ask("POST", f"searches/{second['id']}/cancel")
    assert ask("DELETE", f"searches/{second['id']}").status_code == 204
    assert ask("DELETE", f"searches/{first}").status_code == 204


@pytest.mark.parametrize("taken", [False, True])
def test_no_search_starts_from_one_that_was_deleted_while_it_was_checked(
    ask: Ask, asked: Asked, store: Store, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """Nor from the one that has its number by then: SQLite gives the highest again."""
    first = _submit(ask, asked, name="first")["id"]
    _run(store)

    def slowly(plan: Any, settings: Any) -> None:
        monkeypatch.undo()
        assert ask("DELETE", f"searches/{first}").status_code == 204
        if taken:
            made = _submit(ask, asked, by="bob", name="theirs")["id"]
            assert made == first or store.database.path is None
            _run(store)

    monkeypatch.setattr("api.routes.searches.check_evaluator", slowly)
    answer = ask("POST", "searches", json=asked | {"from": "first", "name": "second"})
    assert (answer.status_code, "search 'first' was deleted just now" in answer.json()["detail"]) == (404, True)
    assert [search.name for search in store.searches.page()] == (["theirs"] if taken else [])


def test_a_search_starts_from_the_one_that_was_meant(
    ask: Ask, asked: Asked, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another search may have taken a name just before that was looked up for good."""
    for name in ("first", "other"):
        _submit(ask, asked, name=name)
        _run(store)
    from api.routes.searches import read_request

    def slowly(wanted: Any, root: Any) -> Any:
        return dataclasses.replace(read_request(wanted, root), earlier="other")

    monkeypatch.setattr("api.routes.searches.read_request", slowly)
    answer = ask("POST", "searches", json=asked | {"from": "first"})
    assert (answer.status_code, "send the request again" in answer.json()["detail"]) == (409, True)


@pytest.mark.parametrize("act", ["resume", "retry", "pause", "cancel"])
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # which gives numbers again
def test_nothing_is_done_to_a_search_for_one_that_had_its_number(
    ask: Ask, asked: Asked, store: Store, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    from api.rest.guard import require_owner

    mine = _submit(ask, asked)["id"]
    ask("POST", f"searches/{mine}/cancel")

    def slowly(user: Any, owner: str | None) -> None:
        require_owner(user, owner)
        monkeypatch.undo()
        assert ask("DELETE", f"searches/{mine}").status_code == 204
        assert _submit(ask, asked, by="bob")["id"] == mine
        if act in ("resume", "retry"):
            ask("POST", f"searches/{mine}/pause", by="bob")

    monkeypatch.setattr("api.routes.searches.require_owner", slowly)
    assert ask("POST", f"searches/{mine}/{act}").status_code == 404
    theirs = store.searches.by_id(mine)
    assert (theirs.owner, theirs.state) == ("bob", "paused" if act in ("resume", "retry") else "queued")


def test_a_running_search_tells_its_pace(ask: Ask, asked: Asked, store: Store) -> None:
    number = _submit(ask, asked, trials=100)["id"]
    assert ask("GET", f"searches/{number}").json()["pace"] is None
    claim = _claim(store)
    log = store.searches.log(number, claim.fence)
    for n in range(4):
        log.started(Trial(n, (0,) * 8))
        log.finished(Trial(n, (0,) * 8).complete(0.5, 0.5, 1.0, {}))
    pace = ask("GET", f"searches/{number}").json()["pace"]
    assert pace["trials_per_hour"] > 0
    assert pace["eta_s"] == pytest.approx(96 * 3600 / pace["trials_per_hour"])
