/** A value that components follow. */
import { useEffect, useReducer } from "./ui.js";

/** @template T @param {T} value */
export function store(value) {
  const followers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const follow of [...followers]) follow(value);
    },
    update(change) {
      this.set(change(value));
    },
    subscribe(follow) {
      followers.add(follow);
      return () => followers.delete(follow);
    },
  };
}

/** The store's value, or what `select` takes from it; renders again when that changes. */
export function useStore(of, select = (value) => value) {
  const [, again] = useReducer((count) => count + 1, 0);
  const now = select(of.get());
  useEffect(() => {
    let seen = now;
    const look = () => {
      const next = select(of.get());
      if (!Object.is(next, seen)) {
        seen = next;
        again();
      }
    };
    look(); // it may have changed between rendering and now
    return of.subscribe(look);
  }, [of]);
  return now;
}
