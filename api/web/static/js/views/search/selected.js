/** The chosen trial: what it is, what it costs, its network in short. */
import { METRICS, duration, metric, ms, percent, plural } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { useStore } from "../../core/store.js";
import { html } from "../../core/ui.js";
import { NetworkDrawing } from "../../network/drawing.js";
import { Badge, Button } from "../../ui/controls.js";
import { Failure } from "../../ui/states.js";
import { useSettled } from "./hooks.js";

export function Selected({ search, selection }) {
  const selected = useStore(selection, (at) => at.selected);
  const number = useSettled(selected, 120);
  if (number === null) {
    return html`<section class="card search-selected" aria-label="Chosen trial"><h2>No trial chosen</h2>
      <p class="muted">Click a point or a row to see its network, or walk along the chart with the arrow keys.</p></section>`;
  }
  return html`<${Chosen} key=${search.id} ...${{ search, number, selection }} />`;
}

function Chosen({ search, number, selection }) {
  const path = `searches/${search.id}/trials/${number}`;
  const on = { search: search.id, kinds: ["trial.ended"] };
  const trial = useGet(path, {}, search.state === "running" ? { on } : {});
  const network = useGet(`${path}/architecture`);
  const { data } = trial;
  const totals = network.data?.totals;
  const costs = Object.keys(METRICS).filter((name) => data?.costs[name] !== undefined).map((name) => [name, data.costs[name]]);
  return html`<section class="card search-selected" aria-label="Chosen trial" data-testid="selected-trial">
    <div class="row spread"><h2>Trial ${number}</h2>${data && html`<${Badge} state=${data.state} />`}
      <${Button} kind="quiet" icon="cross" label="Choose no trial" onClick=${() => selection.select(null)} /></div>
    <div role="status" class="sr-only">${data && `Trial ${number}, ${data.state}, accuracy ${percent(data.accuracy)}, ${costs.map(([name, value]) => `${METRICS[name].short} ${metric(name, value)}`).join(", ")}`}</div>
    ${trial.error && html`<${Failure} problem=${trial.error} retry=${trial.reload} />`}
    ${data && html`<dl class="kv">
      <dt>Accuracy</dt><dd>${percent(data.accuracy)}${data.reward !== null && data.reward !== data.accuracy ? html` <span class="muted">reward ${metric("reward", data.reward)}</span>` : ""}</dd>
      ${costs.map(([name, value]) => html`<dt key=${name}>${METRICS[name].title}</dt><dd>${metric(name, value)}${
        name === "latency_ms" && totals?.low_ms != null ? html` <span class="muted nowrap">${ms(totals.low_ms)} – ${ms(totals.high_ms)}</span>` : ""}</dd>`)}
      ${data.seconds > 0 && html`<dt>Took</dt><dd>${duration(data.seconds)}</dd>`}
      ${data.error && html`<dt>Error</dt><dd class="search-error">${data.error}</dd>`}
    </dl>`}
    ${network.data && html`<div class="search-stages"><${NetworkDrawing} network=${network.data} compact label=${inShort(network.data)} /></div>`}
    ${network.error && network.error.status !== 404 && html`<p class="muted small">${network.error.detail}</p>`}
    ${data && html`<p class="mono small muted search-encoding"><span class="sr-only">Encoding </span>${data.encoding}</p>`}
    <div><${Button} kind="primary" href=${`#/${path}`}>Open the network<//></div>
  </section>`;
}

function inShort({ stages }) {
  return `${plural(stages.length, "stage")}: ${stages.map((stage) => `${stage.name} ${stage.label}, ${stage.width} channels, ${plural(stage.repeats, "block")}`).join("; ")}`;
}
