/** A final: the search's best networks and the obvious choices, trained to the end. */
import { compact, ms, percent, plural, signed } from "../../core/format.js";
import { href } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Figure } from "../../ui/figure.js";
import { SeedStrip, seedScale } from "./strips.js";

const VERDICTS = { wins: "beats", loses: "loses to", level: "is level with", "one seed": "differs from" };
const points = ({ mean, half_width: half }) => `${signed(mean, (x) => x.toFixed(2))} ± ${half.toFixed(2)}`;

/** @param result of a job `train`: {winner, networks, comparison} */
export function FinalResult({ job, result }) {
  const { networks, comparison } = result;
  const seeds = Math.max(1, ...networks.map((one) => one.seeds.length));
  const scale = seedScale(networks);
  const csv = () => {
    const names = ["label", "role", "encoding", "val_accuracy", "test_accuracy", "predicted_ms", "measured_ms", "p95_ms", "flops", "params", "model_mb", "peak_memory_mb"];
    return { filename: `job-${job.id}-final.csv`, columns: Object.fromEntries(names.map((name) => [name, networks.map((one) => one[name])])) };
  };
  return html`<${Figure} title="Who won" summary=${said(result, seeds)} shown csv=${csv}>
    ${comparison?.verdict === "one seed" && html`<p class="small muted">One training of each tells nothing about the luck of trainings: run the final with 3 seeds to be sure.</p>`}
    <div class="scroll"><table class="table jobs-final">
      <thead><tr><th scope="col">Network</th><td class="small muted jobs-axis"><span>${percent(scale.low, 1)}</span><span>${percent(scale.high, 1)}</span></td><th scope="col" class="num">Validation</th>
        <th scope="col" class="num">Test</th><th scope="col" class="num">Winner better by</th><th scope="col" class="num">Latency</th>
        <th scope="col" class="num">FLOPs</th><th scope="col" class="num">Parameters</th></tr></thead>
      <tbody>${networks.map((one) => html`<tr key=${one.label} class=${`jobs-${one.role}`}>
        <th scope="row"><${Label} text=${one.label} search=${job.search_id} /><div class="small muted">${one.role}${one.role === "winner" ? " ★" : ""}</div></th>
        <td><${SeedStrip} network=${one} scale=${scale} /></td>
        <td class="num nowrap">${percent(one.val_accuracy)}${spread(one.val_accuracies)}</td>
        <td class="num nowrap">${percent(one.test_accuracy)}</td>
        <td class="num nowrap">${one.winner_is_better_by ? points(one.winner_is_better_by) : ""}</td>
        <td class="num nowrap"><${Latency} network=${one} /></td>
        <td class="num nowrap">${compact(one.flops)}</td><td class="num nowrap">${compact(one.params)}</td>
      </tr>`)}</tbody>
    </table></div>
    <p class="small muted">Accuracy on the validation pictures chose the winner; on the test pictures it is compared, in points, with a 95 % interval. Each dot is a training, the line their mean.</p>
  <//>`;
}

/** Measured where it was run on a board. */
function Latency({ network: { measured_ms: measured, predicted_ms: predicted } }) {
  if (measured === null) return html`${ms(predicted)}${predicted !== null && html`<div class="small muted">predicted</div>`}`;
  return html`${ms(measured)}<div class="small muted">${predicted === null ? "measured" : `predicted ${ms(predicted)}`}</div>`;
}

/** A finalist is called by its trial. */
function Label({ text, search }) {
  const number = /^trial (\d+)$/.exec(text)?.[1];
  return number === undefined ? text : html`<a href=${href(`/searches/${search}/trials/${number}`)}>${text}</a>`;
}

/** The final in one sentence. */
function said({ winner, comparison, networks }, seeds) {
  const trained = `${plural(networks.length, "network")}, ${plural(seeds, "training")} each`;
  const who = winner[0].toUpperCase() + winner.slice(1);
  if (!comparison) return `${who} is the best of ${trained}.`;
  return `${who} ${VERDICTS[comparison.verdict] ?? "against"} ${comparison.baseline}, the best of the obvious choices: ${points(comparison)} points on the test pictures (${trained}).`;
}

/** The standard deviation over trainings; nothing of one. */
function spread(values) {
  if (values.length < 2) return "";
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const sd = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1));
  return html` <span class="muted">± ${(100 * sd).toFixed(2)}</span>`;
}
