/**
 * Who is signed in. The token is sent in a header only, so no other site can make this browser use it; it is kept for this
 * tab, or, where the user says so, on this device.
 */
import { store } from "./store.js";

const PLACE = "lightnas-token";

/**
 * state: unknown (being asked), unreachable, in, out, expired (was in, the server no longer takes the token).
 * since: number of the newest event when it began, so that a stream begins before anything that is read later; null: not told.
 */
export const session = store({ state: "unknown", user: null, role: null, since: null });

let current = null;

export function token() {
  return current;
}

export function can(role) {
  const { role: own } = session.get();
  return own === "admin" || own === role || role === "read";
}

/** Whether this user may change what `owner` submitted. */
export function owns(owner) {
  const { user, role } = session.get();
  return role === "admin" || (role === "user" && owner !== null && owner === user);
}

/** Ask the server whose token it is. Throws what `fetch` throws, or {status} of a refusal. */
async function whose(text) {
  const ask = (path) => fetch(`api/v1/${path}`, { headers: { Authorization: `Bearer ${text}` }, cache: "no-store", credentials: "omit" });
  const [answer, newest] = await Promise.all([ask("me"), ask(`events/page?limit=1&before=${Number.MAX_SAFE_INTEGER}`)]);
  if (!answer.ok) throw Object.assign(new Error(`the server answered ${answer.status}`), { status: answer.status });
  const { user, role } = await answer.json();
  return { user, role, since: newest.ok ? (await newest.json()).last : null };
}

export async function signIn(text, keep) {
  const me = await whose(text);
  current = text;
  if (keep) {
    write(localStorage, text);
    write(sessionStorage, null);
  } else write(sessionStorage, text);
  session.set({ state: "in", ...me });
}

export function signOut() {
  current = null;
  write(localStorage, null);
  write(sessionStorage, null);
  session.set({ state: "out", user: null, role: null, since: null });
}

/** The server refused a token: what was sent with an earlier one says nothing of this one. */
export function expire(text) {
  if (session.get().state !== "in" || text !== current) return;
  current = null;
  forget(text);
  session.update((was) => ({ ...was, state: "expired" }));
}

/** Another tab may have kept another one meanwhile. */
function forget(text) {
  for (const place of [localStorage, sessionStorage]) if (place.getItem(PLACE) === text) write(place, null);
}

/** A browser may have no room to keep it: then it is signed in as long as the page stays. */
function write(place, text) {
  try {
    if (text === null) place.removeItem(PLACE);
    else place.setItem(PLACE, text);
  } catch (error) {
    console.warn(`the token is not kept: ${error.message}`);
  }
}

const RETRY_MS = 3000;
let printed = null; // the token of an address, until the server has said what it thinks of it

/** At the start: the token of the printed address (#token=…), which is taken out of it, or the one that was kept. */
export async function begin() {
  printed = /^#token=([\w-]+)$/.exec(location.hash)?.[1] ?? printed;
  if (printed) history.replaceState(null, "", `${location.pathname}${location.search}#/searches`);
  const own = sessionStorage.getItem(PLACE);
  const kept = localStorage.getItem(PLACE);
  // Anybody can write such a link: one that signs in nobody must not sign out who is in.
  const tried = [[printed, false], [own, false], [kept, true]].filter(([text]) => text);
  let [refused, later] = [null, false];
  for (const [text, keep] of tried) {
    try {
      await signIn(text, keep);
      printed = null;
      return;
    } catch ({ status }) {
      if (status === 401) {
        forget(text);
        refused = text;
      } else later = true;
      // After too many wrong tokens another wrong one is not looked at, but a valid one is.
      if (status !== 401 && status !== 429) break;
    }
  }
  if (later) {
    session.set({ state: "unreachable", user: null, role: null, since: null });
    return void setTimeout(begin, RETRY_MS);
  }
  session.set({ state: refused && refused !== printed ? "expired" : "out", user: null, role: null, since: null });
  printed = null;
}

// Who signs out in one tab expects to be out in all that shared the kept token.
addEventListener("storage", ({ key, oldValue, newValue }) => {
  if (key === PLACE && newValue === null && oldValue === current && sessionStorage.getItem(PLACE) === null) signOut();
});
