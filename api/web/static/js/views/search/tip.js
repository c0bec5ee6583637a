/** What the trial under the pointer is, beside its point: in the chart where the pointer is. */
import { useStore } from "../../core/store.js";
import { html, useLayoutEffect, useRef } from "../../core/ui.js";

export function Tip({ trials, selection, points, describe, box }) {
  const hover = useStore(selection, (at) => at.hover);
  const own = useRef(null);
  const row = hover === null ? -1 : trials.indexOf(hover);
  const shown = row >= 0 && points.pointed && points.u && points.drawn[row] > 0;
  useLayoutEffect(() => {
    if (!shown) return;
    const [outer, over] = [box.current.getBoundingClientRect(), points.u.over.getBoundingClientRect()];
    const [left, top] = [over.left - outer.left + points.left[row], over.top - outer.top + points.top[row]];
    const { offsetWidth: width, offsetHeight: height } = own.current;
    const beside = left + 14 + width > outer.width ? left - 14 - width : left + 14;
    own.current.style.left = `${Math.max(0, beside)}px`;
    own.current.style.top = `${Math.max(0, Math.min(top - height / 2, outer.height - height))}px`;
  });
  return shown && html`<div class="tooltip search-tip" ref=${own} data-testid="trial-tip">
      <strong>Trial ${trials.number[row]}</strong>
      <dl>${describe(row).map(([name, text]) => html`<div key=${name}><dt>${name}</dt><dd>${text}</dd></div>`)}</dl>
    </div>`;
}
