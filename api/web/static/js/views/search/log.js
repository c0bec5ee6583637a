/** What happened in a search, in order; the newest at the bottom. */
import { get } from "../../core/api.js";
import { connection, useEvents } from "../../core/events.js";
import { clock, count, dateTime, plural } from "../../core/format.js";
import { setQuery, currentRoute } from "../../core/router.js";
import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "../../core/ui.js";
import { Button } from "../../ui/controls.js";
import { Empty, Failure, Loading } from "../../ui/states.js";
import { saveCsv } from "../../core/csv.js";
import { GROUPS, Sentence, sentenceOf } from "./sentences.js";

const NEWEST = Number.MAX_SAFE_INTEGER;
const PAGE = 300;
const MOST = 1200; // lines, while the newest are followed
const SHOW_EVERY_MS = 250;

/** `query.log`: the chosen groups, "ended,steps"; without it all but the steps. */
export function Log({ search, query = currentRoute().query }) {
  const chosen = GROUPS.filter(({ id }) => (query.log === undefined ? id !== "steps" : query.log.split(",").includes(id)));
  const kinds = chosen.flatMap((group) => group.kinds);
  const log = useLog(search.id, kinds);
  const box = useRef(null);
  const [following, follow] = useState(true);
  const older = useRef(null); // the height before older lines came above

  useLayoutEffect(() => {
    if (!box.current) return;
    if (older.current !== null && log.first !== older.current.first) {
      box.current.scrollTop += box.current.scrollHeight - older.current.height;
      older.current = null;
    } else if (following) box.current.scrollTop = box.current.scrollHeight;
  }, [log.lines, following]);

  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    const below = scrollHeight - clientHeight - scrollTop < 24;
    if (below !== following) {
      follow(below);
      log.hold(!below);
    }
  };
  const latest = () => {
    log.hold(false);
    follow(true);
  };
  const more = () => {
    older.current = { height: box.current.scrollHeight, first: log.first };
    log.more();
  };
  const toggle = (id) => {
    const ids = chosen.map((group) => group.id);
    const wanted = ids.includes(id) ? ids.filter((one) => one !== id) : GROUPS.map((group) => group.id).filter((one) => one === id || ids.includes(one));
    setQuery({ log: wanted.length ? wanted.join(",") : "none" });
  };
  const csv = () => saveCsv(`${search.name}-log.csv`, {
    event: log.lines.map(({ id }) => id), at: log.lines.map(({ created_at: at }) => at), kind: log.lines.map(({ kind }) => kind),
    trial: log.lines.map(({ trial }) => trial), job: log.lines.map(({ job_id: job }) => job), text: log.lines.map((event) => sentenceOf(event, search).map(({ text }) => text).join("")),
  });

  return html`<section class="table-log" aria-label="Log">
    <div class="table-above">
      <span class="row" role="group" aria-label="Show">${GROUPS.map(({ id, text }) => html`<button type="button" class="chip" key=${id}
        aria-pressed=${String(chosen.some((group) => group.id === id))} onClick=${() => toggle(id)}>${text}</button>`)}</span>
      <span class="grow"></span>
      <${Button} kind="quiet" icon="download" label="The lines shown as CSV" disabled=${log.lines === null} onClick=${csv}>CSV<//>
    </div>
    ${log.error && html`<${Failure} problem=${log.error} retry=${log.reload} />`}
    ${log.lines === null ? !log.error && html`<${Loading} what="the log" />`
      : log.lines.length === 0 ? html`<${Empty} title="Nothing here yet">${chosen.length ? "What happens is told here as it happens." : "Choose above what is to be shown."}<//>`
      : html`<div class="table-log-box"><div class="table-log-lines" ref=${box} role="region" tabindex="0" aria-label=${`Log of ${search.name}, the newest at the end`} onScroll=${onScroll} data-testid="log">
        <p class="table-log-older">${log.next === null ? html`<span class="muted small">The beginning</span>` : html`<${Button} busy=${log.loading} onClick=${more}>Load older<//>`}</p>
        <ol>${log.lines.map((event) => lineOf(event, search))}</ol>
      </div>
      ${!following && html`<${Button} kind="primary" icon="down" onClick=${latest} data-testid="log-follow">${log.held ? `${plural(log.held, "new line")}` : "To the newest"}<//>`}</div>`}
    <p class="muted small">${log.lines ? `${count(log.lines.length)} lines` : ""}${following ? ", following the newest" : ""}</p>
  </section>`;
}

