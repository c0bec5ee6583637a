/** What was predicted of a network and what the board said. */
import { digits, ms, percent, signed } from "../core/format.js";
import { postOnce } from "../core/once.js";
import { useGet } from "../core/query.js";
import { href } from "../core/router.js";
import { owns, session } from "../core/session.js";
import { useStore } from "../core/store.js";
import { html, useState } from "../core/ui.js";
import { Button, Progress, toast } from "../ui/controls.js";
import { Figure } from "../ui/figure.js";
import { useWidth } from "./width.js";

const MOST = 20; // so many of the best can be measured from here
const JOBS = ["job.state", "job.progress", "job.deleted"];
const AT_WORK = ["queued", "running", "paused"];

/** What is kept with a search of a network's runs on its board ({measured_ms, predicted_ms, low_ms, high_ms, p95_ms, runs}), or null. */
export function measurementsOf(search, encoding) {
  return search.winner?.measurements?.[encoding] ?? null;
}

/** Newest first: {id, board, at, measured_ms, predicted_ms, …} of every verification that ran this network. */
function runsOf(jobs, search, encoding) {
  const runs = (jobs ?? []).flatMap((job) => (job.result?.networks ?? []).filter((one) => one.encoding === encoding)
    .map((one) => ({ ...one, id: job.id, board: job.result.board ?? job.board, at: job.finished_at })));
  const kept = measurementsOf(search, encoding);
  const known = kept && runs.some((run) => run.measured_ms === kept.measured_ms);
  return kept && !known ? [{ ...kept, error_pct: 100 * (kept.predicted_ms / kept.measured_ms - 1), id: null, board: search.board, at: null }, ...runs] : runs;
}

export function Measured({ search, trial, network, reload }) {
  const jobs = useGet("jobs", { search_id: search.id, kind: "verify", limit: 100 }, { on: { search: search.id, kinds: JOBS } });
  const runs = runsOf(jobs.data?.items, search, trial.encoding);
  const work = jobs.data?.items.find((job) => AT_WORK.includes(job.state) && !job.spec.accuracy);
  const { predicted_ms: predicted, low_ms: low, high_ms: high } = network.totals;
  if (predicted === null || predicted === undefined) {
    return html`<section class="card" aria-labelledby="network-measured"><h2 id="network-measured">Predicted and measured</h2>
      <p class="muted">This search has no latency table, so no milliseconds are predicted. Name a board when you submit a search, and its networks can be predicted and measured there.</p></section>`;
  }
  const last = runs[0];
  const told = last ? `Measured ${ms(last.measured_ms)} on ${last.board}, predicted ${ms(last.predicted_ms)}: ${errorText(last.error_pct)}.` : `Predicted ${ms(predicted)} on ${network.board}; not measured yet.`;
  const csv = () => ({ filename: `search-${search.id}-trial-${trial.number}-measured.csv`, columns: Object.fromEntries(
    ["board", "predicted_ms", "low_ms", "high_ms", "measured_ms", "p95_ms", "error_pct", "runs"].map((name) => [name, runs.map((run) => run[name])])) });
  return html`<section class="card" data-testid="measured"><${Figure} title="Predicted and measured" summary=${told} shown csv=${runs.length ? csv : null}>
    <${Scale} ...${{ predicted, low, high, runs, limit: search.spec.budgets?.latency_ms ?? null, told }} />
    ${runs.length > 0 && html`<div class="scroll"><table class="table network-runs"><thead><tr><th scope="col">Board</th><th scope="col" class="num">Measured</th><th scope="col" class="num">95 % below</th><th scope="col" class="num">Error</th><th scope="col">In interval</th></tr></thead>
      <tbody>${runs.slice(0, 5).map((run) => html`<tr key=${run.id}><td>${run.board}${run.id !== null && html` · <a href=${href(`/jobs/${run.id}`)}>job ${run.id}</a>`}</td><td class="num">${ms(run.measured_ms)}</td><td class="num">${ms(run.p95_ms)}</td>
        <td class="num">${signed(run.error_pct, (x) => `${x.toFixed(1)}\u00a0%`)}</td><td>${run.low_ms == null ? "–" : run.low_ms <= run.measured_ms && run.measured_ms <= run.high_ms ? "yes" : "no"}</td></tr>`)}</tbody></table></div>`}
    ${work ? html`<${Progress} value=${work.progress?.done ?? 0} max=${work.progress?.of ?? 1} label="Measuring"><span class="muted">${work.state === "running" ? (work.progress?.text ?? "starting") : "waiting for a worker"} · <a href=${href(`/jobs/${work.id}`)}>job ${work.id}</a></span><//>`
      : html`<${Measure} ...${{ search, trial, again: runs.length > 0, reload: () => { jobs.reload(); reload(); } }} />`}
  <//></section>`;
}

