/** All searches: what runs first, each with how far it is and the best it has found. */
import { href, go } from "../core/router.js";
import { can } from "../core/session.js";
import { useGet } from "../core/query.js";
import { html } from "../core/ui.js";
import { plural } from "../core/format.js";
import { Button } from "../ui/controls.js";
import { Empty, Failure, Loading, Page } from "../ui/states.js";
import { ChoiceFilter, FilterBar, OwnerFilter, TextFilter, useOwner } from "./searches/filters.js";
import { useSearches } from "./searches/live.js";
import { useMedia, useTick } from "../core/hooks.js";
import { SearchCard, SearchRow } from "./searches/row.js";

const STATES = ["running", "queued", "paused", "stopped", "complete", "cancelled", "failed"];
const NAMES = ["state", "name", "owner", "space", "board"];

export default function Searches({ query }) {
  const owner = useOwner(query.owner);
  const filters = Object.fromEntries(NAMES.map((name) => [name, name === "owner" ? owner : query[name]]).filter(([, value]) => value));
  const list = useSearches(filters);
  useTick();
  const filtered = Object.keys(filters).length > 0;
  const submit = can("user") && html`<${Button} kind="primary" icon="plus" href="#/new">New search<//>`;
  return html`<${Page} title="Searches" wide actions=${submit}>
    ${(filtered || list.searches.length > 0 || list.loading) && html`<${Filters} query=${query} />`}
    ${list.error && html`<${Failure} problem=${list.error} retry=${list.reload} />`}
    ${list.searches.length > 0 ? html`<${List} list=${list} />`
      : list.loading ? html`<${Loading} what="the searches" />`
      : !list.error && html`<${None} filtered=${filtered} />`}
  <//>`;
}

function Filters({ query }) {
  const { data: spaces } = useGet("spaces");
  const { data: boards } = useGet("boards", { limit: 100 });
  return html`<${FilterBar} label="Filter the searches" set=${NAMES.some((name) => query[name])}>
    <${TextFilter} name="name" label="Name" value=${query.name} placeholder="part of the name" maxlength="64" />
    <${ChoiceFilter} name="state" label="State" value=${query.state} all="Any state" options=${STATES} />
    <${OwnerFilter} value=${query.owner} />
    <${ChoiceFilter} name="space" label="Space" value=${query.space} all="Any space" options=${(spaces ?? []).map((one) => one.space)} />
    <${ChoiceFilter} name="board" label="Board" value=${query.board} all="Any board" options=${(boards?.items ?? []).map((one) => one.name)} />
  <//>`;
}

function List({ list }) {
  const wide = useMedia("(min-width: 900px)");
  const running = list.searches.filter((search) => search.state === "running").length;
  const parts = { see: list.see, moment: list.moment, onChange: list.put, onDelete: list.drop };
  const told = `${plural(list.searches.length, "search", "searches")}${list.next ? " so far" : ""}, ${running} running`;
  return html`
    <p class="sr-only" role="status">${told}</p>
    ${wide ? html`<div class="card scroll searches-box"><table class="table searches-table">
        <caption class="sr-only">Searches, running ones first</caption>
        <thead><tr>
          <th scope="col">Search</th><th scope="col">State</th><th scope="col">Trials</th><th scope="col">Best so far</th>
          <th scope="col">Trend</th><th scope="col">Time left</th><th scope="col">Owner</th>
          <th scope="col"><span class="sr-only">Actions</span></th>
        </tr></thead>
        <tbody>${list.searches.map((search) => html`<${SearchRow} key=${search.id} search=${search} ...${parts} />`)}</tbody>
      </table></div>`
    : html`<ul class="searches-cards" aria-label="Searches">
        ${list.searches.map((search) => html`<${SearchCard} key=${search.id} search=${search} ...${parts} />`)}</ul>`}
    ${list.next && html`<div class="row searches-more"><${Button} busy=${list.loading} onClick=${list.more}>Load more<//></div>`}`;
}

function None({ filtered }) {
  if (filtered) {
    return html`<${Empty} title="No search is like that"
      action=${html`<${Button} onClick=${() => go("/searches")}>Show all searches<//>`}>Change the filters above, or drop them.<//>`;
  }
  const demo = html`<div class="row">
    <${Button} kind="primary" href=${href("/new", { demo: 1 })}>Try the demo search<//>
    <${Button} href="#/new">New search<//></div>`;
  return html`<${Empty} title="No searches yet" action=${can("user") && demo}>
    ${can("user") ? html`<p>A search trains networks of a space, within your budgets, and keeps the best.<br />
      The demo takes about a minute and needs no data of yours.</p>`
    : "Your token may only look. Searches of others appear here as soon as somebody submits one."}<//>`;
}
