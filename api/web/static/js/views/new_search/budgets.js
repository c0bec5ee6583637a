/** The budgets: each added when it is wanted, told beside what is possible. */
import { METRICS, metric as shown } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { Button, Icon } from "../../ui/controls.js";
import { Choice, Typed } from "./controls.js";
import { BUDGETS, asTyped, roundUp } from "./fields.js";

const SURE = ["0.5", "0.8", "0.9", "0.95", "0.99", "0.999"];

export function Budgets({ values, set, errors, body, looked }) {
  const given = BUDGETS.filter((metric) => values[metric] !== undefined);
  const timed = Boolean(body.board || body.table);
  const left = BUDGETS.filter((metric) => !given.includes(metric) && (metric !== "latency_ms" || timed));
  const metrics = looked.data?.found.metrics;
  const add = (metric) => set({ [metric]: metrics?.[metric] ? asTyped(metric, metrics[metric].quantiles["0.25"]) : "" });
  return html`<div class="new-budgets stack">
    ${given.length === 0 && html`<p class="muted small">No budget yet: every network of the space may be tried.</p>`}
    ${given.map((metric) => html`<${Budget} key=${metric} ...${{ metric, values, set, errors, looked, told: metrics?.[metric] }} />`)}
    ${errors.budgets && html`<p class="notice bad" role="alert" tabindex="-1" data-refused>${errors.budgets}</p>`}
    ${left.length > 0 && html`<div class="row" role="group" aria-label="Add a budget"><span class="small muted">Add a budget:</span>
      ${left.map((metric) => html`<button type="button" class="chip" key=${metric} onClick=${() => add(metric)}><${Icon} name="plus" />${METRICS[metric].title}</button>`)}</div>`}
  </div>`;
}

function Budget({ metric, values, set, errors, looked, told }) {
  const field = `budgets.${metric}`;
  const smallest = looked.data?.smallest[metric];
  const impossible = errors[field] && smallest !== undefined;
  const use = impossible && roundUp(smallest);
  const error = impossible ? `No network of the space is inside: ${shown(metric, smallest)} is the smallest possible.` : errors[field];
  const hint = told ? `The space has ${shown(metric, told.min)} to ${shown(metric, told.max)}; half of its networks have at most ${shown(metric, told.quantiles["0.5"])}` : null;
  return html`<div class="new-budget">
    <${Typed} values=${values} set=${set} errors=${{ [field]: error }} name=${metric} field=${field} label=${`${METRICS[metric].title} at most`}
      unit=${METRICS[metric].unit} hint=${hint} />
    ${metric === "latency_ms" && values.reward !== "soft" && html`<${Choice} values=${values} set=${(patch) => set({ confidence: patch.confidence || undefined })} errors=${errors} name="confidence"
      label="Confidence" hint="That it is kept when measured" fallback="" options=${[{ value: "", text: "95 % if it can be" }, ...SURE.map((value) => ({ value, text: `${100 * Number(value)} %` }))]} />`}
    <${Button} kind="quiet" icon="cross" label=${`Remove the ${METRICS[metric].short} budget`}
      onClick=${() => set({ [metric]: undefined, ...(metric === "latency_ms" && { confidence: undefined }) })} />
    ${impossible && html`<span class="new-useit"><${Button} onClick=${() => set({ [metric]: String(use) })}>Use ${shown(metric, use)}<//></span>`}
  </div>`;
}
