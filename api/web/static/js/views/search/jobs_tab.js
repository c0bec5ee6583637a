/** Jobs about the search and the files they made; what can be done next with its winner. */
import * as api from "../../core/api.js";
import { postOnce } from "../../core/once.js";
import { can, owns } from "../../core/session.js";
import { html, useState } from "../../core/ui.js";
import { Button, toast } from "../../ui/controls.js";
import { NumberField } from "../../ui/field.js";
import { Artifacts, JobList } from "../jobs/parts.js";

export function JobsTab({ search }) {
  const complete = search.trials.complete > 0;
  return html`<div class="stack">
    ${owns(search.owner) && html`<${Next} search=${search} complete=${complete} />`}
    <section class="stack" aria-labelledby="search-jobs"><h2 id="search-jobs">Jobs</h2><${JobList} search=${search.id} /></section>
    <section class="card stack" aria-labelledby="search-files"><h2 id="search-files">Files</h2><${Artifacts} search=${search.id} /></section>
  </div>`;
}

function Next({ search, complete }) {
  const trains = search.evaluator === "training";
  const steps = [
    trains && ["train", "Train the winner", { search: search.id },
      `Trains the best five networks and the obvious choices for 60 epochs, ${search.board ? "runs them on the board, " : ""}and chooses the winner.`],
    trains && ["export", "Export", { search: search.id }, "Writes the winner as torch, ONNX and ncnn, with a model card and programs that run it. It is trained first if it is not yet."],
    search.board && ["verify", "Verify", { search: search.id, top: 5 }, `Runs the five best networks on ${search.board}: predicted latency beside measured.`],
  ].filter(Boolean);
  const over = !["queued", "running"].includes(search.state);
  return html`<section class="card" aria-labelledby="search-next"><h2 id="search-next">Next</h2>
    ${!complete && html`<p class="muted">There is nothing to train or export before a trial is complete.</p>`}
    <ul class="search-next">
      ${steps.map(([kind, title, body, text]) => html`<li key=${kind}><${Begin} ...${{ kind, title, body, disabled: !complete }} /><span class="muted small">${text}</span></li>`)}
      ${over && html`<li><${More} search=${search} /></li>`}
    </ul>
    ${!trains && html`<p class="muted small">Its trials were evaluated by ${search.evaluator}, so the server has nothing to train the winner on.</p>`}
  </section>`;
}

function Begin({ kind, title, body, disabled }) {
  const [busy, setBusy] = useState(false);
  if (!can("user")) return null;
  const begin = async () => {
    setBusy(true);
    try {
      const job = await postOnce(`jobs/${kind}`, body);
      toast(`Job ${job.id} waits for a worker`);
    } catch (problem) {
      toast(problem.detail, "bad");
    }
    setBusy(false);
  };
  return html`<${Button} onClick=${begin} busy=${busy} disabled=${disabled} data-testid=${`begin-${kind}`}>${title}<//>`;
}

/** A search that is over goes on, with more trials. */
function More({ search }) {
  const [trials, setTrials] = useState(2 * search.wanted);
  const [error, setError] = useState(null);
  const go = async (event) => {
    event.preventDefault();
    try {
      await api.post(`searches/${search.id}/resume`, { trials });
      setError(null);
      toast(`${search.name} goes on to ${trials} trials`);
    } catch (problem) {
      setError(api.fieldErrors(problem).trials ?? problem.detail);
    }
  };
  return html`<form class="search-more" onSubmit=${go}><${NumberField} label="Go on, to so many trials in all" value=${trials} min=${search.wanted} step=${1}
    onInput=${setTrials} error=${error} /><${Button} type="submit" onClick=${() => {}}>Go on<//></form>`;
}
