/** Accuracy against a cost: the budget, the front, every trial. */
import { METRICS, metric, percent, plural } from "../../core/format.js";
import { setQuery } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Figure } from "../../ui/figure.js";
import { Cloud } from "./cloud.js";
import { useVersion } from "./hooks.js";
import { Legend } from "./legend.js";
import { COMPLETE, FAILED, PRUNED, RUNNING } from "./model.js";
import { BELOW, CROSS, DOT, HOLLOW, NONE, RING } from "./stamps.js";
import { accuracyAxis, allRows, costAxis, costsOf, csvOf, describeTrial } from "./words.js";

const SHAPES = { [RUNNING]: RING, [COMPLETE]: DOT, [PRUNED]: HOLLOW, [FAILED]: CROSS };

/** The cost along x: as the address says, else what the budget is in. */
function chosenCost(trials, query, budgets) {
  const there = costsOf(trials);
  if (there.includes(query.x)) return query.x;
  return there.find((name) => name in budgets) ?? there[0];
}

export function Scatter({ search, trials, selection, query, intervals, onOpen, height }) {
  useVersion(trials);
  const budgets = search.spec.budgets ?? {};
  const by = chosenCost(trials, query, budgets);
  if (by === undefined) return null;
  const limit = budgets[by];
  const x = costAxis(trials, by);
  const y = accuracyAxis(trials);
  const place = (row, range) => {
    if (!(x.of(row) >= 0)) return NONE;
    const shape = SHAPES[trials.status[row]];
    if (shape === CROSS || shape === RING) return shape;
    return range && trials.accuracy[row] < range.y[0] ? BELOW : shape;
  };
  const front = trials.front(by);
  const best = trials.best().at(-1);
  const counts = trials.counts();
  const summary = best === undefined ? `No trial is complete yet; ${plural(counts[RUNNING], "trial")} running.`
    : `${plural(counts[COMPLETE], "complete trial")}; the best, number ${trials.number[best]}, has ${percent(trials.accuracy[best])} at ${metric(by, x.of(best))}${
      limit === undefined ? "" : `, the budget being ${metric(by, limit)}`}. ${plural(front.length, "trial")} on the front: no other is both cheaper and more accurate.`;
  const csv = () => {
    const rows = allRows(trials);
    const on = new Set(trials.front(by));
    return { filename: `${search.name}-accuracy-${by}.csv`, columns: csvOf(trials, rows, { on_front: rows.map((row) => Number(on.has(row))) }) };
  };
  return html`<${Figure} title=${`Accuracy against ${METRICS[by].short}`} summary=${summary} csv=${csv} actions=${html`<${Against} trials=${trials} by=${by} />`}>
    <${Cloud} key=${by} label=${`Trials by accuracy and ${METRICS[by].short}: arrows walk along them, Enter opens the network`}
      ...${{ trials, selection, x, y, place, limit, onOpen, height }} describe=${(row) => describeTrial(trials, row)}
      interval=${by === "latency_ms" ? (row, found) => intervals(row < 0 ? null : trials.number[row], found) : null}
      over=${(context, points, colors) => {
        drawFront(context, points, trials.front(by), colors);
        if (limit !== undefined) nameLimit(context, points, limit, `budget ${metric(by, limit)}`, colors);
      }}
      under=${(u, colors) => limit !== undefined && drawLimit(u, limit, colors)} />
    <${Legend} shapes=${["complete", counts[PRUNED] && "pruned", counts[FAILED] && "failed", counts[RUNNING] && "running", "front", limit !== undefined && "budget"]} />
  <//>`;
}

function Against({ trials, by }) {
  return html`<label class="search-pick"><span class="muted">against</span>
    <select class="input" data-testid="scatter-x" onChange=${(event) => setQuery({ x: event.target.value })}>
      ${costsOf(trials).map((name) => html`<option key=${name} value=${name} selected=${name === by}>${METRICS[name].title}</option>`)}
    </select></label>`;
}

/** The best accuracy for each cost: a staircase that goes on to the right edge. */
function drawFront(context, points, rows, colors) {
  if (!rows.length) return;
  context.beginPath();
  rows.forEach((row, i) => {
    if (i === 0) context.moveTo(points.left[row], points.height);
    else context.lineTo(points.left[row], points.top[rows[i - 1]]);
    context.lineTo(points.left[row], points.top[row]);
  });
  context.lineTo(points.width, points.top[rows.at(-1)]);
  [context.strokeStyle, context.lineWidth] = [colors.front, 2];
  context.stroke();
  context.fillStyle = colors.front;
  for (const row of rows) {
    const [x, y, r] = [points.left[row], points.top[row], points.radius + 1.5];
    context.beginPath();
    context.moveTo(x, y - r);
    context.lineTo(x + r, y);
    context.lineTo(x, y + r);
    context.lineTo(x - r, y);
    context.fill();
  }
}

/** The limit's line, below the points. */
function drawLimit({ ctx, bbox, valToPos }, value, colors) {
  const x = Math.round(valToPos(value, "x", true));
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  ctx.save();
  [ctx.strokeStyle, ctx.lineWidth] = [colors.budget, 1.5 * devicePixelRatio];
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

/** Its name, above them, and above the row of failed and running ones. */
function nameLimit(context, points, value, text, colors) {
  const x = points.at("x", value);
  if (x < 0 || x > points.width) return;
  context.font = "12px system-ui, sans-serif";
  const width = context.measureText(text).width + 8;
  const left = x + 4 + width > points.width ? x - 4 - width : x + 4;
  const top = points.height - 38;
  context.fillStyle = colors.surface;
  context.fillRect(left, top, width, 18);
  [context.fillStyle, context.textBaseline] = [colors.budget, "middle"];
  context.fillText(text, left + 4, top + 9);
}
