/** The best so far, against trials or time, with every trial behind it. */
import { count, duration, percent } from "../../core/format.js";
import { setQuery } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Figure } from "../../ui/figure.js";
import { Cloud } from "./cloud.js";
import { useVersion } from "./hooks.js";
import { Legend } from "./legend.js";
import { COMPLETE, PRUNED } from "./model.js";
import { BELOW, FAINT, HOLLOW, NONE } from "./stamps.js";
import { accuracyAxis, csvOf, describeTrial } from "./words.js";

export function BestSoFar({ search, trials, selection, query, onOpen, height }) {
  useVersion(trials);
  const by = query.by === "time" ? "time" : "number";
  const x = by === "time" ? { label: "Time since it was submitted", of: (row) => trials.finished_s[row], ticks: duration }
    : { label: "Trial", of: (row) => trials.number[row], ticks: count, whole: true };
  const y = accuracyAxis(trials);
  const place = (row, range) => {
    const status = trials.status[row];
    if (status !== COMPLETE && status !== PRUNED) return NONE;
    if (range && trials.accuracy[row] < range.y[0]) return BELOW;
    return status === COMPLETE ? FAINT : HOLLOW;
  };
  const rises = trials.best(by);
  if (!rises.length) return html`<div><h2>Best so far</h2><p class="muted">Its line begins with the first complete trial.</p></div>`;
  const best = rises.at(-1);
  const summary = `The best accuracy rose ${count(rises.length - 1)} times, from ${percent(trials.accuracy[rises[0]])} to ${percent(trials.accuracy[best])} at trial ${trials.number[best]}.`;
  const csv = () => {
    const rows = by === "time" ? [...trials.by_time] : [...trials.by_time].sort((one, other) => trials.number[one] - trials.number[other]);
    let so_far = NaN;
    const rose = new Set(trials.best(by));
    const columns = { finished_s: rows.map((row) => trials.finished_s[row]), best_so_far: rows.map((row) => (so_far = rose.has(row) ? trials.accuracy[row] : so_far)) };
    return { filename: `${search.name}-best-so-far.csv`, columns: csvOf(trials, rows, columns) };
  };
  const choice = html`<div class="row" role="group" aria-label="Along trials or time">${[["number", "trials"], ["time", "time"]].map(([id, text]) => html`<button
    type="button" class="chip" key=${id} aria-pressed=${String(by === id)} onClick=${() => setQuery({ by: id === "number" ? null : id })}>${text}</button>`)}</div>`;
  return html`<${Figure} title="Best so far" summary=${summary} csv=${csv} actions=${choice}>
    <${Cloud} key=${by} label=${`Accuracy by ${by === "time" ? "time" : "trial"}: arrows walk along the trials, Enter opens the network`}
      ...${{ trials, selection, x, y, place, onOpen, height }} describe=${(row) => describeTrial(trials, row)}
      over=${(context, points, colors) => drawSteps(context, points, trials.best(by), colors)} />
    <${Legend} shapes=${["best", "faint", trials.counts()[PRUNED] && "pruned"]} />
  <//>`;
}

function drawSteps(context, points, rows, colors) {
  if (!rows.length) return;
  context.beginPath();
  rows.forEach((row, i) => {
    if (i === 0) context.moveTo(points.left[row], points.top[row]);
    else context.lineTo(points.left[row], points.top[rows[i - 1]]);
    context.lineTo(points.left[row], points.top[row]);
  });
  context.lineTo(points.width, points.top[rows.at(-1)]);
  [context.strokeStyle, context.lineWidth] = [colors.front, 2];
  context.stroke();
}
