/** Where the latency of a network will lie when it is measured, for the trials somebody looks at. */
import { get } from "../../core/api.js";

const DWELL_MS = 200;

/** (number, found): calls found({low, high} | null); of several calls in a row only the last is asked for, and answered. */
export function createIntervals(searchId) {
  const known = new Map();
  let waiting = null;
  let wanted = null;
  return (number, found) => {
    clearTimeout(waiting);
    wanted = number;
    if (number === null) return;
    if (known.has(number)) return found(known.get(number));
    waiting = setTimeout(async () => {
      try {
        const { totals } = await get(`searches/${searchId}/trials/${number}/architecture`);
        known.set(number, totals.low_ms == null ? null : { low: totals.low_ms, high: totals.high_ms });
        if (number === wanted) found(known.get(number)); // else somebody looks at another one by now
      } catch {
        // it is an extra: the point stands without its interval
      }
    }, DWELL_MS);
  };
}
