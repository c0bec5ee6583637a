/** A search in a few numbers. */
import { METRICS, ago, count, digits, duration, metric, named, percent } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { Facts, Progress } from "../../ui/controls.js";
import { useVersion } from "./hooks.js";
import { COMPLETE, FAILED, PRUNED, RUNNING } from "./model.js";
import { costsOf } from "./words.js";

export function KeyFacts({ search, trials }) {
  useVersion(trials);
  const counts = countsOf(search, trials);
  const ended = counts[COMPLETE] + counts[PRUNED] + counts[FAILED];
  const others = [[RUNNING, "running"], [PRUNED, "pruned"], [FAILED, "failed"]].filter(([state]) => counts[state]).map(([state, word]) => `${count(counts[state])} ${word}`);
  const items = [
    bestFact(search, trials),
    ["Trials", html`${count(ended)} <span class="muted small">of ${count(search.wanted)}</span>`, html`${others.join(" · ")}
      <${Progress} value=${Math.min(ended, search.wanted)} max=${search.wanted} label="Trials that have ended, of those wanted" />`],
    timeFact(search),
    regretFact(search, trials),
  ];
  return html`<section class="card search-facts" aria-label="Key facts"><${Facts} items=${items.filter(Boolean)} /></section>`;
}

/** As the trials tell, which is newer, once they are read. */
function countsOf(search, trials) {
  if (trials.state === "ready") return trials.counts();
  return ["running", "complete", "pruned", "failed"].map((state) => search.trials[state] ?? 0);
}

function bestFact(search, trials) {
  const row = trials.state === "ready" ? (trials.best().at(-1) ?? -1) : -1;
  const best = row >= 0 ? { number: trials.number[row], accuracy: trials.accuracy[row], costs: (name) => trials.costs[name][row] }
    : search.best && { ...search.best, costs: (name) => search.best.costs[name] };
  if (!best) return ["Best accuracy", "–", "no trial is complete yet"];
  const budgets = search.spec.budgets ?? {};
  const names = Object.keys(budgets).filter((name) => METRICS[name]);
  const told = (names.length ? names : costsOf(trials).slice(0, 1)).map((name) => (name in budgets ? `${metric(name, best.costs(name))} of ${named(name, budgets[name])}` : named(name, best.costs(name))));
  return ["Best accuracy", html`<span data-testid="best-accuracy">${percent(best.accuracy)}</span>`,
    html`<a href=${`#/searches/${search.id}/trials/${best.number}`}>trial ${best.number}</a>${told.length ? ` · ${told.join(" · ")}` : ""}`];
}

function timeFact(search) {
  const { pace, state } = search;
  if (state === "running" && pace) return ["Time left", duration(pace.eta_s), `${digits(pace.trials_per_hour)} trials an hour`];
  if (state === "running") return ["Time left", "–", "too few trials to tell"];
  if (state === "queued") return ["Time left", "–", "waits for a worker"];
  if (search.finished_at) return ["Took", duration((Date.parse(search.finished_at) - Date.parse(search.created_at)) / 1000), `ended ${ago(search.finished_at)}`];
  return ["Submitted", ago(search.created_at), ""];
}

/** How much better than the recommended one the best network is expected to be; only strategies with a model tell. */
function regretFact(search, trials) {
  const { expected_regret: regret } = trials.attrs;
  let row = trials.count - 1;
  while (regret && row >= 0 && !(regret[row] >= 0)) row -= 1;
  const value = regret && row >= 0 ? regret[row] : search.beliefs?.expected_regret;
  if (value === undefined || value === null) return null;
  return ["Still to gain", `${digits(100 * value, 2)} points`, "so much better, the surrogate expects, the best network is"];
}
