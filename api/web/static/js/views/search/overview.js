/** A search at a glance: charts, the chosen trial, what runs. */
import { go } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { plural } from "../../core/format.js";
import { Empty, Failure, Loading } from "../../ui/states.js";
import { Button } from "../../ui/controls.js";
import { useMedia } from "../../core/hooks.js";
import { useVersion } from "./hooks.js";
import { BestSoFar } from "./progress.js";
import { Running } from "./running.js";
import { Scatter } from "./scatter.js";
import { Selected } from "./selected.js";
import { StrategyChart } from "./strategy.js";
import { Winner } from "./winner.js";

export function Overview({ search, trials, selection, query, intervals }) {
  useVersion(trials);
  const wide = useMedia("(min-width: 1700px)");
  const narrow = useMedia("(max-width: 760px)");
  if (trials.count === 0) return html`<${NoTrials} search=${search} trials=${trials} />`;
  const onOpen = (number) => go(`/searches/${search.id}/trials/${number}`);
  const shared = { search, trials, selection, query, onOpen };
  return html`${trials.problem && html`<${Failure} problem=${trials.problem} retry=${() => trials.load()} />`}
    <${Winner} search=${search} />
    <div class="search-overview">
      <section class="card search-main"><${Scatter} ...${shared} intervals=${intervals} height=${wide ? 600 : narrow ? 330 : 420} /></section>
      <aside class="search-side"><${Selected} search=${search} selection=${selection} />
        <${Running} ...${{ search, trials, selection }} /></aside>
      <section class="card search-best"><${BestSoFar} ...${shared} height=${260} /></section>
      <section class="card search-strategy"><${StrategyChart} ...${shared} height=${240} /></section>
    </div>`;
}

function NoTrials({ search, trials }) {
  if (trials.state === "loading") return html`<${Loading} what="the trials" />`;
  if (trials.state === "failed") return html`<${Failure} problem=${trials.problem} retry=${() => trials.load()} />`;
  const [title, text] = {
    queued: ["Waiting for a worker", "It begins as soon as a worker is free; those that wait longer come first. Its trials appear here as they begin."],
    running: search.evaluator === "remote" ? ["Waiting for clients", "A client leases its trials, trains them and tells how good they are. None has asked yet."]
      : ["It begins", "A worker reads the data and prepares the space. The first trial appears here as soon as it begins."],
    paused: ["Paused before its first trial", "Resume it, and its trials appear here."],
    failed: ["It failed before its first trial", search.error ?? ""],
  }[search.state] ?? ["No trials", `It ended before its first trial; ${plural(search.wanted, "trial")} were wanted.`];
  return html`<${Empty} title=${title} action=${search.state === "queued" && html`<${Button} href="#/jobs">What the workers do<//>`}>${text}<//>`;
}
