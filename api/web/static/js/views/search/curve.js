/** A training, step by step: accuracy at the left, loss at the right, and what rungs ask for. */
import { digits, percent } from "../../core/format.js";
import { html, useMemo } from "../../core/ui.js";
import { Plot, axis } from "../../charts/plot.js";

const ACCURACY = "val_accuracy";
const LOSS = "loss";

/** "epoch" where an evaluator trains in epochs. */
export function stepWord(search) {
  return search.evaluator === "training" ? "epoch" : "step";
}

/** [[step, accuracy asked for]] of a trial's rungs; a rung that lets all pass asks for none. */
export function rungsOf(stopBelow) {
  return Object.entries(stopBelow ?? {}).filter(([, least]) => least !== null).map(([step, least]) => [Number(step), least]);
}

/** @param steps {of, at: Map} of steps.js; rungs as of `rungsOf`; word: what a step is called */
export function Curve({ steps, rungs = [], word, height = 150, label }) {
  const last = Math.max(steps.of ?? 0, ...steps.at.keys(), ...rungs.map(([step]) => step), 2);
  const data = useMemo(() => columnsOf(steps, rungs), [steps.at.size, steps.at, last, rungs.join()]);
  const has = { accuracy: data[1].some(Number.isFinite), loss: data[2].some(Number.isFinite), rungs: rungs.length > 0 };
  const remake = JSON.stringify([last, has, word, data[3]]);
  const make = (c) => optionsOf(c, { last, word, has, big: height > 200 });
  if (!has.accuracy && !has.loss) return html`<p class="muted small">Its evaluator tells no accuracy and no loss.</p>`;
  return html`<${Plot} make=${make} data=${data} height=${height} remake=${remake} label=${label} />
    <div class="legend" aria-hidden="true">
      ${has.accuracy && html`<span><svg width="22" height="10" viewBox="0 0 22 10"><path d="M1 5h20" stroke="var(--complete)" stroke-width="2.2" /><circle cx="11" cy="5" r="3" fill="var(--complete)" /></svg>accuracy</span>`}
      ${has.loss && html`<span><svg width="22" height="10" viewBox="0 0 22 10"><path d="M1 5h20" stroke="var(--warm)" stroke-width="2" stroke-dasharray="5 3" /></svg>loss</span>`}
      ${has.rungs && html`<span><svg width="14" height="12" viewBox="0 0 14 12"><path d="M1 11l6-9 6 9z" fill="none" stroke="var(--budget)" stroke-width="1.8" /></svg>a rung asks for this</span>`}
    </div>`;
}

/** Only steps that are known: there may be ten million. */
function columnsOf(steps, rungs) {
  const asked = new Map(rungs);
  const x = [...new Set([...steps.at.keys(), ...asked.keys()])].sort((one, other) => one - other);
  const of = (name) => x.map((step) => (Number.isFinite(steps.at.get(step)?.[name]) ? steps.at.get(step)[name] : null));
  return [x, of(ACCURACY), of(LOSS), x.map((step) => asked.get(step) ?? null)];
}

/** The accuracies fill the height: a training that ends at 98 % is not a line at the upper edge. */
function optionsOf(c, { last, word, has, big }) {
  const whole = last <= 12 ? { splits: () => Array.from({ length: last }, (_, i) => i + 1).filter((step) => last <= 8 || step % 2 === 0 || step === 1) } : {};
  return {
    cursor: { show: false }, select: { show: false }, padding: [10, has.loss ? 0 : 12, 0, 0],
    scales: {
      x: { time: false, range: [1 - 0.02 * last, last + 0.02 * last] },
      accuracy: { range: (u, least) => [Math.max(0, Math.floor((least ?? 0) * 10 - 0.5) / 10), 1] },
      loss: { range: (u, least, most) => [0, (most || 1) * 1.06] },
    },
    axes: [
      axis(c, { ...whole, size: big ? 30 : 24, space: 36, label: big ? word : undefined, values: (u, at) => at.map((step) => (Number.isInteger(step) ? String(step) : "")) }),
      axis(c, { scale: "accuracy", size: big ? 48 : 44, space: 28, label: big ? "Accuracy" : undefined, values: (u, at) => at.map((value) => `${Math.round(100 * value)} %`) }),
      axis(c, { scale: "loss", side: 1, show: has.loss, size: big ? 44 : 34, space: 28, grid: { show: false }, label: big ? "Loss" : undefined, values: (u, at) => at.map((value) => digits(value)) }),
    ],
    series: [
      {},
      { scale: "accuracy", stroke: c.complete, width: 2, spanGaps: true, points: { show: last <= 20, size: 6, fill: c.complete, stroke: c.complete } },
      { scale: "loss", stroke: c.warm, width: 1.8, dash: [5, 4], spanGaps: true, points: { show: false } },
      { scale: "accuracy", stroke: c.budget, paths: () => null, points: { show: true, size: 11, width: 1.8, paths: triangles, stroke: c.budget, fill: "transparent" } },
    ],
  };
}

/** Rung marks are triangles, not discs like trained epochs. */
function triangles(u, seriesIdx, idx0, idx1) {
  const path = new Path2D();
  const r = 6 * devicePixelRatio;
  for (let i = idx0; i <= idx1; i += 1) {
    const value = u.data[seriesIdx][i];
    if (value === null) continue;
    const x = u.valToPos(u.data[0][i], "x", true);
    const y = u.valToPos(value, "accuracy", true);
    path.moveTo(x - r, y + r);
    path.lineTo(x, y - r);
    path.lineTo(x + r, y + r);
    path.closePath();
  }
  return { stroke: path, fill: path };
}

/** What a curve shows, in a sentence. */
export function sentence(steps, word) {
  const last = Math.max(...steps.at.keys());
  const { [ACCURACY]: accuracy, [LOSS]: loss } = steps.at.get(last);
  const told = [Number.isFinite(accuracy) && `accuracy ${percent(accuracy, 1)}`, Number.isFinite(loss) && `loss ${digits(loss)}`].filter(Boolean);
  return `After ${word} ${last}${steps.of ? ` of ${steps.of}` : ""}: ${told.join(", ") || "nothing told"}.`;
}

export function curveColumns(steps, word) {
  const order = [...steps.at.keys()].sort((one, other) => one - other);
  const names = [...new Set(order.flatMap((step) => Object.keys(steps.at.get(step))))];
  return { [word]: order, ...Object.fromEntries(names.map((name) => [name, order.map((step) => steps.at.get(step)[name] ?? null)])) };
}
