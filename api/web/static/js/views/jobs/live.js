/** The jobs that a filter leaves, kept as they are now by events. */
import { useEvents } from "../../core/events.js";
import { useAskAgain, usePages } from "../../core/pages.js";
import { useRef } from "../../core/ui.js";

const KINDS = ["job.state", "job.progress", "job.deleted", "search.deleted"];

function fits(job, filters) {
  return Object.entries(filters).every(([name, value]) => value === undefined || String(job[name]) === String(value));
}

/**
 * @param filters {kind, state, board, search_id, owner} of GET jobs
 * @param runsFirst what runs comes before all others
 * @returns jobs; put, drop, next, more, error, loading, reload
 */
export function useJobs(filters, { runsFirst = false } = {}) {
  const pages = usePages("jobs", filters, runsFirst && !filters.state ? [{ state: "running" }] : []);
  const latest = useRef(pages);
  latest.current = pages;

  const ask = useAskAgain("jobs", pages, { fits: (job) => fits(job, filters) }, 300);

  useEvents({ kinds: KINDS }, (events) => {
    const { change, drop } = latest.current;
    const progress = new Map();
    for (const { kind, job_id: id, data } of events) {
      if (kind === "job.deleted") drop(data.job_id);
      else if (kind === "job.state") ask(id);
      else if (kind === "job.progress") progress.set(id, () => ({ progress: data }));
      else for (const job of latest.current.items.values()) if (job.search_id === data.search_id) drop(job.id);
    }
    if (progress.size) change(progress);
  });

  const rank = (job) => (runsFirst && job.state === "running" ? 0 : 1);
  return { ...pages, jobs: [...pages.items.values()].sort((a, b) => rank(a) - rank(b) || b.id - a.id) };
}
