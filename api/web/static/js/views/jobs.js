/** All jobs: what workers do, did, and are yet to do. */
import { useGet } from "../core/query.js";
import { go } from "../core/router.js";
import { html } from "../core/ui.js";
import { Button } from "../ui/controls.js";
import { Empty, Failure, Loading, Page } from "../ui/states.js";
import { ChoiceFilter, FilterBar } from "./searches/filters.js";
import { useTick } from "../core/hooks.js";
import { JobTable } from "./jobs/list.js";
import { useJobs } from "./jobs/live.js";
import { useSearchNames } from "./jobs/names.js";
import { KINDS, STATES } from "./jobs/words.js";

export default function Jobs({ query }) {
  const search = /^\d+$/.test(query.search ?? "") ? Number(query.search) : undefined;
  const asked = { kind: query.kind, state: query.state, board: query.board, search_id: search };
  const filters = Object.fromEntries(Object.entries(asked).filter(([, value]) => value));
  const list = useJobs(filters, { runsFirst: true });
  useTick();
  const filtered = Object.keys(filters).length > 0;
  return html`<${Page} title="Jobs" wide>
    ${(filtered || list.jobs.length > 0 || list.loading) && html`<${Filters} query=${query} search=${search} />`}
    ${list.error && html`<${Failure} problem=${list.error} retry=${list.reload} />`}
    ${list.jobs.length > 0 ? html`<${JobTable} list=${list} />`
      : list.loading ? html`<${Loading} what="the jobs" />`
      : !list.error && html`<${None} filtered=${filtered} />`}
  <//>`;
}

function Filters({ query, search }) {
  const { data: boards } = useGet("boards", { limit: 100 });
  const names = useSearchNames(search === undefined ? [] : [{ search_id: search }]);
  const { data: searches } = useGet("searches", { limit: 50 });
  const known = (searches?.items ?? []).map((one) => ({ value: String(one.id), text: one.name }));
  if (search !== undefined && !known.some((one) => one.value === String(search))) {
    known.push({ value: String(search), text: names[search] ?? `search ${search}` });
  }
  const set = [query.kind, query.state, query.search, query.board].some(Boolean);
  return html`<${FilterBar} label="Filter the jobs" set=${set}>
    <${ChoiceFilter} name="kind" label="Kind" value=${query.kind} all="Any kind" options=${KINDS} />
    <${ChoiceFilter} name="state" label="State" value=${query.state} all="Any state" options=${STATES} />
    <${ChoiceFilter} name="search" label="Search" value=${query.search} all="Any search" options=${known} />
    <${ChoiceFilter} name="board" label="Board" value=${query.board} all="Any board" options=${(boards?.items ?? []).map((one) => one.name)} />
  <//>`;
}

function None({ filtered }) {
  if (filtered) {
    return html`<${Empty} title="No job is like that"
      action=${html`<${Button} onClick=${() => go("/jobs")}>Show all jobs<//>`}>Change the filters above, or drop them.<//>`;
  }
  return html`<${Empty} title="No jobs yet" action=${html`<${Button} href="#/new">New search<//>`}>
    Jobs are what workers do: searches, profiles of boards, verifications, final trainings and exports.<//>`;
}