function errorText(pct) {
  return Math.abs(pct) < 0.05 ? "no error" : `predicted ${percent(Math.abs(pct) / 100, 1)} too ${pct < 0 ? "fast" : "slow"}`;
}

/** A verification runs a search's best; so a trial among them is measured with those before it. */
function Measure({ search, trial, again, reload }) {
  useStore(session);
  const best = useGet(trial.state === "complete" ? `searches/${search.id}/trials` : null, { order: "reward", limit: MOST });
  const [busy, setBusy] = useState(false);
  const recommended = search.beliefs?.recommended;
  const order = best.data ? [...(recommended === undefined ? [] : [recommended]), ...best.data.items.map((one) => one.number).filter((n) => n !== recommended)] : [];
  const rank = order.slice(0, MOST).indexOf(trial.number) + 1;
  if (!search.board) return null;
  if (trial.state !== "complete") return html`<p class="muted small">Only complete trials can be measured.</p>`;
  if (!best.data) return null;
  if (rank === 0) return html`<p class="muted small">Only a search's ${MOST} best networks can be measured from here; this one is not among them.</p>`;
  if (!owns(search.owner)) return html`<p class="muted small">The search's owner or an administrator can have it measured.</p>`;
  const measure = async () => {
    setBusy(true);
    try {
      const job = await postOnce("jobs/verify", { search: search.id, top: rank });
      toast(`Job ${job.id} measures on ${job.board}.`, "good");
      reload();
    } catch (problem) {
      toast(problem.detail, "bad");
    } finally {
      setBusy(false);
    }
  };
  const what = rank === 1 ? `Measure ${again ? "again " : ""}on ${search.board}` : `Measure the best ${rank} on ${search.board}`;
  return html`<div class="row"><${Button} kind=${again ? "plain" : "primary"} icon="board" busy=${busy} onClick=${measure}>${what}<//>
    ${rank > 1 && html`<span class="muted small">It is number ${rank}; a verification begins with the best.</span>`}</div>`;
}

const HEIGHT = 92;

/** One axis: the interval as a band, the prediction as a line, each measurement as a dot, the budget as a dashed line. */
function Scale({ predicted, low, high, runs, limit, told }) {
  const [box, width] = useWidth();
  const values = [predicted, low ?? predicted, high ?? predicted, ...runs.map((run) => run.measured_ms)];
  const spread = Math.max(...values) - Math.min(...values) || predicted * 0.1;
  const near = limit !== null && limit < Math.max(...values) + 3 * spread && limit > Math.min(...values) - 3 * spread;
  const all = near ? [...values, limit] : values;
  const [from, to] = [Math.min(...all), Math.max(...all)];
  const pad = (to - from || predicted * 0.1) * 0.14;
  const x = (value) => 8 + ((value - from + pad) / (to - from + 2 * pad)) * (width - 16);
  const base = HEIGHT - 24;
  return html`<div ref=${box}>${width > 0 && html`<svg class="network-scale" width=${width} height=${HEIGHT} role="img" aria-label=${told}>
    ${low != null && html`<rect class="band" x=${x(low)} y="20" width=${Math.max(1, x(high) - x(low))} height=${base - 20} rx="3" />`}
    <path class="predicted" d=${`M${x(predicted)} 14V${base}`} />
    ${near && html`<path class="budget" d=${`M${x(limit)} 14V${base}`} />`}
    ${[...runs].reverse().map((run, i) => html`<circle key=${i} class=${i === runs.length - 1 ? "measured last" : "measured"} cx=${x(run.measured_ms)} cy=${(20 + base) / 2} r=${i === runs.length - 1 ? 7 : 4}><title>${ms(run.measured_ms)}</title></circle>`)}
    <g class="axis"><path d=${`M8 ${base}H${width - 8}`} />${ticks(from - pad, to + pad, width > 420 ? 6 : 4).map((tick) => html`<g key=${tick}><path d=${`M${x(tick)} ${base}v5`} /><text x=${x(tick)} y=${base + 17} text-anchor="middle">${digits(tick, 4)}</text></g>`)}
      <text x=${width - 8} y=${base - 5} text-anchor="end">ms</text></g>
  </svg>
  <div class="legend"><span><i class="network-key line"></i>predicted ${ms(predicted)}</span>${low != null && html`<span><i class="network-key band"></i>90 %: ${ms(low)} – ${ms(high)}</span>`}
    ${runs.length > 0 && html`<span><i class="network-key dot"></i>measured ${ms(runs[0].measured_ms)}</span>`}${near && html`<span><i class="network-key budget"></i>budget ${ms(limit)}</span>`}</div>`}</div>`;
}

function ticks(from, to, most) {
  const raw = (to - from) / most;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * size).find((one) => one >= raw);
  const list = [];
  for (let tick = Math.ceil(from / step) * step; tick < to; tick += step) list.push(Number(tick.toPrecision(10)));
  return list;
}
