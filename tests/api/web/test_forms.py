"""What is typed stays as typed, what is asked for again is what was asked, what is pressed twice is done once."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from dashboard import Served, Tab, serving
from playwright.sync_api import Page, Route, expect

import api.client
from api.auth import Role
from api.data.root import DataRoot
from api.schemas.searches import SearchRequest
from api.settings import Settings
from api.store import Store
from api.submit.searches import read_request

OpenTab = Callable[..., Tab]


# Whatever the address says besides, the whole view is drawn again.
DRAW = """async (at) => {
  const { setQuery } = await import('./assets/js/core/router.js');
  setQuery({ drawn: at });
  await new Promise(requestAnimationFrame);
}"""


@pytest.mark.parametrize(
    ("keys", "shown", "share"), [("70.05", "70.05", "0.7005"), ("8e1", "8e1", "0.8"), (".5", ".5", "0.005")]
)
def test_a_share_is_typed_while_the_table_is_drawn_again(
    served: Served, open_tab: OpenTab, keys: str, shown: str, share: str
) -> None:
    """As it is four times a second while a search runs: on its way a number is none, or looks like another."""
    tab = open_tab(f"#/searches/{served.searches['sample']}?view=table")
    box = tab.page.get_by_label("Accuracy at least, %")
    box.focus()
    for at, key in enumerate(keys):
        tab.page.keyboard.type(key)
        tab.page.evaluate(DRAW, at)
    expect(box).to_have_value(shown)
    expect(tab.page).to_have_url(re.compile(rf"above={re.escape(share)}(&|$)"))
    tab.page.get_by_role("button", name="No filter").click()
    expect(box).to_have_value("")
    tab.check()


# One letter comes right after the address was written, before what waits for the page to be drawn; one a moment later.
LETTERS = """() => {
  const box = document.querySelector('input[type=search]');
  const type = (letter) => {
    box.value += letter;
    box.dispatchEvent(new Event('input', { bubbles: true }));
  };
  const real = history.replaceState.bind(history);
  history.replaceState = (...given) => {
    real(...given);
    history.replaceState = real;
    setTimeout(() => {
      type('b');
      setTimeout(type, 60, 'c');
    });
  };
}"""


def test_no_letter_of_a_filter_is_lost(open_tab: OpenTab) -> None:
    tab = open_tab("#/searches")
    box = tab.page.get_by_label("Name")
    box.focus()
    tab.page.evaluate(LETTERS)
    tab.page.keyboard.type("a")
    expect(tab.page).to_have_url(re.compile(r"name=a\w+$"))
    expect(box).to_have_value("abc")
    expect(tab.page).to_have_url(re.compile("name=abc$"))


def test_a_filter_follows_the_address(open_tab: OpenTab) -> None:
    tab = open_tab("#/searches?name=one")
    box = tab.page.get_by_label("Name")
    expect(box).to_have_value("one")
    box.fill("two ")
    expect(tab.page).to_have_url(re.compile("name=two$"))
    expect(box).to_have_value("two ")
    tab.go("#/searches?name=one")
    expect(box).to_have_value("one")
    tab.go("#/searches")
    expect(box).to_have_value("")


def asked_as(served: Served, tab: Tab, **changes: Any) -> None:
    """Let the page see `sample` as if its spec were another."""
    search = served.ask("GET", f"searches/{served.searches['sample']}")
    text = json.dumps(search | {"evaluator": "training", "spec": search["spec"] | {"evaluator": "training", **changes}})
    tab.page.route(
        f"**/api/v1/searches/{search['id']}", lambda route: route.fulfill(body=text, content_type="application/json")
    )


def lines_again(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> list[SearchRequest]:
    """What the curl and the Python line of the page ask for."""
    line = tab.page.locator(".snippet code")
    expect(line).to_contain_text("curl")
    words = shlex.split(line.inner_text().replace("\\\n", ""))
    assert words[-2] == "-d"
    asked = [SearchRequest.model_validate_json(words[-1])]

    class Listener:
        def __init__(self, url: str) -> None: ...

        def submit(self, request: SearchRequest) -> None:
            asked.append(request)

    tab.page.get_by_role("button", name="Python", exact=True).click()
    expect(line).to_contain_text("Client(")
    monkeypatch.setattr(api.client, "Client", Listener)
    exec(line.inner_text(), {})
    return asked


def test_the_lines_ask_for_the_same_again(
    served: Served, open_tab: OpenTab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without what the server found itself, and with texts that look like values of JSON."""
    tab = open_tab()
    (tmp_path / "true-null").mkdir()
    for name in ("w.pt", "teacher.pt"):
        (tmp_path / name).touch()
    options = {"data": "folder:true-null", "epochs": 2, "amp": False, "augment": "it's false", "inherit": True}
    checkpoints = {"init": "w.pt", "init_digest": "ab12", "teacher": "teacher.pt", "teacher_digest": "cd34"}
    asked_as(served, tab, evaluator_options=options | checkpoints, seed=2**53 - 1, rungs=[1], eta=2)
    tab.go(f"#/searches/{served.searches['sample']}?view=spec")
    by_curl, by_python = lines_again(tab, monkeypatch)
    assert by_curl == by_python
    assert by_curl.evaluator_options == {"amp": False, "augment": "it's false", "teacher": "teacher.pt"}
    told = (by_curl.data, by_curl.epochs, by_curl.init, by_curl.inherit, by_curl.seed, by_curl.rungs, by_curl.eta)
    assert told == ("folder:true-null", 2, "w.pt", True, 2**53 - 1, [1], 2)
    read_request(by_curl, DataRoot(tmp_path, tmp_path / "home"))  # nothing is refused
    expect(tab.page.get_by_text("larger than a browser")).to_have_count(0)


