/** Small drawings inside the rows of a table, all rows on one scale; the numbers stand beside them. */
import { html } from "../../core/ui.js";

const [WIDTH, HEIGHT, EDGE] = [150, 18, 6];
const MIDDLE = HEIGHT / 2;

/** Percent that either side of a prediction reaches, so that all bands and dots fit. */
export function bandScale(networks) {
  const off = (one, value) => (value === null ? 0 : Math.abs(100 * (value / one.predicted_ms - 1)));
  const most = Math.max(1, ...networks.flatMap((one) => [off(one, one.low_ms), off(one, one.high_ms), off(one, one.measured_ms)]));
  return [1, 2, 5, 10, 20, 50, 100, 200, 500].find((step) => step >= most) ?? Math.ceil(most);
}

/** A prediction (line), its interval (bar) and what was measured (dot; a cross where it is outside). */
export function ErrorBand({ network: { predicted_ms: predicted, low_ms: low, high_ms: high, measured_ms: measured, inside }, scale }) {
  const x = (value) => WIDTH / 2 + ((100 * (value / predicted - 1)) / scale) * (WIDTH / 2 - EDGE);
  const at = x(measured);
  return html`<svg class="jobs-strip" width=${WIDTH} height=${HEIGHT} viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
    <line x1="0" x2=${WIDTH} y1=${MIDDLE} y2=${MIDDLE} class="jobs-rail" />
    ${low !== null && html`<rect x=${x(low)} width=${Math.max(1, x(high) - x(low))} y="4" height=${HEIGHT - 8} rx="2" class="jobs-band" />`}
    <line x1=${WIDTH / 2} x2=${WIDTH / 2} y1="1" y2=${HEIGHT - 1} class="jobs-tick" />
    ${inside === false ? html`<path d=${`M${at - 4} ${MIDDLE - 4}l8 8m0 -8l-8 8`} class="jobs-cross" />` : html`<circle cx=${at} cy=${MIDDLE} r="4" class="jobs-dot" />`}
  </svg>`;
}

/** Where the accuracies of all trainings lie, with some room. */
export function seedScale(networks) {
  const all = networks.flatMap((one) => one.val_accuracies);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = Math.max(0.001, 0.08 * (high - low));
  return { low: Math.max(0, low - room), high: Math.min(1, high + room) };
}

/** Each training's accuracy (dots) and their mean (line). */
export function SeedStrip({ network: { val_accuracies: values, val_accuracy: mean, role }, scale: { low, high } }) {
  const x = (value) => EDGE + ((value - low) / (high - low)) * (WIDTH - 2 * EDGE);
  return html`<svg class=${`jobs-strip ${role}`} width=${WIDTH} height=${HEIGHT} viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
    <line x1="0" x2=${WIDTH} y1=${MIDDLE} y2=${MIDDLE} class="jobs-rail" />
    <line x1=${x(mean)} x2=${x(mean)} y1="2" y2=${HEIGHT - 2} class="jobs-tick" />
    ${values.map((value, i) => html`<circle key=${i} cx=${x(value)} cy=${MIDDLE} r="3.5" class="jobs-dot" />`)}
  </svg>`;
}
