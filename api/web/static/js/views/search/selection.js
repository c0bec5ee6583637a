/** The trial under the pointer and the chosen one, which all views of a search share. The chosen one lives in the URL. */
import { currentRoute, setQuery } from "../../core/router.js";
import { store } from "../../core/store.js";

const WRITE_AFTER_MS = 150; // browsers refuse an address that changes with every key of a held arrow

/** A store of {hover, selected}: trial numbers or null. */
export function createSelection() {
  const shared = store({ hover: null, selected: fromQuery(currentRoute().query) });
  let writing = null;
  return {
    get: shared.get,
    subscribe: shared.subscribe,
    hover(number) {
      if (shared.get().hover !== number) shared.update((was) => ({ ...was, hover: number }));
    },
    select(number) {
      if (shared.get().selected === number) return;
      shared.update((was) => ({ ...was, selected: number }));
      clearTimeout(writing);
      writing = setTimeout(() => setQuery({ trial: number }), WRITE_AFTER_MS);
    },
    /** The address has changed by other means, such as the back button. */
    follow(query) {
      const selected = fromQuery(query);
      if (shared.get().selected !== selected) shared.update((was) => ({ ...was, selected }));
    },
    /** The page is left: nothing is written into the address of the next one. */
    close() {
      clearTimeout(writing);
    },
  };
}

function fromQuery({ trial }) {
  return /^\d{1,9}$/.test(trial ?? "") ? Number(trial) : null;
}
