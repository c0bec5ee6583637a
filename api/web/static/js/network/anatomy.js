/** A network drawn, and under it, joined stage by stage, where its milliseconds go. */
import { html, useMemo } from "../core/ui.js";
import { Figure } from "../ui/figure.js";
import { DrawingLegend, NetworkDrawing } from "./drawing.js";
import { Flame, FlameLegend } from "./flame.js";
import { layOut } from "./layout.js";
import { OpsTable, opColumns } from "./ops_table.js";
import { measuresOf, piecesOf } from "./pieces.js";
import { percent } from "../core/format.js";
import { MEASURES, networkSentence, shape, stageTitle } from "./words.js";
import { useWidth } from "./width.js";

export function Anatomy({ network, filename, by, onBy, selected, onSelect, zoom, onZoom }) {
  const [box, width] = useWidth();
  const layout = useMemo(() => (width > 0 ? layOut(network, { width }) : null), [network, width]);
  const anchors = useMemo(() => (layout && !layout.vertical ? new Map(layout.columns.map(({ name, from, to }) => [name, [from, to]])) : null), [layout]);
  const can = measuresOf(network);
  const measure = can.includes(by) ? by : can[0];
  const toggle = html`<div class="row" role="group" aria-label="Width of the pieces">${Object.entries(MEASURES).map(([id, { title }]) => html`<button key=${id} type="button" class="chip"
    aria-pressed=${String(measure === id)} aria-disabled=${can.includes(id) ? null : "true"} title=${can.includes(id) ? null : "No latency table prices this network"}
    onClick=${() => can.includes(id) && onBy(id === can[0] ? null : id)}>${title}</button>`)}</div>`;
  return html`<section class="card network-anatomy"><${Figure} title=${`From a ${shape(network.input)} picture to ${network.outputs[0]} classes`} actions=${toggle}
      summary=${`${networkSentence(network)} ${dearest(network, measure)}`} csv=${() => ({ filename, columns: opColumns(network) })}>
    <div ref=${box} class="network-stack">
      ${layout && html`<${NetworkDrawing} ...${{ network, layout, selected, onSelect }} />
        <${Flame} ...${{ network, by: measure, selected, onSelect, zoom, onZoom, anchors }} note=${dearest(network, measure)} />
        <${DrawingLegend} />
        <${FlameLegend} network=${network} by=${measure} />`}
    </div>
  <//><${OpsTable} ...${{ network, filename, selected, onSelect }} /></section>`;
}

/** Where most of it goes, in a sentence. */
function dearest(network, by) {
  const { stages, total, overhead } = piecesOf(network, by);
  const [first, second] = [...stages].sort((a, b) => b.to - b.from - (a.to - a.from));
  const share = (one) => `${stageTitle(one.stage)} takes ${percent((one.to - one.from) / total, 0)}`;
  return `Of its ${MEASURES[by].noun}, stage ${share(first)}${second ? `, ${share(second)}` : ""}${overhead ? `, what belongs to no op ${percent((overhead.to - overhead.from) / total, 0)}` : ""}.`;
}
