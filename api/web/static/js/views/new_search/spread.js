/** How a space's networks are spread over a cost, from small to large in equal ratios, as the server counts them. */
import { METRICS, digits, metric as shown } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { Histogram } from "../../charts/histogram.js";

export function Spread({ metric, histogram, inside, limit, onPick, label }) {
  const { edges, networks } = histogram;
  const ratio = edges[0] > 0; // else they are spread in equal steps
  const to = (value) => (ratio ? Math.log(value / edges[0]) : value);
  const { unit } = METRICS[metric];
  const inTicks = unit === "ms" || unit === "MB"; // five values with their units do not fit on a phone
  const from = (at) => (ratio ? edges[0] * Math.exp(at) : at);
  return html`<${Histogram} edges=${edges.map(to)} counts=${networks} inside=${inside} limit=${limit === null ? null : to(limit)} label=${label}
    format=${(at) => (inTicks ? digits(from(at)) : shown(metric, from(at)))} unit=${`${METRICS[metric].title}${inTicks ? `, ${unit}` : ""}${ratio ? " (log scale)" : ""}`} onPick=${(at) => onPick(from(at))} />`;
}
