/** What can be done with a search, as its state and its user allow. */
import * as api from "../../core/api.js";
import { owns } from "../../core/session.js";
import { html, useState } from "../../core/ui.js";
import { Button, ask, toast } from "../../ui/controls.js";

const ACTIONS = [
  { id: "pause", title: "Pause", icon: "pause" },
  { id: "resume", title: "Resume", icon: "play" },
  { id: "retry", title: "Retry failed trials", icon: "retry" },
  {
    id: "cancel", title: "Cancel", icon: "stop",
    asks: (search) => ({
      title: `Cancel ${search.name}?`, action: "Cancel the search",
      text: "It ends after its running step. Its trials stay, and it can be resumed.",
    }),
  },
  {
    id: "delete", title: "Delete", icon: "trash",
    asks: (search) => ({
      title: `Delete ${search.name}?`, action: "Delete the search",
      text: "Its trials, jobs, checkpoints and files go with it. This cannot be undone.",
    }),
  },
];
const DONE = {
  pause: "pauses after its running step", cancel: "ends after its running step", resume: "goes on", delete: "is deleted",
  retry: "evaluates its failed trials again",
};

/** The ids of what can be done now; whose job is not told yet (`job` undefined) may be a worker's. */
function possible(search) {
  const failed = search.trials.failed > 0 ? ["retry"] : [];
  switch (search.state) {
    case "queued":
    case "running":
      return search.job === null || (search.job && search.job.wanted !== "run") ? [] : ["pause", "cancel"];
    case "paused":
      return ["resume", ...failed, "cancel", "delete"];
    case "complete":
      return [...failed, "delete"];
    default:
      return ["resume", ...failed, "delete"];
  }
}

/** What its worker was asked to do and has not done yet; null: nothing. */
export function ending(search) {
  if (search.state !== "running") return null;
  return { pause: "pauses after its running step", cancel: "ends after its running step" }[search.job?.wanted] ?? null;
}

/**
 * Buttons; nothing for those who may not change it.
 *
 * @param search as GET searches/{id} tells, or in short
 * @param moment of the list that it is in, if it is in one
 * @param onChange called with the search as it is after an action, and the moment at which that was asked for
 * @param onDelete called once it is gone
 * @param words whether the buttons have words
 */
export function SearchActions({ search, moment, onChange, onDelete, words = false }) {
  const [busy, setBusy] = useState(null);
  if (!owns(search.owner)) return null;

  async function act({ id, asks }) {
    if (asks && !(await ask({ ...asks(search), danger: true }))) return;
    setBusy(id);
    try {
      if (id === "delete") {
        await api.del(`searches/${search.id}`);
        onDelete?.(search.id);
      } else {
        const at = moment?.();
        onChange?.(await api.post(`searches/${search.id}/${id}`), at);
      }
      toast(`${search.name} ${DONE[id]}`);
    } catch (problem) {
      toast(problem.detail, "bad");
    }
    setBusy(null);
  }

  const offered = possible(search);
  return html`<div class="searches-actions" role="group" aria-label=${`Actions for ${search.name}`}>
    ${ACTIONS.filter(({ id }) => offered.includes(id)).map((action) => html`<${Button}
      key=${action.id} kind=${!words ? "quiet" : action.asks ? "danger" : "plain"} icon=${action.icon} busy=${busy === action.id}
      label=${words ? undefined : `${action.title}: ${search.name}`}
      onClick=${() => act(action)}>${words ? action.title : null}<//>`)}
  </div>`;
}
