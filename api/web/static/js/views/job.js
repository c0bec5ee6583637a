/** One job: how far it is, what was asked, what came of it, its files and its log. */
import * as api from "../core/api.js";
import { ago, dateTime } from "../core/format.js";
import { useEvents } from "../core/events.js";
import { postOnce } from "../core/once.js";
import { useGet } from "../core/query.js";
import { go, href } from "../core/router.js";
import { can, owns } from "../core/session.js";
import { html, useState } from "../core/ui.js";
import { Badge, Button, Facts, ask, toast } from "../ui/controls.js";
import { Empty, Failure, Loading, Page } from "../ui/states.js";
import { useTick } from "../core/hooks.js";
import { Artifacts } from "./jobs/artifacts.js";
import { About, JobProgress, SearchProgress } from "./jobs/list.js";
import { JobLog } from "./jobs/log.js";
import { useSearchNames } from "./jobs/names.js";
import { again, asked } from "./jobs/again.js";
import { JobResult } from "./jobs/results.js";
import { OVER, PURPOSE, jobTitle, keyTitle, took, valueText } from "./jobs/words.js";

const CRUMBS = [{ text: "Jobs", href: "#/jobs" }];
const NONE = 0; // no search has this number

export default function JobView({ parts }) {
  const number = Number(parts[1]);
  const { data, error, reload } = useGet(`jobs/${encodeURIComponent(parts[1])}`, {}, { on: { job: number, kinds: ["job.state"] } });
  const [told, setTold] = useState(null);
  const [deleted, setDeleted] = useState(false);
  useEvents({ job: number, kinds: ["job.progress", "job.deleted"] }, (events) => {
    const last = events[events.length - 1];
    if (last.kind === "job.deleted") setDeleted(true);
    else setTold(last.data);
  });
  useEvents({ search: data?.search_id ?? NONE, kinds: ["search.deleted"] }, () => setDeleted(true)); // its jobs go without a word
  useTick(5000);
  const names = useSearchNames(data ? [data] : []);
  if (deleted) {
    return html`<${Page} title=${`Job ${number}`} crumbs=${CRUMBS}><${Empty} title="This job was deleted"
      action=${html`<${Button} href="#/jobs">To the jobs<//>`}>Its files went with it.<//><//>`;
  }
  if (data === null) {
    return html`<${Page} title=${`Job ${parts[1]}`} crumbs=${CRUMBS}>
      ${error ? html`<${Failure} problem=${error} retry=${reload} />` : html`<${Loading} what="the job" />`}<//>`;
  }
  const job = data.state === "running" && told ? { ...data, progress: told } : data;
  return html`<${Page} title=${jobTitle(job)} crumbs=${CRUMBS} wide actions=${html`<${Actions} job=${job} onChange=${reload} />`}>
    <section class="card stack jobs-head" aria-label="How far it is">
      <div class="row"><${Badge} state=${job.state} />
        ${job.state === "running" && job.wanted !== "run" && html`<span class="muted">${job.wanted === "pause" ? "pauses" : "ends"} after its running step</span>`}
        <span class="muted">${PURPOSE[job.kind]}</span></div>
      ${["queued", "running", "paused"].includes(job.state) && html`<${Course} job=${job} />`}
      ${job.error && html`<${Trouble} job=${job} />`}
      <${Facts} items=${facts(job, names)} />
    </section>
    ${job.result && html`<${JobResult} job=${job} />`}
    <div class="jobs-columns">
      <section class="card" aria-labelledby="job-log"><h2 id="job-log">Log</h2><${JobLog} key=${job.id} job=${job.id} /></section>
      <div class="stack">
        <section class="card" aria-labelledby="job-asked"><h2 id="job-asked">What was asked</h2><${Asked} job=${job} /></section>
        ${(["train", "export"].includes(job.kind) || job.spec.accuracy) && html`<section class="card" aria-labelledby="job-files"><h2 id="job-files">Files</h2>
          <${Artifacts} job=${job.id} /></section>`}
      </div>
    </div>
  <//>`;
}

