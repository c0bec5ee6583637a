/** The jobs that a filter leaves, kept as they are now by events. */
import { useEvents } from "../../core/events.js";
import { useAskAgain, usePages } from "../../core/pages.js";
import { useRef } from "../../core/ui.js";

const KINDS = ["job.state", "job.progress", "job.deleted", "search.created", "search.deleted"];

function fits(job, filters) {
  return Object.entries(filters).every(([name, value]) => value === undefined || String(job[name]) === String(value));
}

/**
 * @param filters {kind, state, board, search_id, owner} of GET jobs
 * @param runsFirst what runs comes before all others
 * @returns jobs; items, put, drop, next, more, error, loading, reload
 */
export function useJobs(filters, { runsFirst = false } = {}) {
  const pages = usePages("jobs", filters, runsFirst && !filters.state ? [{ state: "running" }] : []);
  const latest = useRef(pages);
  latest.current = pages;

  const deleted = useRef(new Set()); // searches: what is on its way may tell of their jobs
  const gone = (job) => deleted.current.has(job.search_id);
  const ask = useAskAgain("jobs", pages, { fits: (job) => !gone(job) && fits(job, filters) }, 300);

  useEvents({ kinds: KINDS }, (events) => {
    const { change, drop } = latest.current;
    const dropGone = () => [...latest.current.items.values()].filter(gone).forEach((job) => drop(job.id));
    const progress = new Map();
    for (const { kind, job_id: id, search_id: search, data } of events) {
      if (kind === "job.deleted") drop(data.job_id);
      else if (kind === "job.state") ask(id);
      else if (kind === "job.progress") progress.set(id, () => ({ progress: data }));
      else if (kind === "search.deleted") {
        deleted.current.add(data.search_id);
        dropGone();
      } else {
        dropGone(); // those that came late
        deleted.current.delete(search); // numbers may be given again
      }
    }
    if (progress.size) change(progress);
  });

  const rank = (job) => (runsFirst && job.state === "running" ? 0 : 1);
  const items = new Map([...pages.items].filter(([, job]) => !gone(job)));
  return { ...pages, items, jobs: [...items.values()].sort((a, b) => rank(a) - rank(b) || b.id - a.id) };
}
