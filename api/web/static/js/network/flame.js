/** Where the milliseconds (or FLOPs, parameters) of a network go: stages, below them their blocks, below them their ops. */
import { html, useId, useMemo, useState } from "../core/ui.js";
import { percent } from "../core/format.js";
import { textWidth } from "./layout.js";
import { OVERHEAD, measuresOf, piecesOf } from "./pieces.js";
import { PieceFacts } from "./piece_facts.js";
import { KINDS, MEASURES, find, kindOf, opSentence, opShort, stageTitle } from "./words.js";
import { useWidth } from "./width.js";

/** Row -> [top, height]; a finger needs more of it than a mouse. */
const COARSE = matchMedia("(pointer: coarse)").matches;
const ROWS = COARSE ? { stage: [0, 40], block: [42, 40], op: [84, 48] } : { stage: [0, 26], block: [28, 18], op: [48, 46] };
const HEIGHT = COARSE ? 134 : 96;

/**
 * @param by ms, flops or params; where a network has none of it, what it has
 * @param selected name of a stage, block or op; onSelect(name | null)
 * @param zoom name of the stage that has all the width; onZoom(name | null); without them the flame keeps it
 * @param note a sentence to show while nothing is pointed at
 * @param anchors stage -> [left, right] in px of what is drawn above, to be joined with its piece
 */
export function Flame({ network, by = "ms", selected = null, onSelect = () => {}, zoom, onZoom, anchors = null, note = "" }) {
  const [box, width] = useWidth();
  const own = useState(null);
  const [zoomed, setZoomed] = onZoom ? [zoom ?? null, onZoom] : own;
  const [hovered, setHovered] = useState(null);
  const can = measuresOf(network);
  const measure = can.includes(by) ? by : (can[0] ?? "flops");
  return html`<div class="flame" ref=${box}>
    ${width > 0 && html`<${Bars} ...${{ network, by: measure, selected, onSelect, zoomed, setZoomed, setHovered, width, anchors }} />`}
    <${PieceFacts} network=${network} by=${measure} name=${hovered ?? selected} zoomed=${zoomed} onZoom=${setZoomed} note=${note} />
  </div>`;
}

