/** uPlot in a component: its size follows its box, its colours follow the theme. */
import { onTheme } from "../core/theme.js";
import { html, useEffect, useRef } from "../core/ui.js";
import { colors } from "../core/theme.js";
import uPlot from "../../vendor/uplot.js";

export { uPlot };

/**
 * @param make (colors, {width, height}) -> uPlot options without the size; called again when the theme or `remake` changes
 * @param data uPlot's, replaced in place when it changes
 * @param remake any value: when it changes, the plot is made anew
 * @param onReady (uPlot | null): to draw again or to read positions
 * @param label what screen readers call it; the figure around it says what it shows
 */
export function Plot({ make, data, height = 300, remake, onReady, label, children }) {
  const box = useRef(null);
  const plot = useRef(null);
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    const build = () => {
      plot.current?.destroy();
      const size = { width: Math.max(120, box.current.clientWidth), height };
      const options = make(colors(), size);
      plot.current = new uPlot({ ...size, legend: { show: false }, ...options }, latest.current, box.current);
      onReady?.(plot.current);
    };
    build();
    const seen = new ResizeObserver(() => {
      const width = Math.max(120, box.current?.clientWidth ?? 0);
      if (plot.current && Math.abs(width - plot.current.width) > 1) plot.current.setSize({ width, height });
    });
    seen.observe(box.current);
    const off = onTheme(build);
    return () => {
      seen.disconnect();
      off();
      onReady?.(null);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [remake, height]);
  useEffect(() => {
    if (plot.current && plot.current.data !== data) plot.current.setData(data);
  }, [data]);
  return html`<div class="plot" role="img" aria-label=${label}><div ref=${box}></div>${children}</div>`;
}

/** How axes look; give `label` with the unit. */
export function axis(c, more = {}) {
  return {
    stroke: c.muted, font: "11px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 22, gap: 4,
    grid: { stroke: c.line, width: 1 }, ticks: { stroke: c.line, width: 1, size: 5 }, ...more,
  };
}
