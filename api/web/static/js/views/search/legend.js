/** What the shapes of a chart mean. */
import { html } from "../../core/ui.js";

const KEYS = {
  complete: ["complete", html`<circle cx="8" cy="8" r="4.5" fill="var(--complete)" />`],
  faint: ["a trial", html`<circle cx="8" cy="8" r="3" fill="var(--complete)" opacity="0.5" />`],
  accepted: ["accepted", html`<circle cx="8" cy="8" r="4.5" fill="var(--complete)" />`],
  refused: ["not accepted", html`<circle cx="8" cy="8" r="2.5" fill="var(--pruned)" opacity="0.7" />`],
  pruned: ["pruned", html`<circle cx="8" cy="8" r="4" fill="none" stroke="var(--pruned)" stroke-width="1.6" />`],
  failed: ["failed", html`<path d="M4 4l8 8M4 12l8-8" stroke="var(--failed)" stroke-width="1.8" />`],
  running: ["running", html`<circle cx="8" cy="8" r="4.5" fill="none" stroke="var(--running)" stroke-width="2.6" />`],
  front: ["Pareto front", html`<path d="M1 13h6V5h8" fill="none" stroke="var(--front)" stroke-width="2" />`],
  best: ["best so far", html`<path d="M1 13h6V5h8" fill="none" stroke="var(--front)" stroke-width="2" />`],
  budget: ["budget", html`<path d="M8 0v16" stroke="var(--budget)" stroke-width="1.8" stroke-dasharray="4 2.500" />`],
};

export function Legend({ shapes }) {
  return html`<div class="legend">${shapes.filter(Boolean).map((name) => html`<span key=${name}>
    <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">${KEYS[name][1]}</svg>${KEYS[name][0]}</span>`)}</div>`;
}
