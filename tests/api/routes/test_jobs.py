from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from api.finals.spec import FinalSpec
from api.plans.spec import SearchSpec
from api.store import Store
from api.store.jobs import Wanted
from api.store.searches import SearchRecord
from latency.board import Board
from latency.table import LatencyTable
from nas.network import Network
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial

Ask = Callable[..., httpx.Response]
SPACE = SpaceSpec("mobilenetv2-small", (32,), 10, 1)


@pytest.fixture
def make_search(store: Store, make_table: Callable[..., LatencyTable]) -> Callable[..., SearchRecord]:
    """A search of trainings with one complete trial, as a worker leaves it; on a board if one is named."""

    def make(name: str, owner: str | None = "alice", board: str | None = None, evaluator: str = "training") -> Any:
        space, digest = SPACE.build(), None
        if board is not None:
            table = make_table(space, board)
            store.tables.add(table)
            store.boards.add(Board(board, "local", "ncnn"))
            digest = table.digest
        options = {"data": "digits"} if evaluator == "training" else {"path": "/x.csv"}
        spec = SearchSpec(SPACE, evaluator=evaluator, evaluator_options=options, trials=1)
        made = store.searches.create(
            spec.to_dict(),
            space=SPACE.name,
            space_digest=space.digest,
            board=board,
            table_digest=digest,
            name=name,
            owner=owner,
            state="complete",
        )
        log, encoding = store.searches.log(made.id), (0,) * len(space.genes)
        log.started(Trial(0, encoding))
        log.finished(Trial(0, encoding).complete(0.5, 0.5, 1.0, {}))
        return store.searches.by_id(made.id)

    return make


def _queue(ask: Ask, kind: str, by: str = "alice", **wanted: Any) -> dict[str, Any]:
    answer = ask("POST", f"jobs/{kind}", json=wanted, by=by)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    assert (job["kind"], job["state"], job["owner"], job["wanted"]) == (kind, "queued", by, "run")
    return job


