/** Jobs as a table, or as cards on a phone. */
import { ago, count, dateTime, plural } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { href } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Badge, Button, Progress } from "../../ui/controls.js";
import { Empty, Failure, Loading } from "../../ui/states.js";
import { ended } from "../searches/live.js";
import { useMedia, useTick } from "../../core/hooks.js";
import { useJobs } from "./live.js";
import { useSearchNames } from "./names.js";
import { OVER, jobTitle, progressShare, progressText, resultText, took } from "./words.js";

/** The jobs about a search or a board; live. */
export function JobList({ search, board }) {
  const filters = search === undefined ? { board } : { search_id: search };
  const list = useJobs(filters);
  useTick();
  if (list.jobs.length > 0) return html`<${JobTable} list=${list} about=${search === undefined} />`;
  if (list.error) return html`<${Failure} problem=${list.error} retry=${list.reload} />`;
  if (list.loading) return html`<${Loading} what="the jobs" />`;
  return html`<${Empty} title="No jobs yet">${search === undefined ? "Profiles and verifications of this board appear here."
    : "What workers do for this search appears here: its trials, final trainings, verifications and exports."}<//>`;
}

/** @param about whether to tell what each job is about */
export function JobTable({ list, about = true }) {
  const wide = useMedia("(min-width: 900px)");
  const names = useSearchNames(about ? list.jobs : []);
  const more = list.next && html`<div class="row searches-more"><${Button} busy=${list.loading} onClick=${list.more}>Load more<//></div>`;
  if (!wide) {
    return html`<ul class="jobs-cards" aria-label="Jobs">${list.jobs.map((job) => html`<li key=${job.id} class="card jobs-card" data-testid=${`job-${job.id}`}>
      <div class="row spread"><h2><${Title} job=${job} /></h2><${Badge} state=${job.state} /></div>
      ${about && html`<div class="small"><${About} job=${job} names=${names} /></div>`}
      <${Course} job=${job} />
      <div class="small muted">${job.owner ?? "command line"} · <${When} job=${job} />${took(job) && ` · ${OVER.includes(job.state) ? "took" : "for"} ${took(job)}`}</div>
    </li>`)}</ul>${more}`;
  }
  return html`<div class="card scroll jobs-box"><table class="table jobs-table">
    <caption class="sr-only">Jobs, newest first</caption>
    <thead><tr><th scope="col">Job</th>${about && html`<th scope="col">About</th>`}<th scope="col">State</th><th scope="col">Progress or result</th>
      <th scope="col">Owner</th><th scope="col">Asked</th><th scope="col" class="num">Time</th></tr></thead>
    <tbody>${list.jobs.map((job) => html`<tr key=${job.id} data-testid=${`job-${job.id}`}>
      <th scope="row"><${Title} job=${job} /></th>
      ${about && html`<td><${About} job=${job} names=${names} /></td>`}
      <td><${Badge} state=${job.state} /></td>
      <td class="jobs-course"><${Course} job=${job} /></td>
      <td>${job.owner ?? html`<span class="muted">command line</span>`}</td>
      <td class="nowrap"><${When} job=${job} /></td>
      <td class="num nowrap">${took(job) ?? "–"}</td>
    </tr>`)}</tbody>
  </table></div>${more}`;
}

function Title({ job }) {
  return html`<a href=${href(`/jobs/${job.id}`)}>${jobTitle(job)}</a>`;
}

function When({ job }) {
  return html`<time datetime=${job.created_at} title=${dateTime(job.created_at)}>${ago(job.created_at)}</time>`;
}

/** Links to the search and the board of a job. */
export function About({ job, names }) {
  const { search_id: search, board } = job;
  if (search === null && board === null) return html`<span class="muted">–</span>`;
  return html`${search !== null && html`<a href=${href(`/searches/${search}`)}>${names[search] ?? `search ${search}`}</a>`}
    ${search !== null && board !== null && " on "}
    ${board !== null && html`<a href=${href(`/boards/${encodeURIComponent(board)}`)}>${board}</a>`}`;
}

/** How far a job is, why it failed, or what came of it. */
function Course({ job }) {
  const { kind, state, progress, error, search_id: search } = job;
  if (error) return html`<span class="small jobs-error" title=${error}>${error}</span>`;
  if (OVER.includes(state)) return html`<span class="small muted">${resultText(job)}</span>`;
  if (kind === "search" && search !== null) return html`<${SearchProgress} search=${search} />`;
  if (!progress) return null;
  return html`<${JobProgress} job=${job} />`;
}

/** Its bar, and the line below it. */
export function JobProgress({ job }) {
  const share = progressShare(job.progress);
  const label = `Progress of ${jobTitle(job)}`;
  const text = progressText(job.progress) || (job.state === "running" ? "it has begun" : "it waits");
  // Without a value the bar says that something goes on, not how far it is.
  return html`<${Progress} value=${share} max=${1} label=${label}><span class="muted">${text}</span><//>`;
}

/** A search's job has no progress of its own: its trials are. */
export function SearchProgress({ search }) {
  const { data } = useGet(`searches/${search}`, {}, { on: { search, kinds: ["search.state", "trial.ended"] } });
  if (!data) return null;
  const done = ended(data);
  return html`<${Progress} value=${done} max=${data.wanted} label=${`Trials of ${data.name}`}>
    <span class="muted">${count(done)} of ${plural(data.wanted, "trial")}</span><//>`;
}