function Bars({ network, by, selected, onSelect, zoomed, setZoomed, setHovered, width, anchors }) {
  const id = useId();
  const pieces = useMemo(() => piecesOf(network, by), [network, by]);
  const inside = pieces.stages.find((stage) => stage.name === zoomed);
  const [low, high] = inside ? [inside.from, inside.to] : [0, pieces.total];
  const x = (value) => ((value - low) / (high - low || 1)) * width;
  const shown = inside ? [inside] : pieces.stages.filter((stage) => stage.to > stage.from);
  const ops = shown.flatMap((stage) => stage.blocks.flatMap((block) => block.ops.map((one) => ({ ...one, stage })))).filter((one) => one.to > one.from);
  const now = ops.findIndex(({ op }) => op.path === selected);
  const chosen = find(network, selected);
  const { show } = MEASURES[by];
  const onKey = (event) => {
    const { key } = event;
    if (key === "Escape") return zoomed ? setZoomed(null) : onSelect(null);
    if (key === "Enter") return now >= 0 && setZoomed(zoomed ? null : ops[now].stage.name);
    const stage = now < 0 ? null : ops[now].stage;
    const next = {
      ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: ops.length - 1,
      ArrowDown: ops.findIndex((one, i) => i > now && one.stage !== stage),
      ArrowUp: ops.findIndex((one) => one.stage === ops[Math.max(0, ops.findIndex((first) => first.stage === stage) - 1)]?.stage),
    }[key];
    if (next === undefined) return;
    event.preventDefault();
    if (next >= 0 && next < ops.length) onSelect(ops[next].op.path);
  };
  const top = anchors ? 40 : 0;
  const hover = (name) => ({ onMouseEnter: () => setHovered(name), onMouseLeave: () => setHovered(null) });
  const bar = (row, from, to) => ({ x: x(from) + 0.5, y: top + ROWS[row][0], width: Math.max(0.5, x(to) - x(from) - 1), height: ROWS[row][1] });
  return html`<svg class="flame-svg" width=${width} height=${top + HEIGHT} role="listbox" tabindex="0" aria-orientation="horizontal" data-testid="flame"
      aria-label=${`Ops by ${MEASURES[by].title}${zoomed ? ` of ${zoomed}` : ""}: arrows move, Enter opens a stage, Escape closes it`}
      aria-activedescendant=${now >= 0 ? `${id}-${now}` : null} onKeyDown=${onKey}>
    <defs><pattern id=${`${id}-hatch`} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="flame-hatch" d="M0 0V6" /></pattern></defs>
    ${anchors && html`<g aria-hidden="true">${shown.map(({ name, from, to }) => anchors.get(name) && html`<path key=${name} class=${`flame-ribbon${chosen?.stage.name === name ? " chosen" : ""}`}
      d=${ribbon(anchors.get(name), [x(from), x(to)], top - 2)} />`)}</g>`}
    ${shown.map((stage) => html`<g key=${stage.name} role="group" aria-label=${stage.name}>
      <g class=${`flame-stage${chosen?.stage.name === stage.name ? " chosen" : ""}`} aria-hidden="true" data-stage=${stage.name}
          onClick=${() => setZoomed(zoomed ? null : stage.name)} ...${hover(stage.name)}>
        <rect ...${bar("stage", stage.from, stage.to)} rx="3" />
        <${Fitting} ...${bar("stage", stage.from, stage.to)} texts=${stageTexts(stage, pieces.total, show)} className="name" /></g>
      ${stage.blocks.filter((one) => one.to > one.from).map((block) => html`<g key=${block.name} class=${`flame-block${chosen?.block?.name === block.name ? " chosen" : ""}`} aria-hidden="true"
          onClick=${() => onSelect(block.name)} ...${hover(block.name)}>
        <rect ...${bar("block", block.from, block.to)} rx="2" />
        <${Fitting} ...${bar("block", block.from, block.to)} texts=${[block.name, block.name.split(".").at(-1)]} className="small" /></g>`)}
      ${stage.blocks.flatMap((block) => block.ops).map((one) => {
        const index = ops.findIndex(({ op }) => op === one.op);
        if (index < 0) return null;
        const place = bar("op", one.from, one.to);
        return html`<g key=${one.op.path} id=${`${id}-${index}`} role="option" aria-selected=${String(index === now)} aria-label=${opSentence(one.op)} data-op=${one.op.path}
            class=${`flame-op ${kindOf(one.op)}${index === now ? " chosen" : ""}`} onClick=${() => onSelect(one.op.path)} onDblClick=${() => setZoomed(zoomed ? null : stage.name)}
            ...${hover(one.op.path)}>
          <rect class="fill" ...${place} rx="2" />${by === "ms" && one.op.estimated && html`<rect ...${place} fill=${`url(#${id}-hatch)`} />`}
          <rect class="edge" ...${place} height="5" rx="2" />
          <${Fitting} ...${place} y=${place.y + 4} height="24" texts=${[opShort(one.op), opShort(one.op).split(" ")[0]]} className="small" />
          <${Fitting} ...${place} y=${place.y + 20} height="24" texts=${[show(one.to - one.from)]} className="small muted" />
        </g>`;
      })}
    </g>`)}
    ${!inside && pieces.overhead && html`<g class="flame-overhead" aria-hidden="true" onClick=${() => onSelect(null)} ...${hover(OVERHEAD)}>
      <rect class="fill" ...${bar("stage", pieces.overhead.from, pieces.overhead.to)} height=${HEIGHT - 2} rx="3" />
      <rect ...${bar("stage", pieces.overhead.from, pieces.overhead.to)} height=${HEIGHT - 2} fill=${`url(#${id}-hatch)`} />
      <${Fitting} ...${bar("stage", pieces.overhead.from, pieces.overhead.to)} texts=${["overhead"]} className="name" /></g>`}
  </svg>`;
}

const stageTexts = ({ stage, from, to }, total, show) => {
  const name = stageTitle(stage);
  const share = percent((to - from) / total, 0);
  return [`${name} · ${share} · ${show(to - from)}`, `${name} · ${share}`, name];
};

/** The first text that fits into a box. */
function Fitting({ x, y, width, height, texts, className }) {
  const told = texts.find((text) => textWidth(text, { bold: className === "name", size: className === "name" ? 12 : 11 }) + 6 <= width);
  return told ? html`<text class=${className} x=${x + width / 2} y=${y + Number(height) / 2 + 4} text-anchor="middle">${told}</text>` : null;
}

function ribbon([left, right], [from, to], height) {
  const half = height / 2;
  return `M${left} 0C${left} ${half} ${from} ${half} ${from} ${height}H${to}C${to} ${half} ${right} ${half} ${right} 0Z`;
}

export function FlameLegend({ network, by }) {
  const used = new Set(network.ops.filter((op) => MEASURES[by].of(op) > 0).map(kindOf));
  return html`<div class="legend flame-legend" aria-label="What the colours mean">
    ${KINDS.filter(({ id }) => used.has(id)).map(({ id, text }) => html`<span key=${id}><i class=${`flame-key ${id}`}></i>${text}</span>`)}
    ${by === "ms" && network.ops.some((op) => op.estimated) && html`<span><i class="flame-key hatched"></i>estimated</span>`}
    ${by === "ms" && network.totals.overhead_ms > 0 && html`<span><i class="flame-key hatched"></i>overhead: what belongs to no op</span>`}
  </div>`;
}
