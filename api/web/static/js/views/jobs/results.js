/** What came of a job, per kind. */
import { count, digits, duration, metric, ms, percent, plural, signed } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { href } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Badge, Facts } from "../../ui/controls.js";
import { Figure } from "../../ui/figure.js";
import { FinalResult } from "./final.js";
import { ErrorBand, bandScale } from "./strips.js";
import { keyTitle, valueText } from "./words.js";

const RESULTS = { profile: Profile, verify: Verified, train: FinalResult, export: Exported, search: Searched };

/** The result of a complete job. */
export function JobResult({ job }) {
  const Shown = job.kind === "verify" && job.spec.accuracy ? Agreement : (RESULTS[job.kind] ?? Other);
  return html`<section class="card stack jobs-result" aria-label="Result"><${Shown} job=${job} result=${job.result} /></section>`;
}

/** A value that is in percent already. */
export function pct(value, places = 1) {
  return value === null || value === undefined ? "–" : `${value.toFixed(places)}\u00a0%`.replace("-", "−");
}

function Profile({ job, result }) {
  const interval = result.interval_pct;
  const disturbed = Object.entries(result.disturbed ?? {});
  return html`<h2>What was measured</h2>
    ${!result.complete && html`<p class="notice">It was cut short: ${count(result.estimated_ops)} of ${count(result.ops)} ops are estimated from others. Run again without a time limit to time them all.</p>`}
    <p>A network of <a href=${href(`/boards/${encodeURIComponent(result.board)}`)}>${result.board}</a> is predicted with a mean error of <strong>${pct(result.error_pct, 2)}</strong>,
      as ${plural(result.calibration_networks, "whole network")} run beside it show${result.split_half_pct === null ? "" : html`; the measurement’s own noise is ${pct(result.split_half_pct, 2)}`}.</p>
    <${Facts} items=${[
      ["Ops", count(result.ops), `${count(result.timed_ops)} timed, ${count(result.estimated_ops)} estimated`],
      ["Mean error", pct(result.error_pct, 2), "on networks it had not seen"],
      ["90 % interval", interval ? `${signed(interval[0], (x) => pct(x))} to ${signed(interval[1], (x) => pct(x))}` : "–", "of a prediction"],
      ["Board time", duration(result.seconds), `${plural(result.cover_networks, "network")}, ${plural(result.passes, "pass", "passes")}`],
      ["Spread", pct(result.spread_pct), "of an op’s times"],
      ["Drift", result.drift_pct === null ? "–" : signed(result.drift_pct, (x) => pct(x)), result.drift_pct === null ? "first profile of these ops"
        : result.drift_significant ? "the board has changed since its last table" : "within the noise"],
    ]} />
    ${disturbed.length > 0 && html`<p class="small muted">Left out, because something disturbed them: ${disturbed.map(([why, n]) => `${plural(n, "batch", "batches")} (${why})`).join(", ")}.</p>`}
    ${result.skipped?.length > 0 && html`<details><summary>${plural(result.skipped.length, "network")} the engine refused</summary>
      <ul>${result.skipped.map((why, i) => html`<li key=${i} class="small">${why}</li>`)}</ul></details>`}
    <p class="small muted">Table <span class="mono" title=${result.table}>${result.table.slice(0, 12)}</span> for ${result.spaces.join(", ")}</p>`;
}

function Verified({ job, result }) {
  const { networks } = result;
  const top = job.spec.random === null ? Math.min(100, job.spec.top) : null;
  const best = useGet(top && job.search_id !== null ? `searches/${job.search_id}/trials` : null, { order: "reward", limit: top ?? 1 });
  const numbers = new Map((best.data?.items ?? []).map((trial) => [trial.encoding, trial.number]));
  const scale = bandScale(networks);
  const inside = networks.filter((one) => one.inside).length;
  const known = networks.some((one) => one.inside !== null);
  const told = networks.length === 0 ? "No network was run."
    : `${plural(networks.length, "network")} on ${result.board}: predictions are off by ${pct(result.mean_error_pct)} on average, ${pct(result.max_error_pct)} at most${
      known ? `; ${inside} of ${networks.length} inside the 90 % interval` : ""}.`;
  const column = (name) => networks.map((one) => one[name]);
  const csv = () => ({
    filename: `job-${job.id}-predicted-measured.csv`,
    columns: Object.fromEntries(["encoding", "predicted_ms", "low_ms", "high_ms", "measured_ms", "p95_ms", "error_pct", "noise_pct", "runs"].map((name) => [name, column(name)])),
  });
  return html`<${Figure} title="Predicted and measured" summary=${told} shown csv=${csv}>
    <${Facts} items=${[
      ["Mean error", pct(result.mean_error_pct), "of the prediction"],
      ["Largest error", pct(result.max_error_pct)],
      ["In the interval", result.inside_pct === null ? "–" : pct(result.inside_pct, 0), "90 % expected"],
      ["Noise", pct(result.noise_pct), "of the measurement"],
      ["Drift", signed(result.drift_pct, (x) => pct(x)), `${pct(result.mean_error_without_drift_pct)} mean error without it`],
    ]} />
    <div class="scroll"><table class="table jobs-verified">
      <thead><tr><th scope="col">Network</th><td class="small muted jobs-axis"><span>−${scale} %</span><span>+${scale} %</span></td>
        <th scope="col" class="num">Predicted</th><th scope="col" class="num">Measured</th><th scope="col" class="num">Prediction off by</th>
        <th scope="col" class="num">90 % interval</th><th scope="col" class="num">95th percentile</th></tr></thead>
      <tbody>${networks.map((one, i) => html`<tr key=${i}>
        <th scope="row"><${Network} search=${job.search_id} number=${numbers.get(one.encoding)} encoding=${one.encoding} /></th>
        <td><${ErrorBand} network=${one} scale=${scale} /></td>
        <td class="num nowrap">${ms(one.predicted_ms)}</td><td class="num nowrap"><strong>${ms(one.measured_ms)}</strong></td>
        <td class="num nowrap">${signed(one.error_pct, (x) => pct(x))}</td>
        <td class="num nowrap">${one.inside === false && html`<span class="jobs-outside">outside</span> `}${one.low_ms === null ? "–" : `${digits(one.low_ms)} to ${ms(one.high_ms)}`}</td>
        <td class="num nowrap muted">${ms(one.p95_ms)}</td></tr>`)}</tbody>
    </table></div>
    <p class="small muted">The bar is the prediction’s 90 % interval, the line the prediction, the dot what was measured; a cross is outside.</p>
  <//>`;
}

