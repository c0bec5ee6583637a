/** All trials of a search over two axes: hover, click, arrows, zoom; new ones grow in. */
import { Plot, axis } from "../../charts/plot.js";
import { count } from "../../core/format.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../../core/ui.js";
import { Button } from "../../ui/controls.js";
import { useVersion } from "./hooks.js";
import { Points } from "./points.js";
import { Tip } from "./tip.js";
import { countBelow, logSplits, wholeRange } from "./view.js";

const NO_DATA = [[0, 1], [null, null]]; // uPlot draws axes; the points are ours
const KEYS = { ArrowRight: ["left", 1], ArrowLeft: ["left", -1], ArrowUp: ["top", -1], ArrowDown: ["top", 1] };

/**
 * @param x, y {label, of(row) -> value, ticks(value) -> text, log?}; for other axes give the component another key
 * @param place (row, range) -> a shape of stamps.js; range {x, y} is what is shown, null while that is being chosen
 * @param over (context, points, colors): draws above the points
 * @param under (u, colors): draws below them, e.g. a limit at x = `limit`, which stays in view
 * @param describe row -> [[name, text]] for the tooltip
 * @param interval (row, found) calls found({low, high} | null) of a trial's cost, perhaps later
 */
export function Cloud({ trials, selection, x, y, place, over, under, limit, describe, interval, onOpen, label, height = 300 }) {
  const version = useVersion(trials);
  const [zoom, setZoom] = useState(null);
  const range = useRef(null);
  const plot = useRef(null);
  const colors = useRef(null);
  const box = useRef(null);
  const latest = useRef({});
  latest.current = { over, under, interval, place };
  const points = useMemo(() => new Points({
    trials, x, y, place: (row) => latest.current.place(row, range.current), over: (context, self) => latest.current.over?.(context, self, colors.current),
  }), [trials]);

  const scale = () => {
    const u = plot.current;
    if (!u) return;
    const { x: [left, right], y: [low, high] } = range.current;
    u.batch(() => {
      u.setScale("x", { min: left, max: right });
      u.setScale("y", { min: low, max: high });
    });
  };
  const zoomed = useRef(null);
  const below = useMemo(() => {
    const before = zoomed.current ? null : range.current;
    range.current = zoom ?? wholeRange(before, { trials, x, y, place: (row) => place(row, null), limit });
    zoomed.current = zoom;
    return countBelow({ trials, place, range: range.current });
  }, [version, zoom]);
  useLayoutEffect(() => {
    scale();
    points.update();
  }, [version, zoom, points]);

  useEffect(() => {
    const follow = ({ hover, selected }) => {
      points.hover = hover === null ? -1 : trials.indexOf(hover);
      points.selected = selected === null ? -1 : trials.indexOf(selected);
      const row = points.hover >= 0 ? points.hover : points.selected;
      points.interval = null;
      latest.current.interval?.(row, (found) => {
        points.interval = found && { row, ...found };
        points.touch();
      });
      points.touch();
    };
    follow(selection.get());
    return selection.subscribe(follow);
  }, [points, version]);

  const make = (c) => {
    colors.current = c;
    return {
      scales: {
        x: { time: false, distr: x.log ? 3 : 1, range: () => range.current.x },
        y: { distr: y.log ? 3 : 1, range: () => range.current.y },
      },
      axes: [
        axis(c, { label: x.label, values: (_, at) => at.map((v) => (x.whole && v % 1 ? "" : x.ticks(v))), space: 70, size: 30 }),
        axis(c, { label: y.label, values: (_, at) => at.map(y.ticks), size: 48, ...(y.log && { splits: (_u, _i, low, high) => logSplits(low, high), filter: (_u, at) => at }) }),
      ],
      series: [{}, { show: false }],
      cursor: { x: false, y: false, points: { show: false }, drag: { x: true, y: true, setScale: false, dist: 6, uni: 24 } },
      hooks: {
        draw: [(u) => {
          latest.current.under?.(u, c);
          points.drew(u);
        }],
        setSelect: [(u) => {
          const { left, top, width, height: tall } = u.select;
          if (width < 8 && tall < 8) return;
          const xs = width < 8 ? range.current.x : [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
          const ys = tall < 8 || tall >= u.over.clientHeight ? range.current.y : [u.posToVal(top + tall, "y"), u.posToVal(top, "y")];
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          points.dragged = true;
          setZoom({ x: xs, y: ys });
        }],
      },
    };
  };
  const ready = (u) => {
    plot.current = u;
    if (!u) return points.detach();
    points.attach(u, colors.current);
    u.over.addEventListener("mousemove", (event) => {
      points.pointed = true;
      const row = points.nearest(event.offsetX, event.offsetY);
      selection.hover(row < 0 ? null : trials.number[row]);
    });
    u.over.addEventListener("mouseleave", () => {
      points.pointed = false;
      selection.hover(null);
    });
    u.over.addEventListener("mousedown", () => (points.dragged = false));
    u.over.addEventListener("click", (event) => {
      const row = points.nearest(event.offsetX, event.offsetY);
      if (!points.dragged && row >= 0) selection.select(trials.number[row]);
    });
  };
  const onKey = (event) => {
    const { selected } = selection.get();
    const at = selected === null ? -1 : trials.indexOf(selected);
    let row = at;
    if (KEYS[event.key]) row = points.next(at, ...KEYS[event.key]);
    else if (event.key === "Home") row = points.next(-1, "left", 1);
    else if (event.key === "End") row = points.next(-1, "left", -1);
    else if (event.key === "Enter" && selected !== null) return onOpen?.(selected);
    else if (event.key === "Escape") return setZoom(null);
    else return;
    event.preventDefault();
    if (row >= 0) selection.select(trials.number[row]);
  };
  return html`<div class="search-cloud" ref=${box} tabindex="0" role="application" aria-label=${label} aria-roledescription="chart"
      aria-keyshortcuts="ArrowLeft ArrowRight ArrowUp ArrowDown Enter" onKeyDown=${onKey}>
    <${Plot} make=${make} data=${NO_DATA} height=${height} onReady=${ready} label=${label} />
    <${Tip} ...${{ trials, selection, points, describe, box }} />
    ${below > 0 && html`<div class="search-below">▾ ${count(below)} below</div>`}
    ${zoom && html`<div class="search-zoom"><${Button} onClick=${() => setZoom(null)}>Whole range<//></div>`}
  </div>`;
}