SEED = 1_234_567_890_123_456_789


def test_a_seed_no_browser_keeps_is_left_out_and_told(
    served: Served, open_tab: OpenTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = open_tab()
    asked_as(served, tab, seed=SEED)
    tab.go(f"#/searches/{served.searches['sample']}?view=spec")
    assert [request.model_dump(include={"seed"}, exclude_unset=True) for request in lines_again(tab, monkeypatch)] == [
        {},
        {},
    ]
    expect(tab.page.locator(".notice")).to_contain_text("larger than a browser keeps exactly")
    expect(tab.page.locator(".search-spec dd").filter(has_text=re.compile(r"^about 12345678901234\d+$"))).to_have_count(
        1
    )
    tab.page.locator(".search-spec").get_by_role("link", name="New like this").click()
    expect(tab.page.get_by_role("status").filter(has_text="With the settings of sample")).to_contain_text(
        "but not its seed"
    )
    expect(tab.page.locator("input[name=seed]")).to_have_value("")
    expect(tab.page).not_to_have_url(re.compile("seed="))


def test_a_number_no_browser_keeps_is_refused_beside_its_field(open_tab: OpenTab) -> None:
    tab = open_tab(f"#/new?space=mobilenetv2-small&resolution=16&seed={2**53 + 1}")
    field = tab.page.locator(".field").filter(has=tab.page.locator("input[name=seed]"))
    expect(field.locator(".error")).to_have_text(re.compile(rf"At most {2**53 - 1}\b"))
    field.locator("input").evaluate("(box) => box.closest('details').open = true")
    field.locator("input").fill(str(2**53 - 1))
    expect(field.locator(".error")).to_have_count(0)
    expect(tab.page.locator(".snippet code")).to_contain_text(f'"seed":{2**53 - 1}')


ONCE = """async (answers) => {
  const { postOnce } = await import('./assets/js/core/once.js');
  const [real, seen] = [window.fetch, []];
  window.fetch = async (url, given) => {
    if (!String(url).endsWith('/stub')) return real(url, given);
    const [status, body] = answers[0];
    seen.push(given.headers['Idempotency-Key']);
    if (status === 0) throw new TypeError('Failed to fetch');
    return new Response(body, { status });
  };
  try {
    const used = [];
    for (; answers.length; answers.shift()) {
      await postOnce('stub', { of: answers[0][2] }).catch(() => {});
      used.push([...new Set(seen.splice(0))].join());
    }
    return used;
  } finally {
    window.fetch = real;
  }
}"""


def test_a_key_is_kept_while_nobody_knows_what_came_of_it(open_tab: OpenTab) -> None:
    """(status, what answered, body) -> which of the keys was sent."""
    steps: list[tuple[int, str, str, str]] = [
        (504, "<html>", "one", "a"),
        (0, "", "one", "a"),
        (502, "<html>", "other", "b"),
        (200, "<html>sign in here", "one", "a"),
        (500, '{"title": "Internal Server Error"}', "one", "a"),
        (408, "<html>", "one", "a"),
        (401, '{"title": "Unauthorized"}', "one", "a"),
        (403, "<html>Blocked</html>", "one", "a"),
        (404, "404 page not found", "one", "a"),
        (403, '{"message": "Forbidden"}', "one", "a"),
        (201, '{"id": 1}', "one", "a"),
        (422, '{"title": "Unprocessable Entity"}', "one", "c"),
        (409, '{"title": "Conflict"}', "one", "d"),
        (201, '{"id": 2}', "one", "e"),
        (201, '{"id": 3}', "other", "b"),
    ]
    used = open_tab("#/boards").page.evaluate(ONCE, [step[:3] for step in steps])
    names = {key: name for key, (*_, name) in zip(used, steps, strict=True)}
    assert [names[key] for key in used] == [name for *_, name in steps]
    assert len(names) == 5


@pytest.mark.parametrize(("minutes", "same"), [(9, True), (11, False)])
def test_a_key_is_forgotten_after_ten_minutes(open_tab: OpenTab, minutes: int, same: bool) -> None:
    """Who asks for the same hours later wants another one; whoever goes on pressing means the first."""
    page = open_tab("#/boards").page
    pause = "(ms) => { const now = Date.now; Date.now = () => now() + ms; }"
    [first] = page.evaluate(ONCE, [(504, "<html>", "one")])
    page.evaluate(pause, 9 * 60_000)
    [again] = page.evaluate(ONCE, [(504, "<html>", "one")])
    page.evaluate(pause, minutes * 60_000)
    [last] = page.evaluate(ONCE, [(201, '{"id": 1}', "one")])
    assert first == again
    assert (last == first) is same


def press(page: Page, name: str, path: str) -> None:
    """A button, until its request was answered and it can be pressed again."""
    button = page.get_by_role("button", name=name, exact=True)
    expect(button).not_to_have_attribute("aria-disabled", "true")
    with page.expect_response(lambda answer: answer.request.method == "POST" and answer.url.endswith(path)):
        button.click()


def test_a_search_submitted_twice_is_one(open_tab: OpenTab, tmp_path: Path) -> None:
    """A proxy gave up on the server, which did what was asked."""
    with Store.open(Settings(tmp_path / "home")) as store:
        token = store.tokens.create("ada", Role.USER)[1]
    lost = [True, True]

    def give_up(route: Route) -> None:
        if route.request.method != "POST" or not lost:
            return route.continue_()
        lost.pop()
        route.fetch()
        return route.fulfill(status=504, body="<html>504 Gateway Time-out</html>")

    with serving(tmp_path / "home", "--jobs", "0") as url:
        tab = open_tab(role=None, url=url)
        tab.page.goto(f"{url}/#token={token}")
        tab.page.locator(".shell").wait_for()
        tab.page.route("**/api/v1/searches", give_up)
        tab.go("#/new?space=mobilenetv2-small&resolution=16&channels=1&data=digits&epochs=1&trials=1")
        expect(tab.page.get_by_test_id("preview")).to_contain_text("of the space")
        for _ in range(2):
            press(tab.page, "Submit the search", "/api/v1/searches")
            expect(tab.page.get_by_role("alert").filter(has_text="Error 504")).to_be_visible()
        press(tab.page, "Submit the search", "/api/v1/searches")
        tab.page.wait_for_url(re.compile(r"#/searches/\d+"))
        stored = httpx.get(f"{url}/api/v1/searches", headers={"Authorization": f"Bearer {token}"}, timeout=60).json()
    assert len(stored["items"]) == 1


def a_job(search: int) -> dict[str, Any]:
    """Of an export that failed."""
    at = "2026-01-01T12:00:00Z"
    nothing = dict.fromkeys(("board", "worker", "progress", "result"))
    about = {"id": 7, "kind": "export", "search_id": search, "owner": "the-admin", "spec": {"trial": 3}}
    ended = {"state": "failed", "wanted": "run", "attempts": 1, "error": "no space left"}
    return nothing | about | ended | dict.fromkeys(("created_at", "started_at", "finished_at"), at)


@pytest.mark.parametrize(
    ("place", "name", "path"),
    [
        ("#/searches/{sample}?view=jobs", "Train the winner", "/api/v1/jobs/train"),
        ("#/jobs/7", "Run again", "/api/v1/jobs/export"),
    ],
    ids=["begin", "run again"],
)
def test_a_job_asked_for_again_has_its_key(served: Served, open_tab: OpenTab, place: str, name: str, path: str) -> None:
    tab = open_tab()
    keys: list[str] = []
    answers = [504, 502, 422, 422]

    def answer(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        route.fulfill(status=answers[len(keys) - 1], json={"title": "told"})

    asked_as(served, tab)
    tab.page.route("**/api/v1/jobs/7", lambda route: route.fulfill(json=a_job(served.searches["sample"])))
    tab.page.route(f"**{path}", answer)
    tab.go(place.format(**served.searches))
    for _ in answers:
        press(tab.page, name, path)
    first, again, refused, anew = keys
    assert first == again == refused != anew


@pytest.mark.parametrize(
    ("kind", "spec", "again"),
    [
        ("profile", {"space": "light-nas", "seed": 2**53 - 1}, True),
        ("profile", {"space": "light-nas", "seed": SEED}, False),
        ("verify", {"top": 1, "random": 5, "seed": SEED, "passes": None}, False),
        ("verify", {"top": 1, "random": None, "seed": SEED, "passes": None}, True),  # it has no random networks
    ],
)
def test_a_job_is_run_again_with_its_own_seed_or_not_at_all(
    served: Served, open_tab: OpenTab, kind: str, spec: dict[str, Any], again: bool
) -> None:
    """A browser rounds large ones: that would be another job."""
    tab = open_tab()
    told = a_job(served.searches["sample"]) | {"kind": kind, "board": "here", "spec": spec}
    tab.page.route("**/api/v1/jobs/7", lambda route: route.fulfill(json=told))
    tab.go("#/jobs/7")
    asked = tab.page.get_by_role("region", name="What was asked")
    expect(asked.locator("dd").first).to_be_visible()
    expect(tab.page.get_by_role("button", name="Run again")).to_have_count(int(again))
    about = asked.locator("dd").filter(has_text=re.compile(r"^about 12345678901234\d+$"))
    expect(about).to_have_count(int(not again))
    expect(asked.locator(".notice")).to_have_count(int(not again))
    if again and kind == "profile":
        expect(asked).to_contain_text(str(2**53 - 1))


def test_a_log_is_saved_once_it_is_there(served: Served, open_tab: OpenTab) -> None:
    tab = open_tab()
    pages = re.compile(r"/api/v1/events/page\?.*search_id=")
    tab.page.route(pages, lambda route: route.fulfill(status=500, json={}))
    tab.go(f"#/searches/{served.searches['sample']}?view=log")
    save = tab.page.get_by_role("button", name="The lines shown as CSV")
    expect(tab.page.locator(".table-log .failure")).to_be_visible()
    expect(save).to_have_attribute("aria-disabled", "true")
    tab.page.unroute(pages)
    tab.page.locator(".table-log .failure").get_by_role("button").click()
    expect(save).not_to_have_attribute("aria-disabled", "true")
    with tab.page.expect_download() as saved:
        save.click()
    assert saved.value.suggested_filename == "sample-log.csv"
