/** The trials that are being trained, with their curves as they grow; and the curve of any one trial. */
import { METRICS, duration, metric, percent, plural } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { href } from "../../core/router.js";
import { useStore } from "../../core/store.js";
import { html, useEffect, useReducer } from "../../core/ui.js";
import { Badge, Progress } from "../../ui/controls.js";
import { Figure } from "../../ui/figure.js";
import { Failure, Loading } from "../../ui/states.js";
import { Curve, curveColumns, rungsOf, sentence, stepWord } from "./curve.js";
import { useVersion } from "./hooks.js";
import { RUNNING } from "./model.js";
import { useRunningSteps, useTrialSteps } from "./steps.js";

const MOST = 12;
const NOBODY = { get: () => ({ hover: null, selected: null }), subscribe: () => () => {} };

/** Cards of running trials; with a `selection` the chosen trial's curve beside them. Nothing where nothing runs and none is chosen. */
export function Running({ search, trials, selection = NOBODY }) {
  useVersion(trials);
  const { selected } = useStore(selection);
  const on = { search: search.id, kinds: ["trial.started", "trial.ended", "search.state"] };
  const found = useGet(`searches/${search.id}/trials`, { state: "running", limit: MOST }, { on });
  const still = ({ number }) => {
    const row = trials.indexOf(number);
    return row < 0 || trials.status[row] === RUNNING;
  };
  const list = (found.data?.items ?? []).filter(still);
  const steps = useRunningSteps(search.id, list.map(({ number }) => number));
  const [running] = trials.counts();
  const chosen = selected !== null && !list.some(({ number }) => number === selected) ? selected : null;
  const live = search.state === "running";
  if (!list.length && chosen === null) {
    return live ? html`<section class="card table-running" aria-label="Running trials"><p class="muted">No trial is being trained at the moment: the next one is on its way.</p></section>` : null;
  }
  return html`<section class="table-running" aria-label="Running trials">
    ${chosen !== null && html`<div class="card" key="chosen"><${TrainingCurve} search=${search} number=${chosen} height=${150} /></div>`}
    ${list.length > 0 && html`<h2>${live ? "Being trained" : "Waiting to go on"} <span class="muted small">${plural(Math.max(running, list.length), "trial")}${
      running > list.length ? `, the first ${list.length} of them here` : ""}</span></h2>`}
    ${list.length > 0 && html`<div class="grid">
      ${list.map((trial) => html`<${Card} key=${trial.number} ...${{ search, trial, live }} steps=${steps.get(trial.number)} lit=${trial.number === selected} />`)}
    </div>`}
  </section>`;
}

function Card({ search, trial, steps, live, lit }) {
  const { number, costs, started_at: started } = trial;
  const word = stepWord(search);
  const rungs = useRungs(search, number);
  useSeconds(live);
  const at = steps ? Math.max(...steps.at.keys()) : 0;
  const name = ["latency_ms", ...Object.keys(costs)].find((one) => one in costs);
  const gone = duration(Math.max(0, (Date.now() - Date.parse(started)) / 1000));
  const csv = steps && (() => ({ filename: `${search.name}-trial-${number}.csv`, columns: curveColumns(steps, word) }));
  const last = steps?.at.get(at)?.val_accuracy;
  return html`<article class=${`card table-run${lit ? " lit" : ""}`} data-testid=${`running-${number}`}>
    <${Figure} title=${`Trial ${number}`} level=${3} summary=${steps ? sentence(steps, word) : "Nothing is told yet."} csv=${csv}
      actions=${html`<${Badge} state=${live ? "running" : "paused"} />`}>
      <p class="row spread small muted"><a href=${href(`/searches/${search.id}/trials/${number}`)}>${name ? `${metric(name, costs[name])} ${METRICS[name]?.short ?? name}` : "its network"}</a>${live && html`<span>for ${gone}</span>`}</p>
      <${Progress} value=${at} max=${steps?.of ?? 1} label=${`Trial ${number}: ${word}s done`}>
        <span class="row spread"><span>${at === 0 ? `the first ${word} …` : `${word} ${at}${steps.of ? ` of ${steps.of}` : ""}`}</span>${
          Number.isFinite(last) && html`<strong>${percent(last, 1)}</strong>`}</span><//>
      ${steps ? html`<${Curve} ...${{ steps, rungs, word }} height=${130} label=${`Training of trial ${number} so far`} />`
        : html`<p class="table-wait muted small">Its curve begins with its first ${word}.</p>`}
    <//>
  </article>`;
}

/** What rungs ask of a trial is fixed when it starts. */
function useRungs(search, number) {
  const { data } = useGet(search.spec.rungs?.length ? `searches/${search.id}/trials/${number}` : null);
  return rungsOf(data?.stop_below);
}

/** Renders again every second while something runs. */
function useSeconds(on) {
  const [, again] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    if (!on) return undefined;
    const ticking = setInterval(() => !document.hidden && again(), 1000);
    return () => clearInterval(ticking);
  }, [on]);
}

/** The training of one trial: as its evaluator told it, or as far as it is. */
export function TrainingCurve({ search, number, height = 260, level = 2 }) {
  const { trial, steps, error, loading } = useTrialSteps(search.id, number);
  const word = stepWord(search);
  if (!trial) return error ? html`<${Failure} problem=${error} />` : html`<${Loading} what=${`the training of trial ${number}`} />`;
  const title = `Training of trial ${number}`;
  if (!steps) {
    const why = loading ? "Loading …" : trial.state === "running" ? `Its curve begins with its first ${word}.` : `Nothing was told ${word} by ${word}: its evaluator, ${search.evaluator}, gave its accuracy at once.`;
    return html`<${Figure} title=${title} level=${level} summary=${why}><p class="muted small">${why}</p><//>`;
  }
  const csv = () => ({ filename: `${search.name}-trial-${number}.csv`, columns: curveColumns(steps, word) });
  const ending = trial.state === "pruned" ? ` A rung ended it at ${percent(trial.accuracy, 1)}.` : trial.state === "failed" ? " It failed." : "";
  return html`<${Figure} title=${title} level=${level} summary=${sentence(steps, word) + ending} csv=${csv} shown>
    <${Curve} ...${{ steps, word, height }} rungs=${rungsOf(trial.stop_below)} label=${title} />
  <//>`;
}
