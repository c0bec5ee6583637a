/** Every op of a network as a table. */
import { saveCsv } from "../core/csv.js";
import { count, digits, percent } from "../core/format.js";
import { html, useState } from "../core/ui.js";
import { Button } from "../ui/controls.js";
import { opWords, shape, timedWords } from "./words.js";

const COLUMNS = [
  { id: "index", title: "#", of: (op, i) => i, number: true },
  { id: "path", title: "Op", of: (op) => op.path },
  { id: "kind", title: "Kind", of: (op) => op.kind, show: opWords },
  { id: "in", title: "In", of: (op) => op.inputs[0].reduce((a, b) => a * b), show: (op) => shape(op.inputs[0]), number: true },
  { id: "out", title: "Out", of: (op) => op.outputs[0].reduce((a, b) => a * b), show: (op) => shape(op.outputs[0]), number: true },
  { id: "flops", title: "FLOPs", of: (op) => op.flops, show: (op) => count(op.flops), number: true },
  { id: "params", title: "Parameters", of: (op) => op.params, show: (op) => count(op.params), number: true },
  { id: "ms", title: "Predicted ms", of: (op) => op.predicted_ms ?? -1, show: (op) => digits(op.predicted_ms), number: true, timed: true },
  { id: "share", title: "Share", of: (op) => op.share ?? -1, show: (op) => percent(op.share, 1), number: true, timed: true },
  { id: "time", title: "Time", of: timedWords, timed: true },
];

/** The numbers of the table, for a CSV. */
export function opColumns(network) {
  const { ops } = network;
  const text = (of) => ops.map(of);
  return {
    op: text((op) => op.path), kind: text((op) => op.kind), kernel: text((op) => shape(op.kernel)), stride: text((op) => shape(op.stride)), groups: text((op) => op.groups),
    activation: text((op) => op.act), input: text((op) => op.inputs.map(shape).join(" ")), output: text((op) => op.outputs.map(shape).join(" ")), flops: text((op) => op.flops),
    params: text((op) => op.params), predicted_ms: text((op) => op.predicted_ms), share: text((op) => op.share), measured_ms: text((op) => op.measured_ms),
    estimated: text((op) => (op.estimated === null || op.estimated === undefined ? null : String(op.estimated))),
  };
}

export function OpsTable({ network, filename, selected, onSelect }) {
  const [open, setOpen] = useState(false);
  return html`<details class="network-ops" onToggle=${(event) => setOpen(event.target.open)}>
    <summary>All ${network.ops.length} ops as a table</summary>
    ${open && html`<div class="row spread"><span class="muted small">FLOPs are multiply-accumulates; shapes are channels×height×width.</span>
      <${Button} kind="quiet" icon="download" label="Ops as CSV" onClick=${() => saveCsv(filename, opColumns(network))}>CSV<//></div>
      <${Table} ...${{ network, selected, onSelect }} />`}
  </details>`;
}

function Table({ network, selected, onSelect }) {
  const [order, setOrder] = useState({ by: "index", down: false });
  const timed = network.ops.some((op) => op.predicted_ms !== null && op.predicted_ms !== undefined);
  const columns = COLUMNS.filter((column) => timed || !column.timed);
  const { of } = columns.find(({ id }) => id === order.by) ?? columns[0];
  const rows = network.ops.map((op, i) => ({ op, i, key: of(op, i) }));
  rows.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.i - b.i) * (order.down ? -1 : 1));
  const turn = (id, number) => setOrder({ by: id, down: order.by === id ? !order.down : Boolean(number) && id !== "index" });
  return html`<div class="scroll network-ops-scroll" tabindex="0" role="region" aria-label="Ops"><table class="table" data-testid="ops-table">
    <thead><tr>${columns.map(({ id, title, number }) => html`<th key=${id} scope="col" class=${number ? "num" : ""} aria-sort=${order.by !== id ? "none" : order.down ? "descending" : "ascending"}>
      <button type="button" class="sorter" onClick=${() => turn(id, number)}>${title}<span aria-hidden="true">${order.by === id ? (order.down ? " ▾" : " ▴") : ""}</span></button></th>`)}</tr></thead>
    <tbody>${rows.map(({ op, i }) => html`<tr key=${op.path} class=${op.path === selected ? "chosen" : ""} onClick=${() => onSelect?.(op.path)}>
      ${columns.map(({ id, of: value, show, number }) => (id === "path"
        ? html`<th key=${id} scope="row" class="mono">${op.path}</th>`
        : html`<td key=${id} class=${number ? "num nowrap" : "nowrap"}>${show ? show(op) : value(op, i)}</td>`))}</tr>`)}</tbody>
  </table></div>`;
}
