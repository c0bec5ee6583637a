/** A line as small as a word. */
import { html } from "../core/ui.js";

const MOST = 500; // points, of which each would be less than a pixel apart

/** values: numbers, or [x, y] pairs drawn as steps. */
export function Sparkline({ values, label, width = 120, height = 28 }) {
  const known = values.map((one, i) => (Array.isArray(one) ? one : [i, one])).filter(([, y]) => Number.isFinite(y));
  const every = Math.ceil(known.length / MOST);
  const points = known.filter((_, i) => i % every === 0 || i === known.length - 1);
  if (points.length === 0) return html`<span class="muted" aria-label=${label}>–</span>`;
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (at) => 2 + ((at - left) / (right - left || 1)) * (width - 6);
  const y = (at) => height - 3 - ((at - low) / (high - low || 1)) * (height - 6);
  let path = `M${x(points[0][0]).toFixed(1)} ${y(points[0][1]).toFixed(1)}`;
  for (const [at, value] of points.slice(1)) path += `H${x(at).toFixed(1)}V${y(value).toFixed(1)}`;
  const [endX, endY] = points[points.length - 1];
  return html`<svg class="sparkline" role="img" aria-label=${label} width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`}>
    <path d=${path} fill="none" stroke="var(--accent)" stroke-width="1.6" stroke-linejoin="round" />
    <circle cx=${x(endX)} cy=${y(endY)} r="2.4" fill="var(--front)" />
  </svg>`;
}
