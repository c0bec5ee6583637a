/** The steps of trials' trainings: from the stream, from the events kept, from what an evaluator told in the end. */
import { get } from "../../core/api.js";
import { useEvents } from "../../core/events.js";
import { useGet } from "../../core/query.js";
import { useEffect, useReducer, useRef } from "../../core/ui.js";

const NEWEST = Number.MAX_SAFE_INTEGER;
const MOST_PAGES = 5;
const isStep = (x) => Number.isInteger(x) && x >= 1 && x <= 10_000_000; // as reports may have; a history may hold anything

/** Metrics by step: {of: steps in all, at: Map from step to metrics}; a training that goes on tells its first steps again. */
function put(steps, { step, steps: of, metrics }) {
  steps.of = of ?? steps.of;
  steps.at.set(step, metrics);
}

/** The training's own history, where its evaluator told one. */
function stepsOf({ extras }) {
  const history = Array.isArray(extras?.history) ? extras.history.filter((entry) => typeof entry === "object" && entry !== null) : [];
  if (history.length === 0) return null;
  const steps = { of: isStep(extras.epochs) ? extras.epochs : history.length, at: new Map() };
  history.forEach(({ epoch, step, ...metrics }, i) => steps.at.set([epoch, step, i + 1].find(isStep), metrics));
  return steps;
}

/**
 * Steps of the trials that run: Map from number to {of, at}. Those of before are read from the newest backwards, as far as the
 * trials' starts: by the order of events, since clocks of workers differ.
 */
export function useRunningSteps(searchId, numbers) {
  const [, again] = useReducer((n) => n + 1, 0);
  const found = useRef(new Map());
  const asked = useRef(new Set()); // of these there is nothing left to read
  const take = (events) => {
    for (const { trial, data } of events) {
      if (!found.current.has(trial)) found.current.set(trial, { of: null, at: new Map() });
      put(found.current.get(trial), data);
    }
    again();
  };
  useEvents({ search: searchId, kinds: ["trial.started"] }, (events) => {
    for (const { trial } of events) asked.current.add(trial); // all its steps come by the stream
  });
  useEvents({ search: searchId, kinds: ["trial.step"] }, take);
  useEvents({ search: searchId, kinds: ["trial.ended"] }, (events) => {
    for (const { trial } of events) found.current.delete(trial);
  });
  const fresh = numbers.filter((number) => !asked.current.has(number));
  useEffect(() => {
    if (!fresh.length) return undefined;
    const control = new AbortController();
    const read = async () => {
      let before = NEWEST;
      const begun = new Set();
      const complete = () => fresh.every((number) => begun.has(number) || found.current.get(number)?.at.has(1));
      const kind = ["trial.step", "trial.started"];
      for (let page = 0; page < MOST_PAGES && before !== null && !complete(); page += 1) {
        const { items } = await get("events/page", { search_id: searchId, kind, before, limit: 1000 }, { signal: control.signal });
        const known = (trial, step) => found.current.get(trial)?.at.has(step);
        const own = items.filter(({ trial }) => fresh.includes(trial));
        take(own.filter((event) => event.kind === "trial.step" && !known(event.trial, event.data.step)));
        for (const event of own) if (event.kind === "trial.started") begun.add(event.trial);
        before = items.length === 1000 ? items[0].id : null;
      }
      for (const number of fresh) asked.current.add(number);
    };
    read().catch(() => {}); // the next steps come by the stream
    return () => control.abort();
  }, [searchId, fresh.join()]);
  return found.current;
}

/** One trial with its steps, whatever its state: {trial, steps, error, loading}; steps null: there are none, or not yet. */
export function useTrialSteps(searchId, number) {
  const { data: trial, error, loading, reload } = useGet(`searches/${searchId}/trials/${number}`);
  const told = trial && stepsOf(trial);
  const path = trial && !told ? "events/page" : null;
  const kept = useGet(path, { search_id: searchId, trial: number, kind: "trial.step", limit: 1000 });
  const [, again] = useReducer((n) => n + 1, 0);
  const live = useRef({ number, events: [] });
  if (live.current.number !== number) live.current = { number, events: [] };
  useEvents({ search: searchId, kinds: ["trial.step", "trial.ended"] }, (events) => {
    const own = events.filter((event) => event.trial === number);
    if (!own.length) return;
    live.current.events.push(...own.filter((event) => event.kind === "trial.step"));
    if (own.some((event) => event.kind === "trial.ended")) reload();
    again();
  });
  if (told || !trial) return { trial, steps: told, error, loading };
  const steps = { of: null, at: new Map() };
  for (const { data } of [...(kept.data?.items ?? []), ...live.current.events]) put(steps, data);
  return { trial, steps: steps.at.size ? steps : null, error: error ?? kept.error, loading: loading || kept.loading };
}