function facts(job, names) {
  return [
    ["About", html`<${About} job=${job} names=${names} />`],
    ["Owner", job.owner ?? "command line"],
    ["Asked", ago(job.created_at), dateTime(job.created_at)],
    ["Started", job.started_at ? ago(job.started_at) : "not yet", job.started_at && dateTime(job.started_at)],
    [OVER.includes(job.state) ? "Took" : "Since then", took(job) ?? "–"],
    ...(job.worker ? [["Worker", job.worker]] : []),
    ...(job.attempts > 1 ? [["Attempts", job.attempts, "since it last got on"]] : []),
  ];
}

function Course({ job }) {
  if (job.kind !== "search") {
    if (job.state === "queued" && !job.progress) return html`<p class="muted">It waits for a worker. If none comes: is <code>nas serve</code> or <code>nas worker</code> running?</p>`;
    return html`<${JobProgress} job=${job} />`;
  }
  return html`<${SearchProgress} search=${job.search_id} />`;
}

const HINTS = {
  search: "Its trials are kept: go on with it from the search’s page.",
  profile: "What was measured is kept: run again, it goes on from there.",
  verify: "Run again, it begins anew.",
  train: "Trainings are kept: start the final again from the search’s page, and it goes on from its checkpoints.",
  export: "Run again; if the network had to be trained, it goes on from its checkpoint.",
};

function Trouble({ job }) {
  if (job.state !== "failed") return html`<div class="notice" role="status"><strong>Last attempt:</strong> ${job.error}</div>`;
  return html`<div class="state failure" role="alert"><h2>It failed</h2><p>${job.error}</p><p class="muted">${HINTS[job.kind]}</p></div>`;
}

function Asked({ job }) {
  const rows = Object.entries(job.kind === "verify" ? asked(job) : job.spec).filter(([key]) => !["search", "board"].includes(key)).map(([key, value]) => [key, valueText(key, value)]).filter(([, text]) => text !== null);
  if (!rows.length) {
    return html`<p class="muted">${job.kind === "search" ? html`All of it is with <a href=${href(`/searches/${job.search_id}`)}>the search</a>.` : "Nothing but the usual."}</p>`;
  }
  return html`<dl class="kv">${rows.map(([key, text]) => html`<dt key=${`${key}-`}>${keyTitle(key)}</dt><dd key=${key}>${text}</dd>`)}</dl>
    ${asked(job) && !again(job) && html`<p class="notice">It cannot be run again from here: its seed is larger than a browser keeps exactly. <code>GET ${api.url(`jobs/${job.id}`)}</code> tells it.</p>`}`;
}

function Actions({ job, onChange }) {
  const [busy, setBusy] = useState(null);
  async function act(name, work) {
    setBusy(name);
    try {
      await work();
    } catch (problem) {
      toast(problem.detail, "bad");
    }
    setBusy(null);
  }
  async function cancel() {
    const title = `Cancel ${jobTitle(job).toLowerCase()}?`;
    const text = job.kind === "search" ? "The search ends after its running step; it can be resumed." : "It ends after its running step. What it has done is kept.";
    if (!(await ask({ title, text, action: "Cancel the job", danger: true }))) return;
    await act("cancel", async () => {
      await api.post(`jobs/${job.id}/cancel`);
      onChange();
    });
  }
  async function remove() {
    const title = `Delete ${jobTitle(job).toLowerCase()}?`;
    if (!(await ask({ title, text: "Its files go with it. This cannot be undone.", action: "Delete the job", danger: true }))) return;
    await act("delete", async () => {
      await api.del(`jobs/${job.id}`);
      go("/jobs");
      toast(`${jobTitle(job)} is deleted`);
    });
  }
  const own = owns(job.owner);
  const request = OVER.includes(job.state) && (job.kind === "profile" ? can("admin") : own) ? again(job) : null;
  const repeat = () => act("again", async () => {
    const made = await postOnce(`jobs/${job.kind}`, request);
    go(`/jobs/${made.id}`);
  });
  return html`
    ${job.kind === "search" && html`<${Button} href=${href(`/searches/${job.search_id}`)}>To the search<//>`}
    ${request && html`<${Button} icon="retry" busy=${busy === "again"} onClick=${repeat}>Run again<//>`}
    ${own && !OVER.includes(job.state) && html`<${Button} kind="danger" icon="stop" busy=${busy === "cancel"} onClick=${cancel}>Cancel<//>`}
    ${own && OVER.includes(job.state) && job.kind !== "search" && html`<${Button} kind="danger" icon="trash" busy=${busy === "delete"} onClick=${remove}>Delete<//>`}`;
}
