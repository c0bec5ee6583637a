/** How many networks cost how much: the whole space, those inside the budgets filled, the limit as a line to be moved. */
import { compact } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/ui.js";

const MARGIN = { left: 8, right: 8, top: 20, bottom: 34 };

/**
 * @param edges ascending, one more than `counts`; `inside`: of counts, those inside all budgets
 * @param limit the budget, or null; onPick(value): a click, or the arrow keys on the line, set it
 * @param format value -> text of the axis
 */
export function Histogram({ edges, counts, inside, limit = null, onPick, format = compact, label, unit = "", height = 190 }) {
  const box = useRef(null);
  const [width, setWidth] = useState(480);
  useEffect(() => {
    const seen = new ResizeObserver(() => setWidth(Math.max(220, box.current?.clientWidth ?? 480)));
    seen.observe(box.current);
    return () => seen.disconnect();
  }, []);
  const [low, high] = [edges[0], edges[edges.length - 1]];
  const most = Math.max(...counts, 1e-300);
  const x = (value) => MARGIN.left + ((value - low) / (high - low || 1)) * (width - MARGIN.left - MARGIN.right);
  const base = height - MARGIN.bottom;
  const y = (n) => base - (n / most) * (base - MARGIN.top);
  const value = (px) => low + ((px - MARGIN.left) / (width - MARGIN.left - MARGIN.right)) * (high - low);
  const kept = (v) => Number(Math.min(high, Math.max(low, v)).toPrecision(3));
  const pick = (event) => onPick?.(kept(value(event.clientX - box.current.getBoundingClientRect().left)));
  const onKey = (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
    if (step === undefined || !onPick) return;
    event.preventDefault();
    onPick(kept((limit ?? high) + (step * (high - low)) / 100));
  };
  const ticks = Array.from({ length: 5 }, (_, i) => low + (i * (high - low)) / 4);
  const at = limit === null ? null : x(Math.min(Math.max(limit, low), high));
  return html`<div class="histogram" ref=${box}>
    <svg width=${width} height=${height} role=${onPick ? "group" : "img"} aria-label=${label} onClick=${pick} style=${{ cursor: onPick ? "crosshair" : "default" }}>
      ${counts.map((n, i) => {
        const [a, b] = [x(edges[i]), x(edges[i + 1])];
        const w = Math.max(0.5, b - a - 1);
        return html`<g key=${i}><rect x=${a} width=${w} y=${y(n)} height=${base - y(n)} fill="var(--line-strong)" opacity="0.45" />
          ${inside && html`<rect x=${a} width=${w} y=${y(inside[i])} height=${base - y(inside[i])} fill="var(--complete)" />`}</g>`;
      })}
      <g class="axis"><line x1=${MARGIN.left} x2=${width - MARGIN.right} y1=${base} y2=${base} />
        ${ticks.map((tick, i) => html`<text key=${i} x=${x(tick)} y=${base + 15} text-anchor=${i === 0 ? "start" : i === 4 ? "end" : "middle"}>${format(tick)}</text>`)}
        ${unit && html`<text x=${width / 2} y=${height - 4} text-anchor="middle">${unit}</text>`}</g>
      ${at !== null && html`<g tabindex=${onPick ? 0 : null} role=${onPick ? "slider" : null} aria-label="Budget" aria-valuenow=${limit} aria-valuemin=${low}
          aria-valuemax=${high} aria-valuetext=${format(limit)} onKeyDown=${onKey}>
        <line x1=${at} x2=${at} y1=${MARGIN.top - 4} y2=${base} stroke="var(--budget)" stroke-width="2" stroke-dasharray="5 3" />
        <text x=${at > width - 90 ? at - 5 : at + 5} y="12" text-anchor=${at > width - 90 ? "end" : "start"} fill="var(--budget)" font-size="12">${format(limit)}</text>
      </g>`}
    </svg>
  </div>`;
}
