/** What the server has, kept fresh. */
import { get } from "./api.js";
import { connection, listen } from "./events.js";
import { useEffect, useRef, useState } from "./ui.js";

const PAUSE_MS = 1000;

/**
 * GET a path (null: not now). Old data stays while new is loading; `on` ({search, job, kinds}) names the events after which
 * it is asked for again, at most once a second; so it is when a lost connection is back.
 */
export function useGet(path, query = {}, { on } = {}) {
  const [state, setState] = useState({ data: null, error: null, loading: path !== null });
  const asked = useRef(() => {});
  const key = path === null ? null : `${path}?${JSON.stringify(query)}`;
  useEffect(() => {
    if (path === null) return setState({ data: null, error: null, loading: false });
    let control = null;
    let timer = null;
    let before = 0; // when the last answer came
    let late = false; // something happened since the running request was sent
    let gone = false;
    setState((was) => ({ data: was.key === key ? was.data : null, error: null, loading: true, key }));
    async function load() {
      control?.abort();
      const own = (control = new AbortController());
      late = false;
      try {
        const data = await get(path, query, { signal: own.signal });
        if (!gone && own === control) setState({ data, error: null, loading: false, key });
      } catch (error) {
        if (error.name !== "AbortError" && !gone && own === control) {
          setState((was) => ({ ...was, error, loading: false }));
        }
      }
      if (gone || own !== control) return;
      [control, before] = [null, performance.now()];
      if (late) soon();
    }
    function soon() {
      late = true; // a request under way is not broken off: where answers take longer than events, none would ever come
      if (timer !== null || control !== null) return;
      timer = setTimeout(() => {
        timer = null;
        load();
      }, Math.max(0, PAUSE_MS - (performance.now() - before)));
    }
    asked.current = load;
    load();
    const ends = [];
    if (on) ends.push(listen(on, soon));
    let was = connection.get().state;
    ends.push(connection.subscribe(({ state: now, missed }) => {
      if (now === "live" && (was === "lost" || missed)) soon();
      was = now === "connecting" ? was : now;
    }));
    return () => {
      gone = true;
      control?.abort();
      clearTimeout(timer);
      for (const end of ends) end();
    };
  }, [key, JSON.stringify(on)]);
  const fits = state.key === key;
  return {
    data: fits ? state.data : null, error: fits ? state.error : null, loading: fits ? state.loading : path !== null,
    reload: () => asked.current(),
  };
}
