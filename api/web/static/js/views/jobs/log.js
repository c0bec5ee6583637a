/** What happened to a job, line by line, the newest last. */
import * as api from "../../core/api.js";
import { useEvents } from "../../core/events.js";
import { clock, dateTime } from "../../core/format.js";
import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "../../core/ui.js";
import { Button, Icon } from "../../ui/controls.js";
import { CheckField } from "../../ui/field.js";
import { Failure, Loading } from "../../ui/states.js";
import { progressText } from "./words.js";

const AT_ONCE = 200;
const MOST = 600;
const NEWEST = Number.MAX_SAFE_INTEGER;
const KINDS = ["job.state", "job.progress"];
const NEAR_PX = 24;

/** The log of a job (its number): at most some hundred lines, older ones on demand; live. */
export function JobLog({ job }) {
  const { events, older, error, loading, back } = useLog(job);
  const [every, setEvery] = useState(false);
  const lines = every ? events : events.filter((event, i) => event.kind !== "job.progress" || events[i + 1]?.kind !== "job.progress");
  const box = useRef(null);
  const atEnd = useRef(true);
  const held = useRef(null); // height below the first line, to stay there when older ones come
  useLayoutEffect(() => {
    const { current } = box;
    if (!current) return;
    if (held.current !== null) {
      current.scrollTop = current.scrollHeight - held.current;
      held.current = null;
    } else if (atEnd.current) current.scrollTop = current.scrollHeight;
  }, [lines.length, lines[0]?.id, lines[lines.length - 1]?.id]);

  if (error && !events.length) return html`<${Failure} problem=${error} retry=${back} />`;
  if (loading && !events.length) return html`<${Loading} what="the log" />`;
  if (!events.length) return html`<p class="muted">Nothing has happened yet.</p>`;
  function goBack() {
    held.current = box.current.scrollHeight - box.current.scrollTop;
    back();
  }
  function onScroll({ target }) {
    atEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < NEAR_PX;
  }
  return html`<div class="jobs-log">
    <div class="row spread">
      ${older ? html`<${Button} kind="quiet" icon="up" busy=${loading} onClick=${goBack}>Older<//>` : html`<span class="small muted">From the beginning</span>`}
      <${CheckField} label="Every line of progress" value=${every} onInput=${setEvery} />
    </div>
    <div class="jobs-lines" ref=${box} onScroll=${onScroll} tabindex="0" role="region" aria-label=${`Log of job ${job}`}>
      <ol>${lines.map((event, i) => html`<${Line} key=${event.id} event=${event} before=${lines[i - 1]} />`)}</ol>
    </div>
  </div>`;
}

function Line({ event: { kind, data, created_at: at }, before }) {
  const day = dateTime(at).replace(/,?\s\S+$/, "");
  const newDay = before === undefined || dateTime(before.created_at).replace(/,?\s\S+$/, "") !== day;
  return html`${newDay && html`<li class="jobs-day small muted">${day}</li>`}
    <li class=${`jobs-line ${kind === "job.state" ? data.state : "progress"}`}>
      <time class="mono muted" datetime=${at}>${clock(at)}</time>
      <span>${kind === "job.state" ? html`<${Turn} data=${data} />` : progressText(data) || "goes on"}</span>
    </li>`;
}

const TURNS = {
  queued: ["clock", "Waits for a worker"], running: ["play", "Taken by a worker"], paused: ["pause", "Paused"], complete: ["check", "Complete"],
  failed: ["cross", "Failed"], cancelled: ["stop", "Cancelled"],
};

function Turn({ data: { state, worker, error } }) {
  const [icon, words] = TURNS[state] ?? ["clock", state];
  return html`<strong><${Icon} name=${icon} /> ${worker ? `Taken by worker ${worker}` : words}</strong>${error && html`: ${error}`}`;
}

/** `older`: the number of the event in front of which there are more; null: there are none. */
function useLog(job) {
  const [state, setState] = useState({ events: [], older: null, error: null, loading: true });
  const load = useCallback(async (before) => {
    setState((was) => ({ ...was, error: null, loading: true }));
    try {
      const page = await api.get("events/page", { job_id: job, kind: KINDS, before, limit: AT_ONCE });
      const older = page.items.length === AT_ONCE ? page.items[0].id : null;
      setState((was) => ({ events: merged(page.items, was.events), older, error: null, loading: false }));
    } catch (error) {
      setState((was) => ({ ...was, error, loading: false }));
    }
  }, [job]);
  useEffect(() => void load(NEWEST), [load]);
  useEvents({ job, kinds: KINDS }, (events) => setState((was) => {
    const all = merged(was.events, events);
    const over = Math.max(0, all.length - Math.max(MOST, was.events.length));
    return { ...was, events: all.slice(over), older: over > 0 ? all[over].id : was.older };
  }));
  return { ...state, back: () => load(state.older ?? NEWEST) };

  function merged(one, other) {
    const known = new Map([...one, ...other].filter((event) => event.job_id === job && KINDS.includes(event.kind)).map((event) => [event.id, event]));
    return [...known.values()].sort((a, b) => a.id - b.id);
  }
}