function Network({ search, number, encoding }) {
  if (number !== undefined) return html`<a href=${href(`/searches/${search}/trials/${number}`)} title=${encoding}>Trial ${number}</a>`;
  return html`<span class="mono jobs-encoding" title=${encoding}>${encoding}</span>`;
}

function Agreement({ result }) {
  const { pictures, same_answers: same } = result;
  return html`<h2>The same answers on the board?</h2>
    <p><strong>${same === pictures ? "Yes" : "Nearly"}:</strong> ${count(same)} of ${plural(pictures, "test picture")} got the same answer on ${result.board} as here
      (the files of <a href=${href(`/jobs/${result.export}`)}>export ${result.export}</a>).</p>
    ${result.remark && html`<p class="notice">${result.remark}</p>`}
    ${result.changed_files?.length > 0 && html`<p class="notice">Changed since the export: ${result.changed_files.join(", ")}. Export again.</p>`}
    <${Facts} items=${[
      ["Accuracy there", percent(result.accuracy_board), `${percent(result.accuracy_here)} here`],
      ["Largest difference", digits(result.largest_difference, 2), `of a logit, ${digits(100 * result.relative_difference, 2)} % of the largest`],
      ["Latency", ms(result.median_ms), `p95 ${ms(result.p95_ms)}`],
      ["Peak memory", metric("peak_memory_mb", result.peak_memory_mb)],
      ["Engine", result.engine, `${result.dtype}${result.emulated ? ", emulated" : ""}`],
    ]} />`;
}

function Exported({ job, result }) {
  const differences = Object.entries(result.differences ?? {});
  return html`<h2>What was exported</h2>
    <${Facts} items=${[
      ["Network", html`<a href=${href(`/searches/${job.search_id}/trials/${result.trial}`)}>Trial ${result.trial}</a>`, `of ${result.search}`],
      ["Test accuracy", percent(result.test_accuracy), `${plural(result.pictures, "picture")} never used before`],
      ["Trained for", plural(result.epochs, "epoch")],
      ["Files", count(Object.keys(result.files).length), `all in ${result.archive}`],
    ]} />
    ${differences.length > 0 && html`<h3>Checked against torch</h3>
      <div class="scroll"><table class="table jobs-narrow"><caption class="sr-only">Largest difference of a logit from torch’s</caption>
        <thead><tr><th scope="col">Program</th><th scope="col" class="num">Largest difference</th></tr></thead>
        <tbody>${differences.map(([name, value]) => html`<tr key=${name}><th scope="row">${name}</th><td class="num mono">${value.toExponential(1)}</td></tr>`)}</tbody>
      </table></div>`}`;
}

const STOPPED = {
  done: "all its trials were made", exhausted: "every network inside the budgets was tried", sure: "it expects to miss nothing more",
};

function Searched({ job, result }) {
  return html`<h2>How it ended</h2>
    <p>${STOPPED[result.stopped] ? `Because ${STOPPED[result.stopped]}.` : `Ended by: ${result.stopped}.`} <a href=${href(`/searches/${job.search_id}`)}>See the search</a></p>
    <div class="row">${["complete", "pruned", "failed"].filter((state) => result[state] > 0).map((state) => html`<${Badge} key=${state} state=${state} text=${`${count(result[state])} ${state}`} />`)}</div>`;
}

function Other({ result }) {
  const rows = Object.entries(result).map(([key, value]) => [key, valueText(key, value)]).filter(([, text]) => text !== null);
  return html`<h2>Result</h2><dl class="kv">${rows.map(([key, text]) => html`<dt key=${`${key}-`}>${keyTitle(key)}</dt><dd key=${key}>${text}</dd>`)}</dl>`;
}
