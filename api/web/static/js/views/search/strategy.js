/** What the strategy is doing: annealing's temperature and choices, or how much the guided one still expects to find. */
import { count, digits, percent } from "../../core/format.js";
import { html, useMemo, useState } from "../../core/ui.js";
import { Figure } from "../../ui/figure.js";
import { Cloud } from "./cloud.js";
import { useVersion } from "./hooks.js";
import { Legend } from "./legend.js";
import { COMPLETE } from "./model.js";
import { BELOW, DOT, NONE, SMALL } from "./stamps.js";
import { csvOf, describeTrial } from "./words.js";

const RECENT = 20;
const rowsWith = (trials, values) => [...values.subarray(0, trials.count).keys()].filter((row) => values[row] === values[row]);
const alongTrials = (trials) => ({ label: "Trial", of: (row) => trials.number[row], ticks: count, whole: true });
/** 0.0023, 10⁻⁶ */
function powers(v) {
  if (v >= 0.001 && v < 1000) return digits(v);
  const [factor, power] = v.toExponential(0).split("e");
  const raised = [...String(Number(power))].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
  return `${factor === "1" ? "" : `${factor}·`}10${raised}`;
}

export function StrategyChart(props) {
  useVersion(props.trials);
  const { temperature, expected_regret: regret } = props.trials.attrs;
  if (temperature) return html`<${Temperature} ...${props} />`;
  if (regret) return html`<${Regret} ...${props} />`;
  const { strategy } = props.search;
  const tells = strategy === "annealing" || strategy === "guided";
  const text = !tells ? `The strategy ${strategy} tells nothing of what it thinks.` : props.search.state === "running" ? "It tells more once its first trials have ended."
    : "Nothing of it was kept: the trials ran before this was recorded.";
  return html`<div><h2>What the strategy thinks</h2><p class="muted">${text}</p></div>`;
}

function Temperature({ search, trials, selection, onOpen, height }) {
  const [only, setOnly] = useState(null);
  const { temperature, chain } = trials.attrs;
  const told = trials.accepted();
  const chains = useMemo(() => (chain ? [...new Set(chain.subarray(0, trials.count))].filter((one) => one >= 0).sort((a, b) => a - b) : []), [trials.version]);
  const y = { label: "Temperature", of: (row) => trials.attrs.temperature[row], ticks: powers, log: true };
  const place = (row, range) => {
    if (!(trials.attrs.temperature[row] > 0) || trials.status[row] !== COMPLETE) return NONE;
    if (only !== null && trials.attrs.chain[row] !== only) return NONE;
    if (range && trials.attrs.temperature[row] < range.y[0]) return BELOW;
    return trials.accepted()[row] === 1 ? DOT : SMALL;
  };
  const rows = useMemo(() => rowsWith(trials, temperature).filter((row) => place(row) !== NONE), [trials.version, only]);
  const share = (some) => percent(some.filter((row) => told[row] === 1).length / some.length, 0);
  const settled = useMemo(() => rows.filter((row) => told[row] > 0), [rows]);
  const summary = rows.length === 0 ? "No trial is complete yet." : settled.length < 2 * RECENT ? `The temperature is ${powers(temperature[rows.at(-1)])}; too few trials to tell how often annealing accepts.`
    : `Annealing accepted ${share(settled.slice(0, RECENT))} of its first ${RECENT} trials and ${share(settled.slice(-RECENT))} of the last; the temperature fell from ${
      powers(temperature[rows[0]])} to ${powers(temperature[rows.at(-1)])}.`;
  const taken = useMemo(() => rows.filter((row) => told[row] === 1), [rows]);
  const csv = () => ({
    filename: `${search.name}-annealing.csv`,
    columns: csvOf(trials, rows, {
      temperature: rows.map((row) => temperature[row]), chain: rows.map((row) => chain?.[row]),
      base: rows.map((row) => trials.attrs.base?.[row]), accepted: rows.map((row) => [null, 1, 0][told[row]]),
    }),
  });
  const choice = chains.length > 1 && html`<div class="row" role="group" aria-label="Chain">${[null, ...chains].map((one) => html`<button type="button"
    class="chip" key=${one} aria-label=${one === null ? null : `chain ${one + 1}`} aria-pressed=${String(only === one)} onClick=${() => setOnly(one)}>${one === null ? "all chains" : one + 1}</button>`)}</div>`;
  const describe = (row) => [
    ...describeTrial(trials, row), ["Temperature", powers(temperature[row])], ["Chain", chain ? chain[row] + 1 : "–"],
    ["Annealing", ["not known yet", "accepted it", "did not accept it"][told[row]]],
  ];
  return html`<${Figure} title="Annealing" summary=${summary} csv=${csv} actions=${choice} shown>
    <${Cloud} key=${`${only}`} label="Temperature by trial: arrows walk along the trials, Enter opens the network" x=${alongTrials(trials)}
      ...${{ trials, selection, y, place, describe, onOpen, height }} over=${(context, points) => taken.forEach((row) => points.stamp(context, row))} />
    <${Legend} shapes=${["accepted", "refused"]} />
  <//>`;
}

function Regret({ search, trials, selection, onOpen, height }) {
  const { expected_regret: regret } = trials.attrs;
  const y = { label: "Expected regret, points", of: (row) => 100 * trials.attrs.expected_regret[row], ticks: powers, log: true };
  const place = (row) => (trials.attrs.expected_regret[row] > 0 ? DOT : NONE);
  const rows = useMemo(() => rowsWith(trials, regret), [trials.version]);
  const last = rows.at(-1);
  const summary = last === undefined ? "There is no expectation yet." : `At trial ${trials.number[last]} the surrogate expected the best network of all to be ${
    digits(100 * regret[last], 2)} points better than the one it recommends; at trial ${trials.number[rows[0]]} it was ${digits(100 * regret[rows[0]], 2)}.`;
  const csv = () => ({
    filename: `${search.name}-expected-regret.csv`,
    columns: csvOf(trials, rows, { expected_regret: rows.map((row) => regret[row]), recommended: rows.map((row) => trials.attrs.recommended?.[row]) }),
  });
  const describe = (row) => [...describeTrial(trials, row), ["Expected regret", `${digits(100 * regret[row], 2)} points`]];
  return html`<${Figure} title="Still to gain" summary=${summary} csv=${csv} shown>
    <${Cloud} label="Expected regret by trial: arrows walk along the trials, Enter opens the network" x=${alongTrials(trials)}
      ...${{ trials, selection, y, place, describe, onOpen, height }} />
  <//>`;
}
