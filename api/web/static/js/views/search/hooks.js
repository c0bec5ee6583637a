/** A component's view of the shared things of a search page. */
import { useEffect, useReducer, useState } from "../../core/ui.js";

/** Renders again whenever the trials have told of news. */
export function useVersion(trials) {
  const [, again] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    const before = trials.version;
    const off = trials.subscribe(again);
    if (trials.version !== before) again();
    return off;
  }, [trials]);
  return trials.version;
}

/** A value once it has stayed the same for a moment. */
export function useSettled(value, ms) {
  const [settled, settle] = useState(value);
  useEffect(() => {
    const waiting = setTimeout(settle, ms, value);
    return () => clearTimeout(waiting);
  }, [value]);
  return settled;
}