def _checkpoint(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    space = SPACE.build()
    torch.save(Network(space.graph((0,) * len(space.genes))).state_dict(), path)
    return path.name


def test_profile_is_for_admins_and_known_boards(ask: Ask, store: Store) -> None:
    store.boards.add(Board("pi4", "local", "ncnn"))
    wanted = {"board": "pi4", "space": "light-nas", "resolution": [96], "time_limit_s": 300, "seed": 3}
    job = _queue(ask, "profile", by="root", **wanted)
    assert (job["board"], job["search_id"]) == ("pi4", None)
    stored = store.jobs.get(job["id"]).spec
    assert stored == {
        "space": "light-nas",
        "resolution": [96],
        "classes": None,
        "channels": None,
        "passes": None,
        "networks": None,
        "time_limit_s": 300.0,
        "seed": 3,
        "fresh": False,
    }
    assert ask("POST", "jobs/profile", json=wanted).status_code == 403
    for changes, status in (
        ({"board": "other"}, 404),
        ({"space": "mine.yaml"}, 404),
        ({"resolution": [96, 96]}, 422),
        ({"resolution": [0]}, 422),
        ({"address": "host:22"}, 422),
        ({"networks": 3}, 422),
        ({"time_limit_s": 0}, 422),
    ):
        assert ask("POST", "jobs/profile", json=wanted | changes, by="root").status_code == status, changes
    assert len(store.jobs.page()) == 1


def test_train(ask: Ask, store: Store, data_root: Path, make_search: Callable[..., SearchRecord]) -> None:
    search = make_search("s", board="pi4")
    weights = _checkpoint(data_root / "weights/w.pt")
    wanted = {
        "search": "s",
        "epochs": 4,
        "seeds": 2,
        "baselines": 0,
        "options": {"lr": 0.1},
        "init": f"weights/{weights}",
    }
    job = _queue(ask, "train", **wanted)
    assert (job["search_id"], job["board"]) == (search.id, "pi4")
    options = job["spec"]["options"]
    assert (options["init"], options["lr"], options["epochs"]) == ("weights/w.pt", 0.1, 4)
    stored = store.jobs.get(job["id"]).spec
    assert stored["options"]["init"] == f"{data_root}/weights/w.pt"
    assert len(stored["options"]["init_digest"]) == 64
    final = {name: stored[name] for name in FinalSpec.__dataclass_fields__}
    assert FinalSpec(**{**final, "baselines": tuple(final["baselines"])}).baselines == ()
    assert (stored["measure"], stored["teacher_search"]) == (True, None)
    # Without measuring it needs no board; a search by its number.
    assert _queue(ask, "train", search=search.id, measure=False)["board"] is None
    store.searches.keep_winner(make_search("teacher").id, {"options": {}, "trial": 0, "seed": 0})
    taught = _queue(ask, "train", search="s", teacher_search="teacher")
    assert taught["spec"]["teacher_search"] == store.searches.get("teacher").id


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"search": "none"}, 404, "no search 'none'"),
        ({"search": "table"}, 422, "looked accuracies up"),
        ({"options": {"cache_dir": "/tmp"}}, 422, "takes no option 'cache_dir'"),
        ({"options": {"init": "x"}}, 422, "fields of their own"),
        ({"options": {"data": "folder:../x"}}, 422, "no path below the data root"),
        ({"options": {"lr": "high"}}, 422, "must be a number, not 'high'"),
        ({"options": {"lr": -1}}, 422, "lr is -1"),
        ({"init": "../w.pt"}, 422, "no path below the data root"),
        ({"init": "recorded.csv"}, 422, "recorded.csv is no readable checkpoint"),
        ({"teacher": "/etc/passwd"}, 422, "no path below the data root"),
        ({"teacher": "x", "teacher_search": "s"}, 422, "there is one teacher"),
        ({"teacher_search": "s"}, 422, "cannot teach itself"),
        ({"teacher_search": "other"}, 422, "no trained winner"),
        ({"top": 101}, 422, "body.top"),
        ({"parallel": 0}, 422, "body.parallel"),
        ({"accept": True}, 422, "body.accept"),
    ],
)
def test_what_cannot_be_trained(
    ask: Ask,
    store: Store,
    data_root: Path,
    make_search: Callable[..., SearchRecord],
    changes: dict[str, Any],
    status: int,
    told: str,
) -> None:
    for name, evaluator in (("s", "training"), ("other", "training"), ("table", "table")):
        make_search(name, evaluator=evaluator)
    answer = ask("POST", "jobs/train", json={"search": "s", **changes})
    assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text
    assert str(data_root) not in answer.text
    assert store.jobs.page() == []


def test_export_and_verify(ask: Ask, store: Store, make_search: Callable[..., SearchRecord]) -> None:
    search = make_search("s", board="pi4")
    bare = make_search("bare")
    job = _queue(ask, "export", search="s", license="Apache-2.0", trial=0)
    assert store.jobs.get(job["id"]).spec == {"trial": 0, "epochs": None, "threads": None, "license": "Apache-2.0"}
    assert ask("POST", "jobs/export", json={"search": "s", "trial": 3}).status_code == 404
    assert ask("POST", "jobs/export", json={"search": "s", "license": "<script>"}).status_code == 422
    assert ask("POST", "jobs/export", json={"search": "s", "to": "/tmp"}).status_code == 422

    checked = _queue(ask, "verify", search="s", top=3)
    assert (checked["board"], checked["search_id"]) == ("pi4", search.id)
    assert store.jobs.get(checked["id"]).spec == {
        "top": 3,
        "random": None,
        "seed": 0,
        "passes": None,
        "accuracy": False,
        "pictures": None,
        "export": None,
    }
    assert _queue(ask, "verify", search="s", random=20, seed=1)["spec"]["random"] == 20
    accuracy = {"search": "s", "accuracy": True}
    refused = ask("POST", "jobs/verify", json=accuracy)
    assert (refused.status_code, "has not been exported" in refused.json()["detail"]) == (409, True)
    assert ask("POST", "jobs/verify", json=accuracy | {"export": job["id"]}).status_code == 409
    claim = store.jobs.claim("w", 60)
    assert claim is not None
    store.jobs.finish(claim.fence, "complete")
    assert _queue(ask, "verify", **accuracy)["spec"]["export"] == job["id"]
    assert _queue(ask, "verify", **accuracy, export=job["id"], pictures=10)["spec"]["pictures"] == 10
    for wanted, status in (
        (accuracy | {"top": 3}, 422),
        (accuracy | {"export": checked["id"]}, 422),
        (accuracy | {"export": 999}, 404),
        ({"search": "s", "pictures": 3}, 422),
        ({"search": "s", "board": "pi5"}, 404),
        ({"search": "bare"}, 422),
        ({"search": bare.id + 100}, 404),
        ({"search": "bare", "accuracy": True, "board": "pi4"}, 409),
    ):
        assert ask("POST", "jobs/verify", json=wanted).status_code == status, wanted


