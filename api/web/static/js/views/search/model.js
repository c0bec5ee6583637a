/**
 * The trials of one search, in columns: read page by page, then kept by events. Readers look at rows 0 … count - 1 of the
 * typed arrays; each may be longer, and is another array after it has grown. NaN: not known (yet).
 */
import { get } from "../../core/api.js";
import { connection } from "../../core/events.js";
import { accepted, bestByNumber, bestByTime, insertFront, insertTime } from "./derived.js";

export const STATES = ["running", "complete", "pruned", "failed"];
export const [RUNNING, COMPLETE, PRUNED, FAILED] = [0, 1, 2, 3];

const FIRST_PAGE = 2000; // something to see soon
const PAGE = 20_000;
const TELL_EVERY_MS = 250;

/**
 * `state`: loading, ready, failed (with `problem`). `version` rises with each telling of the subscribers: at most four times a
 * second, and always after the last change.
 */
export function createTrials(searchId) {
  return new Trials(searchId);
}

class Trials {
  constructor(searchId) {
    this.searchId = searchId;
    this.state = "loading";
    this.problem = null;
    this.version = 0;
    this.gap = null; // the event behind which the stream may not have told all
    this.began = null; // when the search was made, ms since 1970, from which finished_s counts; the first page tells it
    this.early = []; // events from before that page
    this.followers = new Set();
    this.clear();
  }

  clear() {
    this.count = 0;
    this.room = 1024;
    this.number = new Uint32Array(this.room);
    this.status = new Uint8Array(this.room);
    this.heard = new Float64Array(this.room); // the event up to which a row is known
    for (const name of ["accuracy", "reward", "seconds", "finished_s"]) this[name] = unknown(this.room);
    this.costs = Object.create(null); // its names are the server's: none of them is JavaScript's own
    this.attrs = Object.create(null);
    this.rows = new Map();
    this.by_time = []; // rows of complete trials, in the order in which they ended
    this.fronts = {}; // metric -> rows by rising cost
    this.known = {};
  }

  /** The row of a trial, -1 where there is none. */
  indexOf(number) {
    return this.rows.get(number) ?? -1;
  }

  /** Read all pages; again after a failure, or when trials may have changed without an event. */
  async load() {
    if (this.loading) return this.loading;
    this.loading = this.read().finally(() => (this.loading = null));
    return this.loading;
  }

  async read() {
    let after = null;
    if (this.state === "failed") this.state = "loading";
    try {
      let event = null;
      do {
        const page = await get(`searches/${this.searchId}/columns`, { after, limit: after === null ? FIRST_PAGE : PAGE });
        this.take(page);
        event ??= page.event;
        after = page.next;
      } while (after !== null);
      [this.state, this.problem] = ["ready", null];
      this.gap = event;
      await this.catchUp();
    } catch (problem) {
      if (this.state !== "ready") this.state = "failed";
      this.problem = problem;
    }
    this.tell();
  }

  /** What happened between the first page and the beginning of the stream, which tells only what comes. */
  async catchUp() {
    if (this.gap === null || connection.get().state !== "live") return;
    let after = this.gap;
    this.gap = null;
    for (;;) {
      const { items, last } = await get("events/page", { after, limit: 1000 });
      this.apply(items);
      if (items.length < 1000) return;
      after = last;
    }
  }

  take(page) {
    this.began ??= Date.parse(page.began_at);
    const states = page.states.map((name) => STATES.indexOf(name));
    for (let k = 0; k < page.number.length; k += 1) {
      const row = this.row(page.number[k]);
      for (const [metric, values] of Object.entries(page.costs)) this.put(this.costs, metric, row, values[k]);
      for (const [name, values] of Object.entries(page.attrs)) this.put(this.attrs, name, row, values[k]);
      if (page.event < this.heard[row]) this.rank(row); // an event has told something newer, but perhaps not its costs
      else {
        this.heard[row] = page.event;
        this.end(row, states[page.state[k]], page.accuracy[k], page.reward[k], page.seconds[k], page.finished_s[k]);
      }
    }
    this.apply(this.early.splice(0));
    this.touch();
  }

