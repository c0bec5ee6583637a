/** What a network does otherwise than another one: MobileNetV2, or another trial. */
import { post } from "../core/api.js";
import { signed } from "../core/format.js";
import { useGet } from "../core/query.js";
import { setQuery } from "../core/router.js";
import { html, useEffect, useMemo, useState } from "../core/ui.js";
import { Button } from "../ui/controls.js";
import { Figure } from "../ui/figure.js";
import { NumberField } from "../ui/field.js";
import { Failure, Loading } from "../ui/states.js";
import { TRAITS, align, changes, changesSentence, stageDeltas, totalDeltas } from "./align.js";
import { NetworkDrawing } from "./drawing.js";
import { MEASURES, stageTitle, stageTraits } from "./words.js";

const REFERENCE = "mobilenetv2";
const COSTS = ["ms", "flops", "params"];

export function Difference({ search, trial, network, against }) {
  const best = search.best?.number;
  const set = (value) => setQuery({ against: value });
  const chip = (value, text) => html`<button type="button" class="chip" key=${text} aria-pressed=${String((against ?? null) === value)} onClick=${() => set(value)}>${text}</button>`;
  return html`<section class="card stack network-difference" aria-labelledby="network-difference">
    <div class="row spread"><h2 id="network-difference">Difference</h2>
      <div class="row" role="group" aria-label="Compare with">${chip(null, "None")}${chip(REFERENCE, "MobileNetV2")}
        ${best !== undefined && best !== trial.number && chip(String(best), `Best trial (${best})`)}<${Other} ...${{ against, number: trial.number, best, set }} /></div></div>
    ${against === null ? html`<p class="muted">Choose MobileNetV2 or another trial to see, stage by stage, what this network does otherwise and what that costs or saves.</p>`
      : against === REFERENCE ? html`<${Reference} ...${{ network, number: trial.number }} />`
      : html`<${OtherTrial} ...${{ search, network, number: trial.number, other: against }} />`}
  </section>`;
}

function Other({ against, number, best, set }) {
  const typed = against !== null && against !== REFERENCE && against !== String(best) ? Number(against) : null;
  const [value, setValue] = useState(typed);
  useEffect(() => setValue(typed), [typed]);
  const wrong = value !== null && (!Number.isInteger(value) || value < 0) ? "A number from 0 on" : value === number ? "That is this trial" : null;
  const onSubmit = (event) => {
    event.preventDefault();
    if (value !== null && !wrong) set(String(value));
  };
  return html`<form class="row network-other" onSubmit=${onSubmit}><${NumberField} label="Trial" value=${value} onInput=${setValue} min="0" step="1" error=${wrong} name="against" /><${Button} type="submit">Compare<//></form>`;
}

/** MobileNetV2 for the same pictures and classes, priced by the same table. */
function Reference({ network, number }) {
  const [state, setState] = useState({ data: null, error: null });
  const [channels, height, width] = network.input;
  const body = { reference: REFERENCE, resolution: [Math.max(height, width)], classes: network.outputs[0], channels, ...(network.table ? { table: network.table } : {}) };
  const load = async (alive = () => true) => {
    try {
      const data = await post(`spaces/${encodeURIComponent(network.space)}/architecture`, body);
      if (alive()) setState({ data, error: null });
    } catch (error) {
      if (alive()) setState({ data: null, error });
    }
  };
  useEffect(() => {
    let alive = true;
    load(() => alive);
    return () => void (alive = false);
  }, [JSON.stringify(body), network.space]);
  if (state.error) return html`<${Failure} problem=${state.error} retry=${() => load()} />`;
  if (!state.data) return html`<${Loading} what="MobileNetV2" />`;
  return html`<${Compared} ...${{ network, number, other: state.data, name: "MobileNetV2" }} />`;
}

function OtherTrial({ search, network, number, other }) {
  const { data, error, reload } = useGet(/^\d+$/.test(other) ? `searches/${search.id}/trials/${other}/architecture` : null);
  if (!/^\d+$/.test(other)) return html`<${Failure} problem=${{ status: 404, detail: `There is no trial ${other}.` }} />`;
  if (error) return html`<${Failure} problem=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} what=${`trial ${other}`} />`;
  return html`<${Compared} ...${{ network, number, other: data, name: `trial ${other}` }} />`;
}

