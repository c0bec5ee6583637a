/** A chart with its title, a sentence that says what it shows, and its numbers as CSV. */
import { saveCsv } from "../core/csv.js";
import { html, useId } from "../core/ui.js";
import { Button } from "./controls.js";

/** `csv()` gives {filename, columns}; it may be a promise. `shown`: print the sentence, too. */
export function Figure({ title, summary, csv, actions, children, shown = false, level = 2 }) {
  const id = useId();
  const take = async () => {
    const { filename, columns } = await csv();
    saveCsv(filename, columns);
  };
  const Heading = `h${level}`;
  return html`<figure class="figure" aria-labelledby=${id} aria-describedby=${`${id}-says`}>
    <figcaption><${Heading} id=${id}>${title}<//>${actions}
      ${csv && html`<${Button} kind="quiet" icon="download" label=${`${title} as CSV`} onClick=${take}>CSV<//>`}</figcaption>
    <p id=${`${id}-says`} class=${shown ? "muted small" : "sr-only"}>${summary}</p>
    ${children}
  </figure>`;
}