  /** Events of the stream, in any batches; those already known change nothing. */
  apply(events) {
    if (this.began === null) return void this.early.push(...events);
    let news = false;
    for (const event of events) {
      if (event.search_id !== this.searchId || event.trial === null) continue;
      if (event.kind !== "trial.started" && event.kind !== "trial.ended") continue;
      const { data } = event;
      const row = this.row(event.trial);
      if (event.kind === "trial.started") { // read page by page it may come after its end, and alone tells the costs
        for (const [metric, value] of Object.entries(data.costs ?? {})) this.put(this.costs, metric, row, value);
        for (const [name, value] of Object.entries(data.attrs ?? {})) this.put(this.attrs, name, row, value);
        this.rank(row);
        news = true;
      }
      if (event.id <= this.heard[row]) continue;
      this.heard[row] = event.id;
      news = true;
      if (event.kind === "trial.started") this.status[row] = RUNNING;
      else {
        const at = (Date.parse(data.finished_at ?? event.created_at) - this.began) / 1000;
        this.end(row, STATES.indexOf(data.state), data.accuracy, data.reward, data.seconds, at);
      }
    }
    if (news) this.touch();
  }

  end(row, status, accuracy, reward, seconds, finished) {
    const before = this.status[row];
    this.status[row] = status;
    this.accuracy[row] = accuracy ?? NaN;
    this.reward[row] = reward ?? NaN;
    this.seconds[row] = seconds ?? NaN;
    this.finished_s[row] = finished ?? NaN;
    if (status === COMPLETE && before !== COMPLETE) insertTime(this.by_time, this.finished_s, row);
    this.rank(row);
  }

  /** Put a complete trial into the fronts of its costs, if it belongs there and is not there yet. */
  rank(row) {
    if (this.status[row] !== COMPLETE) return;
    for (const metric of Object.keys(this.costs)) insertFront((this.fronts[metric] ??= []), this.costs[metric], this.accuracy, row);
  }

  row(number) {
    const known = this.rows.get(number);
    if (known !== undefined) return known;
    if (this.count === this.room) this.grow();
    this.rows.set(number, this.count);
    this.number[this.count] = number;
    this.heard[this.count] = -1;
    return this.count++;
  }

  grow() {
    this.room *= 2;
    const longer = (old, fresh) => (fresh.set(old), fresh);
    this.number = longer(this.number, new Uint32Array(this.room));
    this.status = longer(this.status, new Uint8Array(this.room));
    this.heard = longer(this.heard, new Float64Array(this.room));
    for (const name of ["accuracy", "reward", "seconds", "finished_s"]) this[name] = longer(this[name], unknown(this.room));
    for (const group of [this.costs, this.attrs]) {
      for (const name of Object.keys(group)) group[name] = longer(group[name], unknown(this.room));
    }
  }

  put(group, name, row, value) {
    if (typeof value === "number") (group[name] ??= unknown(this.room))[row] = value;
  }

  /** Rows by rising cost that no other complete trial beats in accuracy and cost. */
  front(metric) {
    return this.fronts[metric] ?? [];
  }

  /** Trials per state. */
  counts() {
    return this.once("counts", () => {
      const counts = [0, 0, 0, 0];
      for (let row = 0; row < this.count; row += 1) counts[this.status[row]] += 1;
      return counts;
    });
  }

  /** The rows at which the best reward rose; by: "number" or "time". */
  best(by = "number") {
    return this.once(`best by ${by}`, () => (by === "time" ? bestByTime(this) : bestByNumber(this)));
  }

  /** Per row what annealing made of it: 0 not known, 1 accepted, 2 not accepted. */
  accepted() {
    return this.once("accepted", () => accepted(this));
  }

  /** What follows from all rows is worked out once a version. */
  once(name, make) {
    if (this.known[name]?.version !== this.version) this.known[name] = { version: this.version, value: make() };
    return this.known[name].value;
  }

  subscribe(follow) {
    this.followers.add(follow);
    return () => this.followers.delete(follow);
  }

  /** Followers hear of it soon. */
  touch() {
    if (this.timer) return;
    const wait = Math.max(0, TELL_EVERY_MS - (performance.now() - (this.told ?? -Infinity)));
    this.timer = setTimeout(() => this.tell(), wait);
  }

  tell() {
    clearTimeout(this.timer);
    this.timer = null;
    this.told = performance.now();
    this.version += 1;
    for (const follow of [...this.followers]) follow(this.version);
  }
}

function unknown(room) {
  return new Float64Array(room).fill(NaN);
}
