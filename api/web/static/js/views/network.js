/** A trial's network: what it is, where its time goes, what it is worth, and its files. */
import { useGet } from "../core/query.js";
import { href, setQuery } from "../core/router.js";
import { html, useMemo } from "../core/ui.js";
import { compact, digits, metric, ms, percent } from "../core/format.js";
import { Badge, Button, Facts } from "../ui/controls.js";
import { Copy } from "../ui/snippet.js";
import { Failure, Loaded, Loading, Page } from "../ui/states.js";
import { Anatomy } from "../network/anatomy.js";
import { Difference } from "../network/difference.js";
import { Downloads } from "../network/downloads.js";
import { Measured, measurementsOf } from "../network/measured.js";
import { TrainingCurve } from "./search/running.js";

const ENDS = ["trial.ended"];

export default function NetworkView({ parts, query }) {
  const [, id, , number] = parts;
  const search = useGet(`searches/${id}`, {}, { on: { search: Number(id), kinds: ["search.state", "job.state"] } });
  const trial = useGet(`searches/${id}/trials/${number}`, {}, { on: { search: Number(id), kinds: ENDS } });
  const network = useGet(`searches/${id}/trials/${number}/architecture`);
  const name = search.data?.name ?? `search ${id}`;
  const crumbs = [{ text: "Searches", href: "#/searches" }, { text: name, href: href(`/searches/${id}`, { trial: number }) }];
  const gone = [search, trial].find(({ error }) => error?.status === 404 || error?.status === 422);
  if (gone) return html`<${Page} title=${`Trial ${number}`} crumbs=${crumbs.slice(0, search.data ? 2 : 1)}><${Failure} problem=${{ ...gone.error, status: 404, detail: gone.error.detail }} /><//>`;
  return html`<${Page} wide title=${`Trial ${number} of ${name}`} crumbs=${crumbs} actions=${html`<${Neighbours} ...${{ search: search.data, number: Number(number) }} />`}>
    <${Loaded} query=${trial} what="the trial">${(one) => html`<${Head} ...${{ search: search.data, trial: one, network: network.data }} />`}<//>
    ${network.data ? html`<${Body} ...${{ search: search.data, trial: trial.data, network: network.data, query, reload: search.reload }} />`
      : network.error ? html`<${Failure} problem=${network.error} retry=${network.reload} />` : html`<section class="card"><${Loading} what="the network" /></section>`}
  <//>`;
}

/** To the best trial, and to those beside this one. */
function Neighbours({ search, number }) {
  if (!search) return null;
  const last = Object.values(search.trials).reduce((a, b) => a + b, 0) - 1;
  const to = (n) => href(`/searches/${search.id}/trials/${n}`);
  return html`${search.best && search.best.number !== number && html`<${Button} href=${to(search.best.number)}>Best trial (${search.best.number})<//>`}
    ${number > 0 && html`<${Button} icon="left" label="Trial before" href=${to(number - 1)} />`}
    ${number < last && html`<${Button} icon="right" label="Next trial" href=${to(number + 1)} />`}`;
}

function Head({ search, trial, network }) {
  const { state, costs } = trial;
  const totals = network?.totals;
  const best = search?.best?.number === trial.number;
  const found = search ? measurementsOf(search, trial.encoding) : null;
  const waits = { running: "it is being evaluated", failed: "it failed", pruned: "none" }[state] ?? "none";
  const interval = totals?.low_ms ? `90 %: ${digits(totals.low_ms)}–${ms(totals.high_ms)}` : network?.board ? `on ${network.board}` : "no latency table";
  const predicted = totals?.predicted_ms ?? costs.latency_ms;
  const items = [
    ["Accuracy", trial.accuracy === null ? "–" : percent(trial.accuracy), trial.accuracy === null ? waits : state === "pruned" ? "where it was stopped" : "validation pictures"],
    ["Predicted", predicted === undefined || predicted === null ? "–" : ms(predicted), interval],
    ["Measured", found ? ms(found.measured_ms) : "–", found ? `${errorWords(found.predicted_ms, found.measured_ms)}` : network?.board ? "not yet" : "no board"],
    ["FLOPs", compact(totals?.flops ?? costs.flops), "multiply-adds"], ["Parameters", compact(totals?.params ?? costs.params)],
    ["Model", metric("model_mb", totals?.model_mb ?? costs.model_mb), "as 32-bit floats"], ["Peak memory", metric("peak_memory_mb", totals?.peak_memory_mb ?? costs.peak_memory_mb), "of activations"],
    ["Reward", metric("reward", trial.reward)],
  ];
  return html`<section class="card network-head" aria-label="What it is worth">
    <div class="row"><${Badge} state=${state} />${best && html`<span class="chip">best of the search</span>`}
      ${search?.beliefs?.recommended === trial.number && html`<span class="chip">recommended</span>`}
      <span class="network-encoding"><span class="muted small">Encoding</span> <code data-testid="encoding">${trial.encoding}</code><${Copy} text=${trial.encoding} label="Copy the encoding" /></span></div>
    ${state === "failed" && html`<p class="notice bad" role="alert">${trial.error ?? "It failed."}</p>`}
    ${state === "running" && html`<p class="notice">This trial is running: its network and its costs are known, its accuracy comes with its end.</p>`}
    <${Facts} items=${items} />
  </section>`;
}

function errorWords(predicted, measured) {
  const error = predicted / measured - 1;
  return `predicted ${percent(Math.abs(error), 1)} ${error < 0 ? "too fast" : "too slow"}`;
}

function Body({ search, trial, network, query, reload }) {
  const filename = useMemo(() => (trial && search ? `search-${search.id}-trial-${trial.number}-ops.csv` : "ops.csv"), [search, trial]);
  const set = (name) => (value) => setQuery({ [name]: value });
  return html`
    <${Anatomy} ...${{ network, filename }} by=${query.by ?? "ms"} onBy=${set("by")} selected=${query.at ?? null} onSelect=${set("at")} zoom=${query.zoom ?? null} onZoom=${set("zoom")} />
    ${search && trial && html`<div class="two network-two">
      <${Measured} ...${{ search, trial, network, reload }} />
      <section class="card"><${TrainingCurve} search=${search} number=${trial.number} /></section>
    </div>
    <${Difference} ...${{ search, trial, network, against: query.against ?? null }} />
    <${Downloads} ...${{ search, trial }} />
    <${Genes} network=${network} />`}`;
}

function Genes({ network }) {
  const genes = Object.entries(network.genes);
  return html`<details class="card network-genes"><summary>The ${genes.length} genes of space ${network.space}</summary>
    <dl class="network-gene-list">${genes.map(([name, value]) => html`<div key=${name}><dt class="mono">${name}</dt><dd class="num">${String(value)}</dd></div>`)}</dl></details>`;
}
