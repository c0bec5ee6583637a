/** The two pictures of an agreement, drawn on uPlot's axes. */
import { html, useRef, useState } from "../../core/ui.js";
import { Plot, axis } from "../../charts/plot.js";
import { digits } from "../../core/format.js";
import { useMedia } from "../../core/hooks.js";

const QUIET = { points: { show: false }, paths: () => null };

function polygon({ ctx }, points, fill, alpha) {
  ctx.save();
  ctx.globalAlpha = alpha;
  ctx.fillStyle = fill;
  ctx.beginPath();
  for (const [x, y] of points) ctx.lineTo(x, y);
  ctx.fill();
  ctx.restore();
}

/** Draws inside the axes only. */
function clipped(u, draw) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(left, top, width, height);
  u.ctx.clip();
  draw(u.ctx, devicePixelRatio);
  u.ctx.restore();
}

/** @param networks {predicted_ms, measured_ms, low_ms, high_ms, inside}; describe(network) of the one under the pointer */
export function ScatterPlot({ networks, band_pct: band, label, describe }) {
  const [tip, setTip] = useState(null);
  const wide = useMedia("(min-width: 1600px)");
  const shown = useRef(networks);
  const sorted = [...networks].sort((a, b) => a.predicted_ms - b.predicted_ms);
  shown.current = sorted;
  const values = sorted.flatMap((one) => [one.predicted_ms, one.measured_ms]);
  const [low, high] = [Math.min(...values) * 0.94, Math.max(...values) * 1.06];
  const make = (c) => ({
    scales: { x: { time: false, range: [low, high] }, y: { range: [low, high] } },
    axes: [axis(c, { label: "Predicted, ms", size: 30, values: (_, ticks) => ticks.map((x) => digits(x)) }), axis(c, { label: "Measured, ms", size: 58, values: (_, ticks) => ticks.map((x) => digits(x)) })],
    series: [{}, QUIET], cursor: { y: false, points: { show: false }, drag: { setScale: false, x: false, y: false } },
    hooks: {
      drawClear: [(u) => clipped(u, (ctx, ratio) => {
        const at = (x, y) => [u.valToPos(x, "x", true), u.valToPos(y, "y", true)];
        const [down, up] = [1 - band / 100, 1 + band / 100];
        polygon(u, [at(low, low * down), at(high, high * down), at(high, high * up), at(low, low * up)], c.cool, 0.16);
        ctx.strokeStyle = c.muted;
        ctx.lineWidth = ratio;
        ctx.beginPath();
        ctx.moveTo(...at(low, low));
        ctx.lineTo(...at(high, high));
        ctx.stroke();
      })],
      draw: [(u) => clipped(u, (ctx, ratio) => {
        for (const one of shown.current) {
          const [x, y] = [u.valToPos(one.predicted_ms, "x", true), u.valToPos(one.measured_ms, "y", true)];
          ctx.strokeStyle = one.inside === false ? c.failed : c.complete;
          ctx.fillStyle = ctx.strokeStyle;
          if (one.low_ms !== null && one.high_ms !== null) {
            ctx.globalAlpha = 0.4;
            ctx.lineWidth = ratio;
            ctx.beginPath();
            ctx.moveTo(x, u.valToPos(one.low_ms, "y", true));
            ctx.lineTo(x, u.valToPos(one.high_ms, "y", true));
            ctx.stroke();
            ctx.globalAlpha = 1;
          }
          mark(ctx, x, y, ratio, one.inside === false);
        }
      })],
      setCursor: [(u) => {
        const { left, top } = u.cursor;
        const near = left < 0 ? null : nearest(u, shown.current, left, top);
        setTip(near && { text: describe(near.one), left: near.left, top: near.top });
      }],
    },
  });
  const data = [sorted.map((one) => one.predicted_ms), sorted.map((one) => one.measured_ms)];
  const key = JSON.stringify(data);
  return html`<${Plot} make=${make} data=${data} height=${wide ? 440 : 320} remake=${key} label=${label}>
    ${tip && html`<div class="tooltip" style=${{ left: `min(${tip.left + 70}px, calc(100% - 190px))`, top: `${tip.top}px` }}>${tip.text}</div>`}<//>`;
}

function nearest(u, networks, left, top) {
  let best = null;
  for (const one of networks) {
    const [x, y] = [u.valToPos(one.predicted_ms, "x"), u.valToPos(one.measured_ms, "y")];
    const away = Math.hypot(x - left, y - top);
    if (away < 24 && (best === null || away < best.away)) best = { one, away, left: x, top: y };
  }
  return best;
}

/** A dot, or a cross for what lies outside: told apart without colours. */
function mark(ctx, x, y, ratio, outside) {
  ctx.beginPath();
  if (outside) {
    const arm = 4.5 * ratio;
    ctx.lineWidth = 2 * ratio;
    ctx.moveTo(x - arm, y - arm);
    ctx.lineTo(x + arm, y + arm);
    ctx.moveTo(x - arm, y + arm);
    ctx.lineTo(x + arm, y - arm);
    ctx.stroke();
  } else {
    ctx.arc(x, y, 3.5 * ratio, 0, 2 * Math.PI);
    ctx.fill();
  }
}

/** Measured beside predicted in percent, network by network, sorted. */
export function ErrorPlot({ errors, interval, band_pct: band, label }) {
  const sorted = [...errors].sort((a, b) => a - b);
  const most = 1.15 * Math.max(band, ...sorted.map(Math.abs), ...(interval ?? []).map(Math.abs));
  const make = (c) => ({
    scales: { x: { time: false, range: [0, sorted.length + 1] }, y: { range: [-most, most] } },
    axes: [axis(c, { label: "Networks, from faster to slower than predicted", incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }),
      axis(c, { label: "Measured beside predicted, %", size: 56, values: (_, ticks) => ticks.map((y) => (y > 0 ? `+${digits(y)}` : digits(y))) })],
    series: [{}, QUIET], cursor: { show: false },
    hooks: {
      drawClear: [(u) => clipped(u, (ctx, ratio) => {
        const y = (value) => u.valToPos(value, "y", true);
        const [left, right] = [u.bbox.left, u.bbox.left + u.bbox.width];
        polygon(u, [[left, y(-band)], [right, y(-band)], [right, y(band)], [left, y(band)]], c.cool, 0.16);
        ctx.strokeStyle = c.muted;
        ctx.lineWidth = ratio;
        const across = (value) => {
          ctx.beginPath();
          ctx.moveTo(left, y(value));
          ctx.lineTo(right, y(value));
          ctx.stroke();
        };
        across(0);
        ctx.strokeStyle = c.budget;
        ctx.setLineDash([5 * ratio, 3 * ratio]);
        for (const value of interval ?? []) across(value);
      })],
      draw: [(u) => clipped(u, (ctx, ratio) => {
        ctx.fillStyle = c.complete;
        sorted.forEach((error, i) => mark(ctx, u.valToPos(i + 1, "x", true), u.valToPos(error, "y", true), ratio, false));
      })],
    },
  });
  const data = [sorted.map((_, i) => i + 1), sorted];
  return html`<${Plot} make=${make} data=${data} height=${300} remake=${JSON.stringify([sorted, interval])} label=${label} />`;
}