const lines = new WeakMap();

/** The element of an event is made once: of a thousand lines Preact then looks at the new ones only. */
function lineOf(event, search) {
  if (!lines.has(event)) lines.set(event, html`<${Line} key=${event.id} event=${event} search=${search} />`);
  return lines.get(event);
}

function Line({ event, search }) {
  const { id, kind, created_at: at, data } = event;
  const state = kind === "trial.ended" || kind === "search.state" || kind === "job.state" ? data.state : "";
  return html`<li class=${`table-line ${state}`} data-kind=${kind} data-event=${id}><time datetime=${at} title=${dateTime(at)}>${clock(at)}</time><span class="table-said"><${Sentence} event=${event} search=${search} /></span></li>`;
}

/**
 * The lines of some kinds, newest page first, then live. {lines: null while nothing is known, first, next: whether there are
 * older ones (null: none), held: how many wait below, hold(bool), more(), reload(), error, loading}
 */
function useLog(searchId, kinds) {
  const key = kinds.join();
  const fresh = { key, lines: null, next: null, error: null, loading: true, held: 0 };
  const [state, setState] = useState(fresh);
  const live = useRef({ key, waiting: [], held: false, timer: null });
  if (live.current.key !== key) live.current = { key, waiting: [], held: false, timer: null };

  const read = useCallback(async (before, signal) => {
    if (!kinds.length) return setState({ ...fresh, lines: [], loading: false });
    setState((was) => (was.key === key ? { ...was, error: null, loading: true } : fresh));
    try {
      const { items } = await get("events/page", { search_id: searchId, kind: kinds, before, limit: PAGE }, { signal });
      const next = items.length === PAGE ? items[0].id : null;
      setState((was) => {
        if (was.key !== key) return was;
        const now = { ...was, error: null, loading: false };
        const known = was.lines ?? [];
        if (before !== NEWEST) return { ...now, lines: merged(items, known), next };
        const joined = known.length > 0 && items[0]?.id <= known.at(-1).id; // without a gap between
        return joined ? { ...now, lines: merged(known, items) } : { ...now, lines: items, next };
      });
    } catch (error) {
      if (error.name !== "AbortError") setState((was) => (was.key === key ? { ...was, error, loading: false } : was));
    }
  }, [searchId, key]);

  useEffect(() => {
    const control = new AbortController();
    read(NEWEST, control.signal).then(show);
    return () => control.abort();
  }, [read]);
  useEffect(() => connection.subscribe(({ state: now }) => {
    if (now === "live") read(NEWEST).then(show); // what came before the stream began is in the page
  }), [read]);
  useEffect(() => () => clearTimeout(live.current.timer), []);

  function show() {
    const own = live.current;
    own.timer = null;
    setState((was) => {
      if (was.key !== own.key || was.lines === null || !own.waiting.length) return was;
      if (own.held) return { ...was, held: own.waiting.length };
      const all = merged(was.lines, own.waiting);
      own.waiting = [];
      const cut = Math.max(0, all.length - MOST);
      return { ...was, lines: cut ? all.slice(cut) : all, next: cut ? all[cut].id : was.next, held: 0 };
    });
  }

  useEvents({ search: searchId, kinds }, (events) => {
    const own = live.current;
    own.waiting.push(...events);
    if (own.waiting.length > 2 * MOST) own.waiting.splice(0, own.waiting.length - MOST);
    own.timer ??= setTimeout(show, SHOW_EVERY_MS);
  });

  const now = state.key === key ? state : fresh;
  return {
    ...now, first: now.lines?.[0]?.id,
    hold(held) {
      live.current.held = held;
      if (!held) show();
    },
    more: () => read(now.next),
    reload: () => read(NEWEST).then(show),
  };
}

/** In order, each once. */
function merged(one, other) {
  const known = new Map([...one, ...other].map((event) => [event.id, event]));
  return [...known.values()].sort((a, b) => a.id - b.id);
}
