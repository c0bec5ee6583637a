/** The searches that a filter leaves, kept as they are now by events. */
import { useEvents } from "../../core/events.js";
import { useAskAgain, usePages } from "../../core/pages.js";
import { useRef } from "../../core/ui.js";

const KINDS = ["search.created", "search.state", "search.deleted", "trial.ended"];
const PAUSE_MS = 1500;
const RANK = { running: 0, queued: 1 };
const rank = (search) => RANK[search.state] ?? 2;

/** Trials that have ended. */
export function ended({ trials }) {
  return trials.complete + trials.pruned + trials.failed;
}

function fits(search, { state, space, board, owner, name }) {
  return (!state || search.state === state) && (!space || search.space === space) && (!board || search.board === board)
    && (!owner || search.owner === owner) && (!name || search.name.toLowerCase().includes(name.toLowerCase()));
}

/**
 * What happens to a search makes it be asked for again, with all others it happens to, at most once in a while.
 *
 * @param filters {state, space, board, owner, name} of GET searches
 * @returns searches: what runs first, each group newest first; see(number): it is in view, tell all of it; put, drop, moment,
 *   next, more, error, loading, reload
 */
export function useSearches(filters) {
  const pages = usePages("searches", filters, filters.state ? [] : [{ state: "running" }, { state: "queued" }]);
  const latest = useRef(pages);
  latest.current = pages;
  const deleted = useRef(new Set());
  const drop = (number) => {
    deleted.current.add(number);
    latest.current.drop(number);
  };

  const gone = (number) => deleted.current.has(number);
  const ask = useAskAgain("searches", pages, { fits: (search) => !gone(search.id) && fits(search, filters), gone }, PAUSE_MS);

  useEvents({ kinds: KINDS }, (events) => {
    for (const { kind, search_id: id, data } of events) {
      if (kind === "search.created") deleted.current.delete(id); // numbers may be given again
      if (kind === "search.deleted") drop(data.search_id);
      else if (kind !== "trial.ended" || latest.current.items.has(id)) ask(id);
    }
  });

  const searches = [...pages.items.values()].sort((a, b) => rank(a) - rank(b) || b.id - a.id);
  function see(number) {
    const item = latest.current.items.get(number);
    if (item?.state === "running" && !item.spec) ask(number); // its pace is not in the list
  }
  return { ...pages, drop, searches, see };
}