def test_a_job_about_a_search_is_for_its_owner(
    ask: Ask, store: Store, make_search: Callable[..., SearchRecord]
) -> None:
    make_search("s")
    make_search("by-hand", owner=None)
    for kind in ("verify", "train", "export"):
        assert ask("POST", f"jobs/{kind}", json={"search": "s"}, by="bob").status_code == 403
        assert ask("POST", f"jobs/{kind}", json={"search": "s"}, by="reader").status_code == 403
        assert ask("POST", f"jobs/{kind}", json={"search": "by-hand"}).status_code == 403
    assert store.jobs.page() == []
    job = _queue(ask, "export", by="root", search="by-hand")
    assert ask("POST", f"jobs/{job['id']}/cancel").status_code == 403
    assert ask("DELETE", f"jobs/{job['id']}").status_code == 403


@pytest.mark.parametrize("taken", [False, True])
def test_no_job_is_about_a_search_that_was_deleted_while_it_was_checked(
    ask: Ask,
    store: Store,
    make_search: Callable[..., SearchRecord],
    monkeypatch: pytest.MonkeyPatch,
    taken: bool,
) -> None:
    """Nor about the one that has its number by then: SQLite gives the highest again."""
    from api.submit.jobs import export_job

    def slowly(store: Store, wanted: Any, search: SearchRecord) -> Any:
        asked = export_job(store, wanted, search)
        assert ask("DELETE", f"searches/{search.id}").status_code == 204
        if taken:
            made = make_search("theirs", owner="bob").id
            assert made == search.id or store.database.path is None
        return asked

    make_search("s")
    monkeypatch.setattr("api.routes.jobs.export_job", slowly)
    answer = ask("POST", "jobs/export", json={"search": "s"})
    assert (answer.status_code, "search 's' was deleted just now" in answer.json()["detail"]) == (404, True)
    assert store.jobs.page() == []


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # which gives numbers again
def test_no_job_is_cancelled_for_one_that_had_its_number(
    ask: Ask, store: Store, make_search: Callable[..., SearchRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.rest.guard import require_owner

    make_search("s")
    mine = _queue(ask, "export", search="s")["id"]
    ask("POST", f"jobs/{mine}/cancel")
    theirs = list[int]()

    def slowly(user: Any, owner: str | None) -> None:
        require_owner(user, owner)
        if not theirs:
            store.jobs.delete(mine)
            theirs.append(store.jobs.create("export", {}, owner="bob").id)

    monkeypatch.setattr("api.routes.jobs.require_owner", slowly)
    answer = ask("POST", f"jobs/{mine}/cancel")
    assert (answer.status_code, theirs) == (404, [mine])
    assert (store.jobs.get(mine).owner, store.jobs.get(mine).state) == ("bob", "queued")


def test_what_a_job_tells_can_be_told_on(ask: Ask, store: Store) -> None:
    """A file's name that is no UTF-8 reaches Python as half surrogate pairs, which no answer could hold."""
    job = store.jobs.create("export", {}).id
    claim = store.jobs.claim("w", 60)
    assert claim is not None
    store.jobs.progress(claim.fence, {"done": 1, "of": 2, "text": "b\udce9"})
    assert ask("GET", f"jobs/{job}").json()["progress"]["text"] == "b?"
    assert ask("GET", "jobs").json()["items"][0]["progress"]["text"] == "b?"
    assert ask("GET", "events/page").json()["items"][-1]["data"]["text"] == "b?"
    store.jobs.finish(claim.fence, "failed", error="b\udce9", result={"file": "b\udce9"})
    seen = ask("GET", f"jobs/{job}").json()
    assert (seen["error"], seen["result"]) == ("b?", {"file": "b?"})


def test_the_same_request_twice_is_one_job(ask: Ask, store: Store, make_search: Callable[..., SearchRecord]) -> None:
    make_search("s")
    answers = [
        ask("POST", "jobs/export", json={"search": "s"}, headers={"Idempotency-Key": "k"}).json() for _ in range(3)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len(store.jobs.page()) == 1


def test_jobs_are_listed_cancelled_and_deleted(
    ask: Ask, store: Store, make_search: Callable[..., SearchRecord], data_root: Path
) -> None:
    search = make_search("s", board="pi4")
    store.jobs.create("search", {}, search_id=search.id, owner="alice")
    first = _queue(ask, "export", search="s")["id"]
    second = _queue(ask, "verify", search="s")["id"]
    third = _queue(ask, "profile", by="root", board="pi4", space="light-nas")["id"]

    def ids(**query: Any) -> list[int]:
        answer = ask("GET", "jobs", params=query, by="reader")
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["items"]]

    assert ids()[:3] == [third, second, first]
    assert ids(kind="verify") == [second]
    assert ids(owner="root") == [third]
    assert ids(board="pi4") == [third, second]
    assert ids(search_id=search.id, kind="export", state="queued") == [first]
    page = ask("GET", "jobs", params={"limit": 2}).json()
    assert [job["id"] for job in page["items"]] == [third, second]
    rest = ask("GET", "jobs", params={"limit": 2, "cursor": page["next"]}).json()
    assert rest["items"][0]["id"] == first
    assert rest["next"] is None
    for query in ({"kind": "x"}, {"state": "x"}, {"cursor": "x"}, {"board": "\0"}, {"limit": 0}):
        assert ask("GET", "jobs", params=query).status_code == 422

    assert ask("DELETE", f"jobs/{first}").status_code == 409
    assert ask("POST", f"jobs/{first}/cancel").json()["state"] == "cancelled"
    assert ask("POST", f"jobs/{first}/cancel").status_code == 409
    kept = store.settings.artifacts / str(first)
    kept.mkdir(parents=True)
    newest = store.events.newest()
    assert ask("DELETE", f"jobs/{first}").status_code == 204
    assert ask("GET", f"jobs/{first}").status_code == ask("DELETE", f"jobs/{first}").status_code == 404
    assert not kept.exists()
    assert [(e.kind, e.data["job_id"]) for e in store.events.after(newest)] == [("job.deleted", first)]
    own = store.jobs.of_search(search.id)
    assert own is not None
    store.jobs.stop(own.id, Wanted.CANCEL)
    refused = ask("DELETE", f"jobs/{own.id}")
    assert (refused.status_code, "delete the search" in refused.json()["detail"]) == (409, True)

    claim = store.jobs.claim("w", 60)
    assert claim is not None
    store.jobs.progress(claim.fence, {"done": 1, "of": 4, "text": "visits"})
    assert ask("POST", f"jobs/{second}/cancel").json()["wanted"] == "cancel"
    store.jobs.finish(
        claim.fence, "failed", result={"file": f"{data_root}/x"}, error=f"cannot read {data_root}/x/y.png"
    )
    seen = ask("GET", f"jobs/{second}", by="reader").json()
    assert (seen["state"], seen["error"], seen["result"]) == ("failed", "cannot read x/y.png", {"file": "x"})
    assert seen["progress"] == {"done": 1, "of": 4, "text": "visits"}
    assert "token" not in json.dumps(seen)
