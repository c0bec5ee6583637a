/** Predicted against measured: networks of verifications in ms, and the networks that the table was calibrated on in percent. */
import { digits, ms, plural } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { useRoute, setQuery } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Figure } from "../../ui/figure.js";
import { Loading } from "../../ui/states.js";
import { intervalPct } from "./interval.js";
import { ErrorPlot, ScatterPlot } from "./plots.js";

const BAND_PCT = 10;

export function Agreement({ board, table, loading }) {
  const { query } = useRoute();
  const jobs = useGet("jobs", { kind: "verify", board, state: "complete", limit: 100 }, { on: { kinds: ["job.state"] } });
  if (!jobs.data || (!table && loading)) return html`<${Loading} what="the measurements" />`;
  const networks = jobs.data.items.flatMap(({ id, result }) => (result?.networks ?? []).map((one) => ({ ...one, job: id })));
  const residuals = table?.calibration.residuals ?? [];
  const views = [networks.length && ["verified", `Verified networks (${networks.length})`], residuals.length && ["calibration", `Calibration (${residuals.length})`]].filter(Boolean);
  if (!views.length) return html`<h2>Predicted against measured</h2><p class="muted">Nothing to compare yet: profile a space, or verify a search's networks on this board.</p>`;
  const at = views.find(([id]) => id === query.agreement)?.[0] ?? views[0][0];
  const choice = views.length > 1 && html`<div class="row" role="group" aria-label="Which networks">${views.map(([id, text]) => html`<button type="button" class="chip" key=${id}
    aria-pressed=${String(id === at)} onClick=${() => setQuery({ agreement: id })}>${text}</button>`)}</div>`;
  return at === "verified" ? html`<${Verified} ...${{ board, networks, choice }} />` : html`<${Calibration} ...${{ board, table, choice }} />`;
}

const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;

function Verified({ board, networks, choice }) {
  const errors = networks.map(({ error_pct: error }) => Math.abs(error));
  const known = networks.filter(({ inside }) => inside !== null);
  const inside = known.filter((one) => one.inside).length;
  const near = errors.filter((error) => error <= BAND_PCT).length;
  const summary = `${plural(networks.length, "network")} run on ${board}: the prediction is off by ${digits(mean(errors))} % on average, at most ${digits(Math.max(...errors))} %; ${near} of ${networks.length} within ±${BAND_PCT} %`
    + (known.length ? `, ${inside} of ${known.length} inside their 90 % interval.` : ".");
  const csv = () => ({
    filename: `${board}-predicted-measured.csv`,
    columns: Object.fromEntries(["job", "encoding", "predicted_ms", "low_ms", "high_ms", "measured_ms", "error_pct", "inside"].map((name) => [name, networks.map((one) => (typeof one[name] === "boolean" ? String(one[name]) : one[name]))])),
  });
  return html`<${Figure} title="Predicted against measured" summary=${summary} shown csv=${csv} actions=${choice}>
    <${ScatterPlot} networks=${networks} band_pct=${BAND_PCT} label=${summary} describe=${(one) => `${ms(one.predicted_ms)} predicted, ${ms(one.measured_ms)} measured (job ${one.job})`} />
    <p class="legend"><span><i class="boards-key dot"></i>inside its 90 % interval</span><span><i class="boards-key cross"></i>outside</span><span><i class="boards-key band"></i>±${BAND_PCT} %</span><span>vertical lines: 90 % intervals</span></p>
  <//>`;
}

function Calibration({ board, table, choice }) {
  const { calibration } = table;
  const errors = calibration.residuals.map((x) => 100 * Math.expm1(x));
  const interval = intervalPct(calibration);
  const near = errors.filter((error) => Math.abs(error) <= BAND_PCT).length;
  const summary = `${plural(errors.length, "network")} run whole when ${board} was profiled, each predicted without itself: off by ${digits(calibration.error_pct)} % on average, ${near} of ${errors.length} within ±${BAND_PCT} %`
    + (interval ? `; 90 % of new networks are expected from ${digits(interval[0])} % to +${digits(interval[1])} %.` : ".");
  const csv = () => ({ filename: `${board}-calibration.csv`, columns: { network: errors.map((_, i) => i + 1), measured_beside_predicted_pct: errors } });
  return html`<${Figure} title="Predicted against measured" summary=${summary} shown csv=${csv} actions=${choice}>
    <${ErrorPlot} errors=${errors} interval=${interval} band_pct=${BAND_PCT} label=${summary} />
    <p class="legend"><span><i class="boards-key dot"></i>a network</span><span><i class="boards-key band"></i>±${BAND_PCT} %</span>${interval && html`<span><i class="boards-key interval"></i>90 % interval</span>`}</p>
  <//>`;
}
