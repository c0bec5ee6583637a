/** A search, live: one model of its trials and one selection, which all its views share. */
import { useEvents, connection } from "../core/events.js";
import { useGet } from "../core/query.js";
import { href } from "../core/router.js";
import { useStore } from "../core/store.js";
import { html, useEffect, useMemo, useState } from "../core/ui.js";
import { Badge, Button, Tabs } from "../ui/controls.js";
import { Empty, Failure, Loading, Page } from "../ui/states.js";
import { SearchActions, ending } from "./searches/actions.js";
import { KeyFacts } from "./search/facts.js";
import { createIntervals } from "./search/intervals.js";
import { JobsTab } from "./search/jobs_tab.js";
import { Log } from "./search/log.js";
import { createTrials } from "./search/model.js";
import { Overview } from "./search/overview.js";
import { createSelection } from "./search/selection.js";
import { SpecTab } from "./search/spec_tab.js";
import { TrialsTable } from "./search/trials_table.js";

const CRUMBS = [{ text: "Searches", href: "#/searches" }];
const TABS = [["chart", "Overview"], ["table", "Trials"], ["jobs", "Jobs & files"], ["log", "Log"], ["spec", "Request"]];
const OF_TRIALS = ["trial.started", "trial.ended"];
const OF_SEARCH = ["search.state", "trial.ended", "job.state"];

export default function SearchPage({ parts, query }) {
  const id = Number(parts[1]);
  const known = Number.isInteger(id) && id > 0;
  const { data: search, error, reload } = useGet(known ? `searches/${id}` : null, {}, { on: { search: id, kinds: OF_SEARCH } });
  const [gone, setGone] = useState(false);
  useEvents({ search: id, kinds: ["search.deleted"] }, () => setGone(true));
  if (gone) {
    return html`<${Page} title=${search?.name ?? `Search ${id}`} crumbs=${CRUMBS}><${Empty} title="This search was deleted"
      action=${html`<${Button} kind="primary" href="#/searches">To the searches<//>`}>Its trials, jobs and files went with it.<//><//>`;
  }
  if (!known || (error && (error.status === 404 || !search))) {
    const problem = known ? error : { status: 404, detail: `${parts[1]} is no number of a search` };
    return html`<${Page} title="Search" crumbs=${CRUMBS}><${Failure} problem=${problem} retry=${reload} /><//>`;
  }
  if (!search) return html`<${Page} title="Search" crumbs=${CRUMBS}><${Loading} what="the search" /><//>`;
  return html`<${Shown} ...${{ search, query, reload }} />`;
}

function Shown({ search, query, reload }) {
  const { id } = search;
  const trials = useMemo(() => createTrials(id), [id]);
  const selection = useMemo(() => createSelection(), [id]);
  const intervals = useMemo(() => createIntervals(id), [id]);
  useEffect(() => {
    trials.load();
    return () => selection.close();
  }, [trials]);
  useEvents({ search: id, kinds: OF_TRIALS }, (events) => trials.apply(events));
  useEffect(() => connection.subscribe(({ state, missed }) => state === "live" && (missed ? trials.load() : trials.catchUp())), [trials]);
  // Failed trials that are evaluated again become running ones without an event of their own.
  useEvents({ search: id, kinds: ["search.state"] }, () => search.trials.failed > 0 && trials.load());
  useEffect(() => selection.follow(query), [query.trial]);

  const at = TABS.some(([view]) => view === query.view) ? query.view : "chart";
  const tabs = TABS.map(([view, text]) => ({ id: view, text, href: href(`/searches/${id}`, { ...query, view: view === "chart" ? null : view }) }));
  const actions = html`<${SearchActions} search=${search} onChange=${reload} words />
    <${Button} icon="plus" href=${href("/new", { from: id })}>New like this<//>`;
  return html`<${Page} title=${search.name} crumbs=${CRUMBS} actions=${actions} wide>
    <${Head} search=${search} />
    ${search.error && html`<div class="notice bad" role="alert"><strong>It failed.</strong> ${search.error}</div>`}
    <${KeyFacts} search=${search} trials=${trials} />
    <${Tabs} tabs=${tabs} at=${at} label="Views of the search" />
    ${at === "chart" && html`<${Overview} ...${{ search, trials, selection, query, intervals }} />`}
    ${at === "table" && html`<${TrialsTable} ...${{ search, trials, selection, query }} />`}
    ${at === "jobs" && html`<${JobsTab} search=${search} />`}
    ${at === "log" && html`<${Log} search=${search} />`}
    ${at === "spec" && html`<${SpecTab} search=${search} />`}
  <//>`;
}

function Head({ search }) {
  const { state } = useStore(connection);
  const soon = ending(search);
  const winner = search.winner?.trial ?? search.best?.number;
  const parts = [search.space, search.board && html`<a href=${`#/boards/${encodeURIComponent(search.board)}`}>${search.board}</a>`, search.strategy, search.evaluator,
    search.owner ?? "command line"].filter(Boolean);
  return html`<div class="row search-head" data-testid="search-head"><${Badge} state=${search.state} />
    ${soon && html`<span class="chip">${soon}</span>`}
    <span class="muted">${parts.map((part, i) => html`${i > 0 && " · "}${part}`)}</span>
    ${winner !== undefined && html`<a href=${`#/searches/${search.id}/trials/${winner}`} data-testid="winner-link">${search.winner?.trial === undefined ? "Best network" : "Winner"}: trial ${winner}</a>`}
    ${state === "lost" && html`<span class="chip">as it was when the connection was lost</span>`}
  </div>`;
}
