/** A list of the server, page by page, whose items are then changed in place. */
import * as api from "./api.js";
import { connection } from "./events.js";
import { useCallback, useEffect, useRef, useState } from "./ui.js";

const AT_ONCE = 25;
const MOST_FIRST = 100;

/**
 * @param path of the list, e.g. "searches"
 * @param filters of its query; other ones begin anew
 * @param first queries whose items are wanted at once, wherever in the list they are
 * @returns items: Map from number to item; next: the cursor of more, or null; error; loading; more(): the next page;
 *   put(item): new or changed (fields it lacks stay); change(changes): Map from number to what makes its new fields from it;
 *   drop(number); reload(); moment(): to be had before something is asked, and given to put or drop with its answer: an
 *   answer to an earlier question changes nothing, but fills in fields that the item lacks
 */
export function usePages(path, filters, first = []) {
  const key = JSON.stringify([path, filters, first]);
  const [state, setState] = useState({ key, items: new Map(), next: null, error: null, loading: true });
  const asked = useRef(null);
  // Answers overtake each other: every item, and that there is none, is as of the moment at which it was asked for.
  const known = useRef({ moment: 0, of: new Map() });
  const moment = () => (known.current.moment += 1);
  const isOld = (number, at) => at < (known.current.of.get(number) ?? 0);
  const learn = (number, at) => !isOld(number, at) && known.current.of.set(number, at);

  const load = useCallback(async (cursor) => {
    asked.current?.abort();
    const own = (asked.current = new AbortController());
    const at = moment();
    const same = (was) => (was.key === key ? was : { key, items: new Map(), next: null });
    setState((was) => ({ ...same(was), error: null, loading: true }));
    try {
      const [page, ...runs] = await Promise.all([
        api.get(path, { ...filters, limit: AT_ONCE, cursor }, { signal: own.signal }),
        ...(cursor ? [] : first.map((query) => api.all(path, { ...filters, ...query }, MOST_FIRST))),
      ]);
      if (own !== asked.current) return;
      const found = [...page.items, ...runs.flat()].filter(({ id }) => learn(id, at));
      setState((was) => {
        const kept = cursor ? was.items : new Map([...was.items].filter(([number]) => isOld(number, at)));
        return { key, items: withItems(kept, found, was.items), next: page.next, error: null, loading: false };
      });
    } catch (error) {
      if (own === asked.current) setState((was) => ({ ...was, error, loading: false }));
    }
  }, [key]);

  useEffect(() => {
    load(null);
    return () => asked.current?.abort();
  }, [load]);
  useEffect(() => {
    let lost = false;
    return connection.subscribe(({ state: now, missed }) => {
      if (now === "lost") lost = true;
      else if (now === "live" && (lost || missed)) {
        lost = false;
        load(null);
      }
    });
  }, [load]);

  const changeItems = (make) => setState((was) => (was.key === key ? { ...was, items: make(was.items) } : was));
  const fits = state.key === key;
  return {
    items: fits ? state.items : new Map(), next: fits ? state.next : null,
    error: fits ? state.error : null, loading: fits ? state.loading : true,
    more: () => load(state.next),
    reload: () => load(null),
    moment,
    put(item, at = moment()) {
      const isNews = learn(item.id, at);
      changeItems((items) => (isNews ? withItems(items, [item], items) : filledIn(items, item)));
    },
    drop(number, at = moment()) {
      if (!learn(number, at)) return;
      changeItems((items) => {
        if (!items.has(number)) return items;
        const left = new Map(items);
        left.delete(number);
        return left;
      });
    },
    change(changes) {
      changeItems((items) => {
        const known = [...changes].filter(([number]) => items.has(number));
        if (!known.length) return items;
        const changed = new Map(items);
        for (const [number, make] of known) changed.set(number, { ...items.get(number), ...make(items.get(number)) });
        return changed;
      });
    },
  };
}

/** What a page tells is less than what one item's own address tells: fields that only that one has stay. */
function withItems(items, found, before) {
  const all = new Map(items);
  for (const item of found) all.set(item.id, { ...before.get(item.id), ...item });
  return all;
}

/** An older answer may tell more: all of an item, where a newer list tells less. */
function filledIn(items, older) {
  const known = items.get(older.id);
  return known ? new Map(items).set(older.id, { ...older, ...known }) : items;
}

/** What is named to the function it returns is handed on together, at most once in `pause_ms`. */
function useSoon(handle, pause_ms) {
  const latest = useRef(handle);
  latest.current = handle;
  const state = useRef({ waiting: new Set(), timer: null, before: -Infinity });
  useEffect(() => () => clearTimeout(state.current.timer), []);
  return useCallback((number) => {
    const own = state.current;
    own.waiting.add(number);
    if (own.timer !== null) return;
    own.timer = setTimeout(() => {
      const numbers = [...own.waiting];
      own.waiting.clear();
      own.timer = null;
      own.before = performance.now();
      latest.current(numbers);
    }, Math.max(0, pause_ms - (performance.now() - own.before)));
  }, []);
}

/**
 * @param path of the list that the pages are of
 * @param pages of `usePages`
 * @param fits whether an item, as it is now, belongs to them
 * @param gone whether a number is known to be no item any more
 * @returns ask(number): look at that item again, soon; it goes if it no longer fits, or is no more
 */
export function useAskAgain(path, pages, { fits, gone = () => false }, pause_ms) {
  const latest = useRef(null);
  latest.current = { pages, fits };
  return useSoon((numbers) => Promise.all(numbers.filter((number) => !gone(number)).map(async (number) => {
    const at = latest.current.pages.moment();
    try {
      const item = await api.get(`${path}/${number}`);
      if (latest.current.fits(item)) latest.current.pages.put(item, at);
      else latest.current.pages.drop(number, at);
    } catch (problem) {
      if (problem.status === 404) latest.current.pages.drop(number, at);
    }
  })), pause_ms);
}
