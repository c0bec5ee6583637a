/** Lines that do the same from a terminal or a program. */
import { html, useState } from "../core/ui.js";
import { Button } from "./controls.js";

/** Copy a text; where the browser has no clipboard (a plain http address), select it for the user instead. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

export function Copy({ text, label = "Copy" }) {
  const [said, say] = useState("");
  const onClick = async () => {
    say((await copy(text)) ? "Copied" : "Press Ctrl-C");
    setTimeout(say, 1800, "");
  };
  return html`<${Button} kind="quiet" icon=${said ? "check" : "copy"} label=${label} onClick=${onClick}><span aria-live="polite">${said}</span><//>`;
}

/** lines: [{name, text}] */
export function Snippet({ lines, label = "The same without the dashboard" }) {
  const [at, setAt] = useState(0);
  const one = lines[Math.min(at, lines.length - 1)];
  return html`<section class="snippet" aria-label=${label}>
    <div class="row">${lines.map(({ name }, i) => html`<button type="button" class="chip" key=${name} aria-pressed=${String(i === at)} onClick=${() => setAt(i)}>${name}</button>`)}
      <span class="grow"></span><${Copy} text=${one.text} label=${`Copy the ${one.name} line`} /></div>
    <pre tabindex="0" aria-label=${one.name}><code>${one.text}</code></pre>
  </section>`;
}
