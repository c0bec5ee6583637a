/**
 * The event stream of the server: one per tab, whoever listens. It goes on where it was cut off (Last-Event-ID), and is
 * closed while the tab is hidden, because a browser has six connections per server for all its tabs.
 */
import { createParser } from "../../vendor/eventsource-parser.js";
import { get, url } from "./api.js";
import { expire, session, token } from "./session.js";
import { store } from "./store.js";
import { useEffect, useRef } from "./ui.js";

/**
 * state: connecting, live, lost (retryAt: when it is tried again, ms since 1970), paused (hidden tab).
 * missed: so much happened while it was away that it begins anew: what was read before has to be read again.
 */
export const connection = store({ state: "connecting", retryAt: null, missed: false });

const SILENCE_MS = 45_000; // the server sends a comment every 15 s
const AWAY_MS = 60_000; // from then on it is asked how much was missed
const MOST_MISSED = 5000; // events; a weekend's would take a browser minutes
const SHORT_MS = 5000; // a stream that ends sooner is none
const listeners = new Set();
let waiting = [];
let handing = false;
let last = null; // number of the newest event that is known
let heardAt = null;
let missed = false; // what `connection` has yet to tell: an attempt that fails must not forget it
let control = null;
let failures = 0;

/** Batches of events that match {search, job, kinds}, at most one call per frame. Returns how to stop. */
export function listen(filter, handler) {
  const listener = { filter: filter ?? {}, handler };
  listeners.add(listener);
  run();
  return () => listeners.delete(listener);
}

/** `listen` while a component lives; the filter is compared by value. */
export function useEvents(filter, handler) {
  const latest = useRef(handler);
  latest.current = handler;
  useEffect(() => listen(filter, (events) => latest.current(events)), [JSON.stringify(filter)]);
}

/** Try again now. */
export function reconnect() {
  control?.abort();
  control = null;
  run();
}

function matches({ search, job, kinds }, event) {
  const about = event.search_id ?? event.data?.search_id; // a deleted search's last event is nobody's
  const who = event.job_id ?? event.data?.job_id;
  return (search === undefined || about === search) && (job === undefined || who === job)
    && (kinds === undefined || kinds.includes(event.kind));
}

function hand() {
  handing = false;
  const events = waiting;
  waiting = [];
  for (const { filter, handler } of [...listeners]) {
    const own = events.filter((event) => matches(filter, event));
    if (!own.length) continue;
    try {
      handler(own);
    } catch (error) {
      console.error(error); // the others hear of it all the same
    }
  }
}

function take(event) {
  waiting.push(event);
  if (handing) return;
  handing = true;
  requestAnimationFrame(hand);
}

async function run() {
  if (control || session.get().state !== "in") return;
  if (document.hidden) return connection.set({ state: "paused", retryAt: null });
  const own = (control = new AbortController());
  if (connection.get().state !== "lost") connection.set({ state: "connecting", retryAt: null });
  let [silence, began, wait] = [null, 0, null];
  const listenOn = () => {
    clearTimeout(silence);
    silence = setTimeout(() => own.abort(), SILENCE_MS);
  };
  try {
    listenOn();
    if (await missedTooMuch(own.signal)) missed = true;
    const by = token();
    const headers = { Authorization: `Bearer ${by}`, Accept: "text/event-stream" };
    if (last !== null) headers["Last-Event-ID"] = String(last);
    const answer = await fetch(url("events"), { headers, signal: own.signal, cache: "no-store", credentials: "omit" });
    if (answer.status === 401) return expire(by);
    if (!answer.ok) {
      wait = 1000 * (Number(answer.headers.get("Retry-After")) || 0);
      throw new Error(`the event stream answered ${answer.status}`);
    }
    began = performance.now();
    connection.set({ state: "live", retryAt: null, missed });
    missed = false;
    const parser = createParser({
      onEvent(message) {
        if (message.id !== undefined && message.id !== "") last = Number(message.id);
        if (message.data) take(JSON.parse(message.data));
      },
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      heardAt = Date.now();
      listenOn();
      parser.feed(value);
    }
    failures = performance.now() - began < SHORT_MS ? failures + 1 : 0;
  } catch {
    if (began && performance.now() - began > SHORT_MS) failures = 0;
    if (own === control) failures += 1;
  } finally {
    clearTimeout(silence);
  }
  if (own !== control) return; // somebody else goes on: the tab was hidden, or `reconnect`
  control = null;
  if (failures === 0) return void setTimeout(run, 200); // it ended in order: its hour was over, or the server stops
  wait = Math.max(wait ?? 0, Math.min(15_000, 500 * 2 ** failures) * (0.75 + Math.random() / 2));
  connection.set({ state: "lost", retryAt: Date.now() + wait });
  setTimeout(run, wait);
}

/** After a while away: whether to give up what happened meanwhile, and begin with what comes. */
async function missedTooMuch(signal) {
  if (heardAt === null || Date.now() - heardAt < AWAY_MS) return false;
  const { last: newest } = await get("events/page", { limit: 1, before: Number.MAX_SAFE_INTEGER }, { signal });
  if (newest - last <= MOST_MISSED) return false;
  last = newest;
  return true;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    const open = control;
    control = null;
    open?.abort();
    connection.set({ state: "paused", retryAt: null });
  } else run();
});
// The browser tells at once what the stream would hear after its silence; a server on this machine answers without a network, too.
addEventListener("offline", reconnect);
addEventListener("online", reconnect);
session.subscribe(({ state, since }) => {
  if (state === "in") {
    last = Math.max(last ?? 0, since ?? 0) || null;
    reconnect(); // it may be with another token
  } else {
    [last, missed] = [null, false];
    const open = control;
    control = null;
    open?.abort();
  }
});
