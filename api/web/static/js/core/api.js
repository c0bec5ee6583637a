/** The REST API: JSON in, JSON out, every failure a Problem with one line to show. */
import { expire, token } from "./session.js";

const BASE = new URL("api/v1/", document.baseURI);
const PATIENCE_S = 10; // the longest a request waits by itself before it is sent again

/** RFC 9457 problem details; status 0: no answer came; ours: this service says so, no proxy between. */
export class Problem extends Error {
  constructor({ status, title, detail, errors = null, retryAfter = null, ours = false }) {
    super(detail || title);
    this.name = "Problem";
    Object.assign(this, { status, title, detail: detail || title, errors, retryAfter, ours });
  }
}

/** Field -> message, fields as in the request body: "budgets.latency_ms". */
export function fieldErrors(problem) {
  return Object.fromEntries((problem?.errors ?? []).map((e) => [e.field.replace(/^body\.?/, ""), e.message]));
}

/** The absolute address, as a program would use it. */
export function url(path, query) {
  const at = new URL(path, BASE);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) at.searchParams.append(name, one);
  }
  return at.href;
}

export async function request(method, path, { query, body, signal, key, headers } = {}) {
  // Parts of paths come out of links, which anybody may have written: none leads to another route.
  if (url(path) !== BASE.href + path || /[?#]/.test(path)) throw new Problem({ status: 404, title: "Not Found", detail: `There is nothing at ${path}` });
  const by = token();
  const sent = { Authorization: `Bearer ${by}`, ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (method === "POST") sent["Idempotency-Key"] = key ?? newKey();
  let answer;
  try {
    answer = await fetch(url(path, query), {
      method, signal, headers: sent, cache: "no-store", credentials: "omit",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: 0, title: "No connection", detail: "The server cannot be reached; is it running?" });
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  if (answer.status === 401) expire(by);
  throw new Problem({
    status: answer.status, title: told.title ?? `Error ${answer.status}`, detail: told.detail, errors: told.errors,
    retryAfter: Number(answer.headers.get("Retry-After")) || null, ours: typeof told.title === "string",
  });
}

export function get(path, query, { signal } = {}) {
  return again((problem) => isBusy(problem), async () => read(await request("GET", path, { query, signal })));
}

/** Once more also after a lost connection: the key makes sure that it is done once. */
export function post(path, body, { signal, key = newKey() } = {}) {
  return again((problem) => problem.status === 0 || isBusy(problem), async () => {
    const answer = await request("POST", path, { body, signal, key });
    return answer.status === 204 ? null : read(answer);
  });
}

const isBusy = ({ status, retryAfter }) => (status === 429 || status === 503) && (retryAfter ?? 1) <= PATIENCE_S;

/** Up to twice more after what `passes`. */
async function again(passes, work) {
  for (let left = 2; ; left -= 1) {
    try {
      return await work();
    } catch (problem) {
      if (left === 0 || !passes(problem)) throw problem;
      await new Promise((go) => setTimeout(go, 1000 * (problem.retryAfter ?? 1)));
    }
  }
}

/** The connection may break in the middle, and what answers may be a proxy's own page. */
async function read(answer) {
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error instanceof SyntaxError) throw new Problem({ status: answer.status, title: "Not an answer", detail: "What answered is not this service: is a proxy or a sign-in page between?" });
    throw new Problem({ status: 0, title: "No connection", detail: "The connection broke; is the server running?" });
  }
}

export async function del(path) {
  await request("DELETE", path);
}

export const page = get;

/** The items of all pages, at most so many. */
export async function all(path, query, most = 1000) {
  const items = [];
  let cursor = null;
  do {
    const one = await get(path, { ...query, cursor, limit: Math.min(most - items.length, query?.limit ?? 100) });
    items.push(...one.items);
    cursor = one.next;
  } while (cursor !== null && items.length < most);
  return items;
}

/** Download a file with the token, which a plain link could not send. */
export async function save(path, filename) {
  const answer = await request("GET", path);
  saveBlob(await answer.blob(), filename);
}

export function saveBlob(blob, filename) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = filename;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** For `post`. randomUUID exists on secure origins only; a server in the local network may have none. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
