/** What was asked, and the lines that ask for it again. */
import { METRICS, count, dateTime, isExact, metric, percent, plural } from "../../core/format.js";
import { url } from "../../core/api.js";
import { html } from "../../core/ui.js";
import { Button } from "../../ui/controls.js";
import { Snippet } from "../../ui/snippet.js";
import { linesOf } from "../new_search/lines.js";
import { askedOptions } from "../new_search/prefill.js";

export function SpecTab({ search }) {
  return html`<div class="two search-spec">
    <section class="card"><h2>What was asked</h2><dl class="kv">${asked(search).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl></section>
    <section class="card stack"><div class="row spread"><h2>Ask for it again</h2><${Button} icon="plus" href=${`#/new?from=${search.id}`}>New like this<//></div>
      <p class="muted">The same request, with a name of its own. With the same seed it makes the same proposals.</p>
      ${!isExact(search.spec.seed) && html`<p class="notice">The lines leave its seed out: it is larger than a browser keeps exactly. <code>GET ${url(`searches/${search.id}`)}</code> tells it.</p>`}
      <${Snippet} lines=${linesOf(requestOf(search))} label="Submit it again from elsewhere" />
    </section>
  </div>`;
}

/** The request of POST searches that this search came from. */
function requestOf({ spec, board, table_digest: table }) {
  const { space, evaluator_options: given, earlier } = spec;
  const { data, epochs, init, inherit, ...options } = askedOptions(given);
  const request = {
    space: space.name, resolution: space.resolution, classes: space.classes, channels: space.channels, board, table: table && table.slice(0, 16),
    budgets: spec.budgets, strategy: spec.strategy, strategy_options: spec.strategy_options, evaluator: spec.evaluator, evaluator_options: options,
    data, epochs, init, inherit, reward: spec.reward === "hard" ? null : spec.reward, reward_exponent: spec.reward === "hard" ? null : spec.reward_exponent,
    confidence: spec.budgets?.latency_ms ? spec.confidence : null, rungs: spec.rungs, eta: spec.rungs?.length ? spec.eta : null, front: spec.front,
    stop_when: spec.stop_when, from: earlier?.search, trials: spec.trials, parallel: spec.parallel,
    seed: isExact(spec.seed) ? spec.seed : null,
  };
  const said = (value) => value !== null && value !== undefined && value !== false && !(typeof value === "object" && Object.keys(value).length === 0);
  return Object.fromEntries(Object.entries(request).filter(([, value]) => said(value)));
}

function asked(search) {
  const { spec } = search;
  const options = (given) => Object.entries(given ?? {}).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`).join(", ");
  const budgets = Object.entries(spec.budgets ?? {}).map(([name, limit]) => `${METRICS[name]?.title ?? name} at most ${metric(name, limit)}`);
  return [
    ["Space", `${spec.space.name}, ${(spec.space.resolution ?? []).map((side) => `${side} px`).join(" or ") || "its own resolution"}, ${plural(spec.space.channels ?? 3, "channel")}, ${plural(spec.space.classes, "class", "classes")}`],
    ["Board", search.board ? html`<a href=${`#/boards/${encodeURIComponent(search.board)}`}>${search.board}</a>` : "none"],
    search.table_digest && ["Latency table", html`<span class="mono">${search.table_digest.slice(0, 16)}</span>`],
    ["Budgets", budgets.join(", ") || "none"],
    spec.confidence && spec.budgets?.latency_ms && ["Latency kept with", `${percent(spec.confidence, 0)} confidence`],
    ["Strategy", [spec.strategy, options(spec.strategy_options)].filter(Boolean).join(": ")],
    ["Evaluator", [spec.evaluator, options(spec.evaluator_options)].filter(Boolean).join(": ")],
    ["Reward", spec.reward === "soft" ? `accuracy · (latency / budget)^${spec.reward_exponent}` : "accuracy"],
    spec.rungs?.length > 0 && ["Rungs", `after ${spec.rungs.join(", ")} epochs; the best 1/${spec.eta} go on`],
    spec.front && ["Front", `accuracy against ${METRICS[spec.front]?.short ?? spec.front}`],
    spec.stop_when && ["Ends when", `no more than ${percent(spec.stop_when)} is expected to be missed`],
    spec.earlier && ["Starts from", html`<a href=${`#/searches/${spec.earlier.search}`}>search ${spec.earlier.search}</a>`],
    ["Trials", `${count(spec.trials)}, ${spec.parallel} at once`], ["Seed", isExact(spec.seed) ? spec.seed : `about ${spec.seed}`],
    ["Submitted", `${dateTime(search.created_at)}${search.owner ? ` by ${search.owner}` : " on the command line"}`],
  ].filter(Boolean);
}
