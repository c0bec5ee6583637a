/** The network a search was made for: trained to the end, predicted beside measured. */
import { compact, ms, percent, signed } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { html } from "../../core/ui.js";
import { Button } from "../../ui/controls.js";

/** The latency of an encoding as last run on the board, by the final or by a verification; null: not run. */
function measuredOf(encoding, report, jobs) {
  const final = report?.networks.find((one) => one.role === "winner" && one.measured_ms !== null);
  const runs = jobs.filter((job) => job.state === "complete" && job.result?.networks);
  return runs.flatMap((job) => job.result.networks).find((one) => one.encoding === encoding && one.measured_ms != null) ?? final ?? null;
}

/** Nothing where no network was trained to the end. */
export function Winner({ search }) {
  const { winner } = search;
  const known = winner?.trial !== undefined;
  const jobs = useGet(known ? "jobs" : null, { search_id: search.id, kind: "verify", limit: 20 }, { on: { search: search.id, kinds: ["job.state"] } });
  if (!known) return null;
  const measured = measuredOf(winner.encoding, winner.report, jobs.data?.items ?? []);
  const against = winner.report?.comparison;
  return html`<section class="card search-winner" aria-labelledby="search-winner" data-testid="winner">
    <div class="row spread"><h2 id="search-winner">Winner: trial ${winner.trial}, trained for ${winner.epochs} epochs</h2>
      <${Button} kind="primary" href=${`#/searches/${search.id}/trials/${winner.trial}`}>Open the winner<//></div>
    <dl class="facts">
      <div><dt>Test accuracy</dt><dd>${percent(winner.test_accuracy)}<small>${percent(winner.val_accuracy)} on the validation pictures</small></dd></div>
      ${measured && html`<div><dt>Latency, measured</dt><dd>${ms(measured.measured_ms)}<small>predicted ${ms(measured.predicted_ms)}, ${
        signed(100 * (measured.predicted_ms / measured.measured_ms - 1), (x) => `${x.toFixed(1)}\u00a0%`)}</small></dd></div>`}
      ${!measured && search.board && html`<div><dt>Latency, measured</dt><dd>–<small>Verify runs it on ${search.board}</small></dd></div>`}
      ${against && html`<div><dt>Against ${against.baseline}</dt><dd>${signed(against.mean, (x) => x.toFixed(2))} ± ${against.half_width.toFixed(2)}<small>points of test accuracy: ${
        { wins: "better", loses: "worse", level: "level", "one seed": "one seed tells nothing of luck" }[against.verdict]}</small></dd></div>`}
      ${measured?.flops && html`<div><dt>FLOPs</dt><dd>${compact(measured.flops)}<small>${compact(measured.params)} parameters</small></dd></div>`}
    </dl>
  </section>`;
}
