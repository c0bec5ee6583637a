/** What is known of the stage, block or op that is pointed at. */
import { compact, count, ms, percent } from "../core/format.js";
import { html } from "../core/ui.js";
import { Button } from "../ui/controls.js";
import { OVERHEAD, worth } from "./pieces.js";
import { MEASURES, find, kindOf, opWords, opsOf, shape, sum, timedWords } from "./words.js";

export function PieceFacts({ network, by, name, zoomed, onZoom, note }) {
  const part = find(network, name);
  const out = zoomed && html`<${Button} kind="quiet" icon="left" onClick=${() => onZoom(null)}>All stages<//>`;
  return html`<div class="flame-facts" data-testid="piece-facts">
    <div class="what">${name === OVERHEAD ? html`<${Overhead} network=${network} />` : part ? html`<${Part} ...${{ network, part, by, name }} />`
      : html`<p class="muted">${note} ${hint(zoomed)}</p>`}</div>${out}</div>`;
}

function hint(zoomed) {
  return zoomed ? `Only stage ${zoomed} is shown; Escape shows all.` : "Point at a piece to read it; click a stage to open it.";
}

function Overhead({ network }) {
  const { overhead_ms: value, predicted_ms: all } = network.totals;
  return html`<p><b>Overhead</b> <span class="muted">what the network takes beyond its ops: starting them, moving their pictures</span></p>
    <dl><div><dt>Predicted</dt><dd>${ms(value)}</dd></div><div><dt>Share</dt><dd>${percent(value / all, 1)}</dd></div></dl>`;
}

function Part({ network, part, by }) {
  const { stage, block, op } = part;
  const ops = opsOf(network, part);
  const first = op ? op.inputs[0] : (block ?? stage.blocks[0]).input;
  const last = op ? op.outputs[0] : (block ?? stage.blocks[stage.blocks.length - 1]).output;
  const timed = network.totals.predicted_ms !== null && network.totals.predicted_ms !== undefined;
  const flops = sum(ops, (one) => one.flops);
  const params = sum(ops, (one) => one.params);
  const rows = [["In", shape(first)], ["Out", shape(last)], ["FLOPs", compact(flops), `${count(flops)} multiply-adds`], ["Parameters", compact(params), count(params)]];
  if (timed) rows.push(["Predicted", ms(sum(ops, MEASURES.ms.of))]);
  rows.push([`Share of ${MEASURES[by].noun}`, percent(worth(network, part, by).share, 1)]);
  if (op?.measured_ms) rows.push(["Timed alone", ms(op.measured_ms)]);
  const what = op ? opWords(op) : block ? `block of stage ${stage.name}: ${block.ops.length} ops` : `stage of ${stage.repeats} ${stage.repeats === 1 ? "block" : "blocks"}${stage.label ? `, ${stage.label}` : ""}`;
  return html`<p>${op && html`<i class=${`flame-key ${kindOf(op)}`}></i>`}<b class="mono">${op?.path ?? block?.name ?? stage.name}</b> <span class="muted">${what}${
    op && timed ? ` · ${timedWords(op)}` : ""}</span></p>
    <dl>${rows.map(([label, value, title]) => html`<div key=${label}><dt>${label}</dt><dd title=${title}>${value}</dd></div>`)}</dl>`;
}