function Compared({ network, number, other, name }) {
  const rows = useMemo(() => align(network, other), [network, other]);
  const changed = rows.filter((row) => changes(row).length > 0).length;
  const unpriced = network.totals.predicted_ms !== null && (other.totals.predicted_ms === null || other.totals.predicted_ms === undefined) && network.board;
  const title = changed === 0 ? `The same stages as ${name}` : `${changed} of ${rows.length} stages differ from ${name}`;
  return html`<${Figure} level=${3} title=${title} summary=${changesSentence(rows)} csv=${() => ({ filename: `difference-${number}-${name.replace(/\W+/g, "-")}.csv`, columns: columnsOf(rows) })}>
    <${Totals} ...${{ network, other, name }} />
    ${unpriced && html`<p class="muted small">${network.board} has not timed all ops of ${name}, so its milliseconds are not known; FLOPs and parameters are exact.</p>`}
    <div class="network-pair">
      <div><h4>${name}</h4><${NetworkDrawing} network=${other} against=${network} label=${`${name}: ${changesSentence(rows)}`} /></div>
      <div><h4>trial ${number}</h4><${NetworkDrawing} network=${network} against=${other} label=${`Trial ${number}: ${changesSentence(rows)}`} /></div>
    </div>
    <${Stages} ...${{ rows, network, other }} />
  <//>`;
}

/** Lower is better, for all of them. */
function Delta({ id, value, before }) {
  if (value === null) return html`<span class="muted">–</span>`;
  const ratio = before ? ` (${signed(100 * (value / before), (x) => `${x.toFixed(0)}\u00a0%`)})` : "";
  return html`<span class=${value < 0 ? "less" : value > 0 ? "more" : "muted"}>${value === 0 ? "same" : `${value < 0 ? "▼" : "▲"} ${signed(value, MEASURES[id].show)}${ratio}`}</span>`;
}

function known(id, { totals }) {
  const value = MEASURES[id].total(totals);
  return value === null || value === undefined ? "not known" : MEASURES[id].show(value);
}

function Totals({ network, other, name }) {
  const deltas = totalDeltas(network, other);
  return html`<dl class="network-totals">${COSTS.map((id) => html`<div key=${id}><dt>${MEASURES[id].title}</dt>
    <dd><span class="num">${known(id, other)} → <b>${known(id, network)}</b></span>
      ${deltas[id] !== null && html`<${Delta} id=${id} value=${deltas[id]} before=${MEASURES[id].total(other.totals)} />`}</dd></div>`)}</dl>
    <p class="sr-only">From ${name} to this network.</p>`;
}

function Stages({ rows, network, other }) {
  const timed = network.totals.predicted_ms != null && other.totals.predicted_ms != null;
  const costs = COSTS.filter((id) => id !== "ms" || timed);
  const traits = TRAITS.filter(({ id }) => id !== "se" || rows.some((row) => [row.mine, row.theirs].some((stage) => stage && stageTraits(stage).se === "yes")));
  const most = Object.fromEntries(costs.map((id) => [id, Math.max(...rows.map((row) => Math.abs(stageDeltas(row)[id] ?? 0))) || 1]));
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Stages, old and new"><table class="table network-stages" data-testid="difference-table">
    <thead><tr><th scope="col">Stage</th>${traits.map(({ id, title }) => html`<th key=${id} scope="col">${title}</th>`)}${costs.map((id) => html`<th key=${id} scope="col" class="num">${MEASURES[id].title}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => {
      const stage = row.mine ?? row.theirs;
      const list = changes(row);
      const deltas = stageDeltas(row);
      return html`<tr key=${stage.name} class=${list.length ? "changed" : ""}><th scope="row">${list.length > 0 && html`<span class="mark" title="changed">▲ </span>`}${stageTitle(stage)}${
        row.mine ? "" : html` <span class="muted">(gone)</span>`}${row.theirs ? "" : html` <span class="muted">(new)</span>`}</th>
        ${traits.map(({ id }) => html`<td key=${id} class="nowrap"><${Trait} now=${row.mine && stageTraits(row.mine)[id]} before=${row.theirs && stageTraits(row.theirs)[id]} /></td>`)}
        ${costs.map((id) => html`<td key=${id} class="num nowrap network-delta"><${Delta} id=${id} value=${deltas[id]} /><${DeltaBar} value=${deltas[id]} most=${most[id]} /></td>`)}</tr>`;
    })}</tbody></table></div>`;
}

function Trait({ now, before }) {
  if (now === before) return html`<span class="muted">${now || "–"}</span>`;
  return html`<span class="muted">${before || "–"}</span> → <b>${now || "–"}</b>`;
}

/** To the left: less than the other; to the right: more. */
function DeltaBar({ value, most }) {
  const length = value === null ? 0 : (28 * Math.abs(value)) / most;
  return html`<svg width="60" height="8" aria-hidden="true"><path class="network-ruler" d="M30 0V8" /><rect class=${value < 0 ? "less" : "more"} x=${value < 0 ? 30 - length : 30} y="1" width=${length} height="6" rx="1" /></svg>`;
}

function columnsOf(rows) {
  const columns = { stage: rows.map((row) => (row.mine ?? row.theirs).name) };
  for (const { id } of TRAITS) {
    columns[`${id}_before`] = rows.map((row) => row.theirs && stageTraits(row.theirs)[id]);
    columns[id] = rows.map((row) => row.mine && stageTraits(row.mine)[id]);
  }
  for (const id of COSTS) columns[`${id}_difference`] = rows.map((row) => stageDeltas(row)[id]);
  return columns;
}
