"""Events and answers overtake each other: whatever comes first, a page shows in the end what is (js/core, js/views)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dashboard import PATIENCE_MS, Served, Tab
from playwright.sync_api import Page, expect

OpenTab = Callable[..., Tab]

# A server in the page: `answers` by path or ours(path), `asked` in order, `tell` an event of the stream.
SERVER = """async (patience_ms) => {
  const { reconnect } = await import('./assets/js/core/events.js');
  const real = window.fetch;
  const text = new TextEncoder();
  let [stream, newest] = [null, 1_000_000];
  Object.assign(window, { answers: {}, asked: [] });
  window.load = (name) => import(`./assets/js/${name}.js`);
  window.until = async (holds) => {
    const end = performance.now() + patience_ms;
    while (!holds()) {
      if (performance.now() > end) throw new Error(`in vain: ${holds}`);
      await new Promise((go) => setTimeout(go, 10));
    }
  };
  window.gate = () => {
    const made = {};
    made.passed = new Promise((open) => Object.assign(made, { open }));
    return made;
  };
  window.tell = async (kind, about) => {
    await until(() => stream !== null);
    const nobody = { search_id: null, job_id: null, trial: null, data: {}, created_at: '2026-01-01T12:00:00Z' };
    const event = { id: (newest += 1), kind, ...nobody, ...about };
    stream.enqueue(text.encode(`id: ${event.id}\\ndata: ${JSON.stringify(event)}\\n\\n`));
  };
  window.show = async (component, props = {}) => {
    const { html, render } = await load('core/ui');
    render(html`<${component} ...${props} />`, document.body.appendChild(document.createElement('div')));
  };
  window.fetch = async (url, given = {}) => {
    const at = new URL(url, document.baseURI);
    const path = at.pathname.split('/api/v1/')[1];
    if (path === 'events') {
      return new Response(new ReadableStream({
        start(opened) {
          stream = opened;
          given.signal.addEventListener('abort', () => {
            if (stream === opened) stream = null;
            opened.error(new DOMException('it is broken off', 'AbortError'));
          });
        },
      }));
    }
    if (!(path in answers)) return real(url, given);
    asked.push(path);
    const told = await answers[path](at.searchParams);
    given.signal?.throwIfAborted();
    return told === null ? Response.json({ title: 'Not Found' }, { status: 404 }) : Response.json(told);
  };
  reconnect();
  await until(() => stream !== null);
}"""


@pytest.fixture
def tab(open_tab: OpenTab) -> Tab:
    """A page whose answers and events the test tells: `answers`, `tell`."""
    tab = open_tab("#/boards")
    expect(tab.page.locator(".link-state")).to_have_attribute("data-state", "live")
    tab.page.evaluate(SERVER, PATIENCE_MS)
    return tab


# Made at 10:00; at 12:00 trial 1 is complete and 7 runs.
TRIALS = """async () => {
  const { createTrials } = await load('views/search/model');
  window.columns = {
    event: 45, next: null, began_at: '2026-01-01T10:00:00Z', states: ['running', 'complete', 'pruned', 'failed'],
    number: [1, 7], state: [1, 0], accuracy: [0.8, null], reward: [0.8, null], seconds: [60, null],
    finished_s: [60, null], costs: { flops: [2e6, 1e6] }, attrs: { chain: [0, 1] },
  };
  const event = (id, kind, trial, created_at, data) => ({ id, kind, trial, search_id: 3, created_at, data });
  const ended = (id, trial, accuracy, finished_at) => event(id, 'trial.ended', trial, finished_at,
    { state: 'complete', accuracy, reward: accuracy, seconds: 60, finished_at });
  window.happened = [
    ended(46, 7, 0.95, '2026-01-01T12:00:00Z'),
    event(47, 'trial.started', 8, '2026-01-01T12:00:00Z', { costs: { flops: 5e5 }, attrs: { chain: 0 } }),
    ended(48, 8, 0.9, '2026-01-01T12:01:00Z'),
  ];
  window.trials = createTrials(3);
  answers['searches/3/columns'] = () => columns;
  const behind = (after) => happened.filter(({ id }) => id > after);
  answers['events/page'] = (query) => ({ items: behind(Number(query.get('after'))), last: 48 });
  window.told = () => {
    const rows = [1, 7, 8].map((number) => trials.indexOf(number));
    const each = (values) => rows.map((row) => values[row]);
    return {
      flops: each(trials.costs.flops), chain: each(trials.attrs.chain),
      front: trials.front('flops').map((row) => trials.number[row]),
      best: trials.best('time').map((row) => trials.number[row]),
      ended: each(trials.finished_s).map((s) => new Date(trials.began + 1000 * s).toISOString().slice(11, 16)),
    };
  };
}"""
TOLD = {
    "flops": [2e6, 1e6, 5e5],
    "chain": [0, 1, 0],
    "front": [8, 7],
    "best": [1, 7],
    "ended": ["10:01", "12:00", "12:01"],
}


@pytest.mark.parametrize(
    "course",
    [
        "await trials.load();",
        "await trials.load(); trials.apply(happened);",
        # Before the first answer.
        "answers['searches/3/columns'] = () => (trials.apply(happened), columns); await trials.load();",
        # Before that of a later page: trial 7 is on the second one.
        """const names = ['number', 'state', 'accuracy', 'reward', 'seconds', 'finished_s'];
           const page = (k) => ({
             ...columns, ...Object.fromEntries(names.map((name) => [name, [columns[name][k]]])),
             costs: { flops: [columns.costs.flops[k]] }, attrs: { chain: [k] },
           });
           answers['searches/3/columns'] = (query) => {
             if (query.get('after') === null) return { ...page(0), next: 1 };
             trials.apply(happened);
             return page(1);
           };
           await trials.load();""",
        # The stream tells its end, and only what is read page by page how it began.
        """answers['searches/3/columns'] = () => (trials.apply(happened.slice(2)), columns);
           await trials.load();""",
        # So much was missed that only its end is told; then all is read again.
        """answers['events/page'] = () => ({ items: [], last: 48 });
           await trials.load();
           trials.apply([happened[0], happened[2]]);
           const [good, costs, attrs] = [[0.8, 0.95, 0.9], { flops: [2e6, 1e6, 5e5] }, { chain: [0, 1, 0] }];
           Object.assign(columns, { event: 48, number: [1, 7, 8], state: [1, 1, 1], accuracy: good, reward: good,
             seconds: [60, 60, 60], finished_s: [60, 7200, 7260], costs, attrs });
           await trials.load();""",
    ],
    ids=["catch-up", "twice", "first-page", "later-page", "end-before-start", "read-again"],
)
def test_trials_are_the_same_whatever_comes_first(tab: Tab, course: str) -> None:
    """Their costs, fronts and times: a search begins when it was made, not with an event."""
    tab.page.evaluate(TRIALS)
    assert tab.page.evaluate(f"async () => {{ {course} return told(); }}") == TOLD


AWAY = """async () => {
  const { connection } = await import('./assets/js/core/events.js');
  const real = window.fetch;
  Object.assign(window, { states: [], held: true, tried: 0 });
  connection.subscribe(({ state, missed }) => states.push(missed ? `${state}, missed` : state));
  const now = Date.now;
  Date.now = () => now() + 3600_000;
  window.fetch = (url, given) => {
    if (String(url).includes('events/page')) return Promise.resolve(Response.json({ items: [], last: 1_000_000_000 }));
    if (!held || !String(url).endsWith('/events')) return real(url, given);
    window.tried += 1;
    return new Promise((_, broken) => given.signal.addEventListener('abort', () => broken(given.signal.reason)));
  };
}"""
HIDE = """(hidden) => {
  Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def test_what_was_missed_is_told_after_a_failed_attempt_too(tab: Tab) -> None:
    """A tab shown for a moment after a weekend, hidden before its stream is open, and shown again."""
    page = tab.page
    state = page.locator(".link-state")
    page.evaluate(
        """async () => { // who has heard nothing misses nothing
          const { listen } = await load('core/events');
          window.heard = false;
          listen({ kinds: ['test.first'] }, () => (window.heard = true));
          await tell('test.first');
          await until(() => heard);
        }"""
    )
    page.evaluate(HIDE, True)
    expect(state).to_have_attribute("data-state", "paused")
    page.evaluate(AWAY)
    page.evaluate(HIDE, False)
    page.wait_for_function("() => tried === 1")
    page.evaluate(HIDE, True)
    expect(state).to_have_attribute("data-state", "paused")
    page.evaluate("() => { window.held = false; }")
    page.evaluate(HIDE, False)
    expect(state).to_have_attribute("data-state", "live")
    assert page.evaluate("states") == ["connecting", "paused", "connecting", "live, missed"]
    page.evaluate("async () => (await load('core/events')).reconnect()")
    page.wait_for_function("() => states.length > 5")
    assert page.evaluate("states.at(-1)") == "live"  # it is told once


LIST = """async () => {
  const { usePages, useAskAgain } = await load('core/pages');
  const item = (id, state) => ({ id, state });
  window.gates = [];
  answers.stubs = () => {
    const own = { ...gate(), told: null };
    gates.push(own);
    return own.passed;
  };
  for (const id of [1, 2, 3]) answers[`stubs/${id}`] = answers.stubs;
  window.List = () => {
    window.pages = usePages('stubs', {});
    window.ask = useAskAgain('stubs', pages, { fits: ({ state }) => state !== 'other' }, 0);
  };
  window.page = (...items) => ({ items: items.map(([id, state]) => item(id, state)), next: null });
  window.item = item;
  window.shown = () => Object.fromEntries([...pages.items].map(([id, { state }]) => [id, state]));
  window.request = async (work) => { // what it asks, until it is answered by open(answer)
    const before = gates.length;
    work();
    await until(() => gates.length > before);
    return gates[before];
  };
  const first = await request(() => show(List));
  first.open(page([1, 'running'], [3, 'running']));
  await until(() => !pages.loading);
}"""


@pytest.mark.parametrize(
    ("course", "found"),
    [
        # An item is asked for twice.
        (
            """const [older, newer] = [await request(() => ask(1)), await request(() => ask(1))];
               newer.open(item(1, 'complete'));
               await until(() => shown()[1] === 'complete');
               older.open(item(1, 'running'));""",
            {"1": "complete", "2": "last", "3": "running"},
        ),
        # What is slower than events come is shown all the same.
        (
            """const older = await request(() => ask(1));
               await request(() => ask(1));
               older.open(item(1, 'paused'));
               await until(() => shown()[1] === 'paused');""",
            {"1": "paused", "2": "last", "3": "running"},
        ),
        # It no longer fits, or is no more; then an older answer says that it does.
        (
            """const [older, newer] = [await request(() => ask(1)), await request(() => ask(1))];
               newer.open(item(1, 'other'));
               await until(() => !(1 in shown()));
               const late = await request(() => ask(3));
               pages.drop(3);
               await until(() => !(3 in shown()));
               older.open(item(1, 'running'));
               late.open(item(3, 'running'));""",
            {"2": "last"},
        ),
        # Items are put and dropped while the list is on its way.
        (
            """const list = await request(() => pages.reload());
               pages.put(item(1, 'complete'));
               pages.drop(3);
               (await request(() => ask(2))).open(item(2, 'new'));
               await until(() => shown()[2] === 'new');
               list.open(page([1, 'running'], [3, 'running']));
               await until(() => !pages.loading);
               if (shown()[2] !== 'new') throw new Error('it is gone');""",
            {"1": "complete", "2": "last"},
        ),
        # A list is newer than an item that was asked for before it.
        (
            """const older = await request(() => ask(1));
               const list = await request(() => pages.reload());
               list.open(page([1, 'complete']));
               await until(() => !pages.loading);
               older.open(item(1, 'running'));""",
            {"1": "complete", "2": "last"},
        ),
    ],
    ids=["two-answers", "in-order", "gone", "list-late", "item-late"],
)
def test_an_older_answer_never_replaces_a_newer_one(tab: Tab, course: str, found: dict[str, str]) -> None:
    tab.page.evaluate(LIST)
    # Answers are taken in the order in which they come, so the last one tells that those before it were taken.
    last = "(await request(() => ask(2))).open(item(2, 'last')); await until(() => shown()[2] === 'last');"
    assert tab.page.evaluate(f"async () => {{ {course} {last} return shown(); }}") == found


def test_an_older_answer_fills_in_what_a_newer_one_lacks(tab: Tab) -> None:
    """All of an item was asked for before a list, which tells less of it; what is gone stays gone."""
    page = tab.page
    page.evaluate(LIST)
    found = page.evaluate(
        """async () => {
          const full = (id) => ({ id, state: 'running', spec: { trials: 5 } });
          const [older, late] = [await request(() => ask(1)), await request(() => ask(3))];
          (await request(() => pages.reload())).open(page([1, 'complete']));
          await until(() => !pages.loading);
          pages.drop(3);
          late.open(full(3));
          older.open(full(1));
          await until(() => pages.items.get(1).spec);
          return [...pages.items.values()];
        }"""
    )
    assert found == [{"id": 1, "state": "complete", "spec": {"trials": 5}}]


def a_search(served: Served, state: str) -> dict[str, Any]:
    """Search 3, as GET searches/3 tells it."""
    return {**served.ask("GET", f"searches/{served.searches['sample']}"), "id": 3, "name": "s", "state": state}


def test_what_an_action_answers_is_as_old_as_the_press(tab: Tab, served: Served) -> None:
    """An event of what it did may have had the search asked for before its own answer comes."""
    page = tab.page
    give(page, "searches", {"items": [a_search(served, "paused")], "next": None})
    give(page, "searches/3/improvements", {"items": []})
    page.evaluate(
        """() => {
          window.gates = [];
          for (const path of ['searches/3', 'searches/3/resume']) {
            answers[path] = () => {
              gates.push(gate());
              return gates.at(-1).passed;
            };
          }
        }"""
    )
    tab.go("#/searches")
    state = page.get_by_test_id("search-3").locator(".badge")
    expect(state).to_have_text("paused")

    def press_and_ask(event: int) -> None:
        """The press is not answered yet, what its event makes be asked for neither."""
        page.get_by_role("button", name="Resume: s").click()
        page.wait_for_function("() => gates.length === 1")
        page.evaluate("() => tell('search.state', { search_id: 3, data: { state: 'queued' } })")
        page.wait_for_function("() => gates.length === 2")

    def answer(number: int, told: str) -> None:
        page.evaluate("([number, told]) => gates[number].open(told)", [number, a_search(served, told)])

    press_and_ask(1)
    answer(0, "queued")
    expect(state).to_have_text("queued")
    answer(1, "running")
    expect(state).to_have_text("running")

    page.evaluate("() => { gates.length = 0; return tell('search.state', { search_id: 3 }); }")
    page.wait_for_function("() => gates.length === 1")
    answer(0, "paused")
    expect(state).to_have_text("paused")
    page.evaluate("() => { gates.length = 0; }")
    press_and_ask(2)
    answer(1, "complete")
    expect(state).to_have_text("complete")
    answer(0, "queued")
    expect(page.get_by_text("s goes on")).to_have_count(2)  # the answer was taken
    expect(state).to_have_text("complete")


STEPS = """async () => {
  const { useRunningSteps } = await load('views/search/steps');
  const { useState } = await load('core/ui');
  window.step = (step) => ({ step, steps: 9, metrics: { loss: step } });
  // 100 000 steps of trial 0; trial 5 began before them, trial 6 just now.
  const told = {
    99_500: ['trial.started', 6, {}], 99_990: ['trial.step', 5, step(4)], 99_991: ['trial.step', 6, step(2)],
  };
  const event = (id) => {
    const [kind, trial, data] = told[id] ?? ['trial.step', 0, step(1)];
    return { id, kind, trial, data, search_id: 3, job_id: null, created_at: '2026-01-01T11:00:00Z' };
  };
  answers['events/page'] = (query) => {
    const items = [];
    for (let id = Math.min(query.get('before'), 100_001) - 1; items.length < 1000; id -= 1) {
      if (query.getAll('kind').includes(event(id).kind)) items.unshift(event(id));
    }
    return { items, last: items.at(-1).id };
  };
  window.found = () => Object.fromEntries([...steps].map(([trial, { at }]) => [trial, [...at.keys()]]));
  window.steps = new Map();
  window.Steps = () => {
    const [numbers, run] = useState([6]);
    Object.assign(window, { run, steps: useRunningSteps(3, numbers) });
  };
}"""


def test_steps_are_read_as_far_as_the_trials_began(tab: Tab) -> None:
    """No further where all of them have, and not at all for those whose start the stream told."""
    page = tab.page
    page.evaluate(STEPS)
    page.evaluate("() => show(Steps)")
    page.wait_for_function("() => found()[6]")
    page.evaluate(
        """async () => {
          await tell('trial.started', { search_id: 3, trial: 7 });
          await tell('trial.step', { search_id: 3, trial: 7, data: step(3) });
          await until(() => found()[7]);
          run([6, 7]);
          await tell('trial.step', { search_id: 3, trial: 7, data: step(4) });
          await until(() => found()[7].length === 2);
        }"""
    )
    assert page.evaluate("found()") == {"6": [2], "7": [3, 4]}
    assert page.evaluate("asked.length") == 1
    page.evaluate("() => run([5, 6, 7])")  # one that began before all that is read
    page.wait_for_function("() => asked.length === 6")
    assert page.evaluate("found()") == {"5": [4], "6": [2], "7": [3, 4]}


def test_a_late_interval_is_not_the_next_trials(tab: Tab) -> None:
    found = tab.page.evaluate(
        """async () => {
          const { createIntervals } = await load('views/search/intervals');
          const slow = gate();
          answers['searches/3/trials/1/architecture'] = () => slow.passed;
          answers['searches/3/trials/2/architecture'] = () => ({ totals: { low_ms: 2, high_ms: 3 } });
          answers['searches/3/trials/3/architecture'] = () => ({ totals: { low_ms: 3, high_ms: 4 } });
          const [intervals, found] = [createIntervals(3), []];
          const look = (number) => intervals(number, (told) => found.push([number, told]));
          look(1);
          await until(() => asked.length === 1);
          look(2);
          await until(() => found.length === 1);
          slow.open({ totals: { low_ms: null, high_ms: null } });
          look(3); // when this is answered, that is long there
          await until(() => found.some(([number]) => number === 3));
          look(1);
          return found;
        }"""
    )
    assert found == [[2, {"low": 2, "high": 3}], [3, {"low": 3, "high": 4}], [1, None]]


def job(**more: Any) -> dict[str, Any]:
    """A verification of search 3, as GET jobs/{id} tells it."""
    at = "2026-01-01T10:00:00Z"
    told = {
        "id": 5,
        "kind": "verify",
        "state": "running",
        "wanted": "run",
        "owner": "ada",
        "search_id": 3,
        "board": None,
    }
    kept = {"spec": {"search": 3}, "progress": None, "result": None, "error": None, "worker": "w", "attempts": 1}
    return {**told, **kept, "created_at": at, "started_at": at, "finished_at": None, "key": None, **more}


def give(page: Page, path: str, told: Any) -> None:
    """What a path answers from now on."""
    page.evaluate("([path, told]) => { answers[path] = () => told; }", [path, told])


def test_a_job_goes_with_its_search(tab: Tab) -> None:
    page = tab.page
    give(page, "jobs/5", job())
    give(page, "searches/3", {"id": 3, "name": "doomed"})
    tab.go("#/jobs/5")
    expect(page.get_by_role("link", name="doomed")).to_be_visible()
    page.evaluate("() => tell('search.deleted', { data: { search_id: 3, name: 'doomed' } })")
    expect(page.get_by_role("heading", name="This job was deleted")).to_be_visible()


def test_jobs_of_a_deleted_search_do_not_come_back(tab: Tab) -> None:
    """Their list, or one of them, was on its way; another search may be given the number."""
    page = tab.page
    page.evaluate("jobs => Object.assign(window, { jobs, lists: [] })", [job(id=number) for number in (5, 6, 7, 8)])
    page.evaluate(
        """async () => {
          const { useJobs } = await load('views/jobs/live');
          answers.jobs = () => {
            lists.push(gate());
            return lists.at(-1).passed;
          };
          jobs[1].search_id = 4;
          answers['jobs/5'] = () => jobs[0];
          answers['jobs/6'] = () => jobs[1];
          answers['jobs/7'] = () => jobs[2];
          window.deleted = (search_id) => tell('search.deleted', { data: { search_id, name: 's' } });
          window.changed = ({ id, search_id }) => tell('job.state', { job_id: id, search_id, data: {} });
          window.shown = () => list.jobs.map(({ id }) => id);
          await show(() => {
            window.list = useJobs({});
          });
          await until(() => lists.length === 1);
        }"""
    )
    page.evaluate(
        """async () => {
          await deleted(3);
          await tell('job.progress', { job_id: 0 }); // events are handed on in order
          await new Promise(requestAnimationFrame);
          await new Promise(requestAnimationFrame);
          lists[0].open({ items: [jobs[0], jobs[1], jobs[3]], next: null });
          await until(() => !list.loading);
        }"""
    )
    assert page.evaluate("[shown(), [...list.items.keys()]]") == [[6], [6]]
    page.evaluate(
        """async () => {
          await changed(jobs[0]);
          await until(() => asked.at(-1) === 'jobs/5');
          await changed(jobs[1]);
          await until(() => asked.at(-1) === 'jobs/6');
        }"""
    )
    assert page.evaluate("shown()") == [6]
    page.evaluate(
        """async () => {
          await tell('search.created', { search_id: 3 });
          await changed(jobs[2]);
          await until(() => shown().length > 1);
        }"""
    )
    assert page.evaluate("shown()") == [7, 6]


def test_a_searchs_job_asks_when_a_trial_has_ended(tab: Tab, served: Served) -> None:
    """Nothing is polled."""
    page = tab.page
    search = {**served.ask("GET", f"searches/{served.searches['sample']}"), "id": 3, "name": "s", "wanted": 20}
    give(page, "jobs/5", job(kind="search", spec={}))
    give(page, "searches/3", {**search, "trials": {"running": 1, "complete": 7, "pruned": 0, "failed": 0}})
    page.clock.install()
    tab.go("#/jobs/5")
    expect(page.get_by_text("7 of 20")).to_be_visible()
    page.evaluate(
        "() => { asked.length = 0; return tell('test.first'); }"
    )  # from now on a stream may be silent for 45 s
    page.clock.run_for(15_000)
    assert page.evaluate("asked") == []
    give(page, "searches/3", {**search, "trials": {"running": 1, "complete": 8, "pruned": 0, "failed": 0}})
    page.evaluate("() => tell('trial.ended', { search_id: 3, trial: 8 })")
    expect(page.get_by_text("8 of 20")).to_be_visible()
