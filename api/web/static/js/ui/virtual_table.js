/**
 * A grid of any number of rows, of which only those in sight are in the document. The focus stays on the grid itself, and
 * aria-activedescendant names the cell, so that nothing is lost when a row leaves the document.
 */
import { html, useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../core/ui.js";
import { Icon } from "./controls.js";

const MORE = 8; // rows in the document above and below those in sight
const HIGHEST = 8_000_000; // px; browsers give up between 16 and 33 million
const STILL_MS = 150; // rows that pass below a resting pointer while scrolling are not pointed at
const coarse = matchMedia("(pointer: coarse)");

/**
 * @param columns [{id, title, width (px, the least), align: "right"?, render(row) -> text or element, sort: whether it can be
 *   ordered by, down: whether its first order is falling, act(row): what Enter and Space do in its cells, hint}]
 * @param rows what is shown, in order: rows of the caller's data, which is what `row` means everywhere here
 * @param order {by, down}; onOrder({by, down}) when a heading is chosen. The caller orders `rows` (ordering.js).
 * @param selected, hovered rows or -1; onSelect(row), onHover(row or -1), onOpen(row): Enter, double click
 * @param label what screen readers call the grid
 * @param height px at most; with few rows it is lower
 * @param version changes when rendered values may have changed
 * @param fresh when this changes the table begins at its top; otherwise the reader's rows stay where they are
 */
export function VirtualTable({
  columns, rows, order, onOrder, selected = -1, onSelect, hovered = -1, onHover, onOpen, label, height = 560, version, fresh,
}) {
  const id = useId();
  const grid = useRef(null);
  const rowHeight = useRowHeight();
  const [first, setFirst] = useState(0); // position of the uppermost row in sight
  const [room, setRoom] = useState(height); // px
  const [active, setActive] = useState({ at: 0, column: 0 }); // at: position, -1 for the headings
  const [focused, setFocused] = useState(false);
  const kept = useRef({ rows, scrolled: 0, held: false, selected: -1 });
  const here = useRef(null);
  const scale = useMemo(() => makeScale(rows.length, rowHeight), [rows.length, rowHeight]);
  here.current = { rows, rowHeight, scale, room };

  const count = rows.length;
  const shown = Math.ceil(room / rowHeight);
  const from = Math.max(0, Math.min(first, count - shown) - MORE);
  const to = Math.min(count, first + shown + MORE);

  const show = useCallback((at, { middle = false } = {}) => {
    const { rowHeight: high, scale: now, room: most } = here.current;
    const sight = most - high; // below the headings
    const top = now.top(grid.current.scrollTop, sight);
    if (at * high >= top && (at + 1) * high <= top + sight) return;
    const goal = middle ? at * high - (sight - high) / 2 : at * high < top ? at * high : (at + 1) * high - sight;
    grid.current.scrollTop = now.scroll(goal, sight);
  }, []);

  useEffect(() => followScroll(grid.current, () => {
    const { rowHeight: high, scale: now, room: most } = here.current;
    kept.current.scrolled = performance.now();
    setFirst(Math.floor(now.top(grid.current.scrollTop, most - high) / high));
  }), []);
  useEffect(() => {
    const element = grid.current;
    const seen = new ResizeObserver(() => setRoom(element.clientHeight));
    seen.observe(element);
    return () => seen.disconnect();
  }, []);

  useLayoutEffect(() => {
    grid.current.scrollTop = 0;
    setFirst(0);
    setActive(({ column }) => ({ at: 0, column }));
    kept.current.rows = rows;
  }, [fresh]);
  useLayoutEffect(() => {
    const { rows: before, held } = kept.current;
    kept.current.rows = rows;
    if (before === rows || before.length === 0) return;
    const went = first < before.length ? rows.indexOf(before[first]) : -1;
    if (went >= 0 && went !== first && (first > 0 || held || focused)) {
      const { scale: now, rowHeight: high } = here.current;
      const sight = room - high;
      const partly = now.top(grid.current.scrollTop, sight) - first * high;
      grid.current.scrollTop = now.scroll(went * high + partly, sight);
      setFirst(went);
    }
    const place = active.at >= 0 && active.at < before.length ? rows.indexOf(before[active.at]) : -1;
    if (place >= 0 && place !== active.at) setActive({ ...active, at: place });
    else if (active.at >= rows.length) setActive({ ...active, at: Math.max(0, rows.length - 1) });
  }, [rows]);
  useLayoutEffect(() => {
    if (selected === kept.current.selected) return;
    const at = selected < 0 ? -1 : rows.indexOf(selected);
    if (selected >= 0 && at < 0) return; // it may come yet
    kept.current.selected = selected;
    if (at < 0) return;
    show(at, { middle: true });
    setActive((was) => ({ ...was, at }));
  }, [selected, rows]);

  function move(at, column = active.column) {
    const place = { at: Math.max(-1, Math.min(count - 1, at)), column: Math.max(0, Math.min(columns.length - 1, column)) };
    setActive(place);
    if (place.at >= 0) {
      show(place.at);
      onHover?.(rows[place.at]);
    }
    requestAnimationFrame(() => showSideways(grid.current, place.column));
  }

  function onFocus() {
    setFocused(true);
    if (active.at >= 0 && (active.at < from || active.at >= to)) setActive({ ...active, at: Math.min(first, count - 1) });
  }

  function onKeyDown(event) {
    const { at, column } = active;
    const page = Math.max(1, Math.floor(room / rowHeight) - 2);
    const wide = event.ctrlKey || event.metaKey;
    const moves = {
      ArrowDown: () => move(at + 1), ArrowUp: () => move(at - 1),
      ArrowLeft: () => move(at, column - 1), ArrowRight: () => move(at, column + 1),
      PageDown: () => move(Math.max(0, at) + page), PageUp: () => move(Math.max(0, at - page)),
      Home: () => move(wide ? 0 : at, 0), End: () => move(wide ? count - 1 : at, columns.length - 1),
      Enter: () => choose(event.key), " ": () => choose(event.key),
    };
    if (!moves[event.key] || event.altKey || event.target !== grid.current) return;
    event.preventDefault();
    moves[event.key]();
  }

  function choose(key) {
    const { at, column } = active;
    if (at < 0) return orderBy(columns[column]);
    if (at >= count) return;
    if (columns[column].act) columns[column].act(rows[at]);
    else if (key === "Enter" && onOpen) onOpen(rows[at]);
    else onSelect?.(rows[at]);
  }

  function orderBy(column) {
    if (!column.sort || !onOrder) return;
    onOrder({ by: column.id, down: order?.by === column.id ? !order.down : Boolean(column.down) });
  }

  const rowOf = (event) => {
    const at = Number(event.target.closest?.("[data-at]")?.dataset.at ?? NaN);
    return Number.isNaN(at) || at >= count ? -1 : rows[at];
  };
  const onPointerOver = (event) => {
    kept.current.held = true;
    if (event.pointerType !== "mouse" || performance.now() - kept.current.scrolled < STILL_MS) return;
    const row = rowOf(event);
    if (row !== hovered) onHover?.(row);
  };
  const onPointerLeave = () => {
    kept.current.held = false;
    onHover?.(-1);
  };
  const onClick = (event) => {
    const row = rowOf(event);
    if (row < 0) return;
    setActive({ at: Number(event.target.closest("[data-at]").dataset.at), column: Number(event.target.closest("[data-column]")?.dataset.column ?? 0) });
    if (event.target.closest("button")) grid.current.focus({ preventScroll: true });
    else if (!event.target.closest("a")) onSelect?.(row);
  };
  const onDblClick = (event) => {
    const row = rowOf(event);
    if (row >= 0 && !event.target.closest("a, button")) onOpen?.(row);
  };

  const template = columns.map(({ width = 96 }) => `minmax(${width}px, ${width}fr)`).join(" ");
  const least = columns.reduce((sum, { width = 96 }) => sum + width, 0);
  const lag = scale.exact ? 0 : scale.lag(grid.current?.scrollTop ?? 0, room - rowHeight);
  const made = useRowCache({ columns, version });
  const visible = [];
  for (let at = from; at < to; at += 1) {
    const column = focused && at === active.at ? active.column : -1;
    const slot = at % (shown + 2 * MORE + 1); // a row that comes takes the place of one that went
    const top = at * rowHeight - lag;
    visible.push(made({ at, slot, top, row: rows[at], column, id, selected: rows[at] === selected, hovered: rows[at] === hovered }));
  }
  const style = {
    "--table-columns": template, "--table-width": `${least}px`, "--table-row": `${rowHeight}px`, maxHeight: `${height}px`,
    height: `${Math.min(height, scale.height + rowHeight + 2)}px`,
  };
  const inDocument = focused && (active.at < 0 || (active.at >= from && active.at < to));
  return html`<div class="table-grid" role="grid" tabindex="0" ref=${grid} id=${id} aria-label=${label} aria-rowcount=${count + 1}
    aria-colcount=${columns.length} aria-activedescendant=${inDocument ? `${id}-at` : null} style=${style} data-testid="virtual-table"
    onKeyDown=${onKeyDown} onFocus=${onFocus} onBlur=${() => setFocused(false)}
    onPointerOver=${onPointerOver} onPointerLeave=${onPointerLeave} onClick=${onClick} onDblClick=${onDblClick}>
    <div class="table-head" role="rowgroup"><div class="table-row" role="row" aria-rowindex="1">
      ${columns.map((column, i) => html`<${Heading} key=${column.id} ...${{ column, order, orderBy }} at=${i}
        id=${focused && active.at < 0 && active.column === i ? `${id}-at` : null} />`)}
    </div></div>
    <div class="table-body" role="rowgroup" style=${{ height: `${scale.height}px` }}>${visible}</div>
  </div>`;
}

function Heading({ column, order, orderBy, at, id }) {
  const { title, hint, align, sort } = column;
  const by = order?.by === column.id;
  const state = !sort ? null : by ? (order.down ? "descending" : "ascending") : "none";
  return html`<div role="columnheader" id=${id} aria-sort=${state} title=${hint} data-column=${at}
    class=${`table-cell ${align ?? ""}${id ? " at" : ""}${sort ? " sortable" : ""}`} onClick=${() => orderBy(column)}>
    <span>${title}</span>${by && html`<${Icon} name=${order.down ? "down" : "up"} />`}</div>`;
}

/** Rows that have not changed are the elements they were, which Preact then passes over. */
function useRowCache(world) {
  const cache = useRef({ world: {}, rows: new Map() });
  const changed = Object.keys(world).some((name) => world[name] !== cache.current.world[name]);
  if (changed || cache.current.rows.size > 400) cache.current = { world, rows: new Map() };
  return (given) => {
    const key = JSON.stringify(given);
    const known = cache.current.rows.get(given.at);
    if (known?.key === key) return known.element;
    const element = makeRow(given, world.columns);
    cache.current.rows.set(given.at, { key, element });
    return element;
  };
}

function makeRow({ at, slot, top, row, column, id, selected, hovered }, columns) {
  return html`<div class=${`table-row${selected ? " selected" : ""}${hovered ? " hovered" : ""}`} role="row" key=${slot} data-at=${at}
    aria-rowindex=${at + 2} aria-selected=${String(selected)}
    style=${{ top: `${top}px` }}>
    ${columns.map(({ id: name, align, render }, i) => html`<div key=${name} role=${i === 0 ? "rowheader" : "gridcell"} data-column=${i}
      id=${column === i ? `${id}-at` : null} class=${`table-cell ${align ?? ""}${column === i ? " at" : ""}`}>${render(row)}</div>`)}
  </div>`;
}

/** Between px of all rows and px of scrolling, which is less where no browser could be as high. */
function makeScale(count, rowHeight) {
  const whole = count * rowHeight;
  const height = Math.min(whole, HIGHEST);
  const ratio = (sight) => (whole === height ? 1 : (whole - sight) / (height - sight));
  const inside = (top, sight) => Math.max(0, Math.min(top, whole - sight));
  return {
    height, exact: whole === height,
    top: (scroll, sight) => inside(scroll * ratio(sight), sight),
    scroll: (top, sight) => inside(top, sight) / ratio(sight),
    lag: (scroll, sight) => scroll * ratio(sight) - scroll,
  };
}

/** At most once a frame. */
function followScroll(element, handle) {
  let frame = null;
  const scrolled = () => {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      handle();
    });
  };
  element.addEventListener("scroll", scrolled, { passive: true });
  return () => {
    cancelAnimationFrame(frame);
    element.removeEventListener("scroll", scrolled);
  };
}

function showSideways(grid, column) {
  const cell = grid?.querySelector(`.table-head [data-column="${column}"]`);
  if (!cell) return;
  const sticky = column === 0 ? 0 : grid.querySelector(".table-head .table-cell").offsetWidth;
  const [left, right] = [cell.offsetLeft, cell.offsetLeft + cell.offsetWidth];
  if (left < grid.scrollLeft + sticky) grid.scrollLeft = left - sticky;
  else if (right > grid.scrollLeft + grid.clientWidth) grid.scrollLeft = right - grid.clientWidth;
}

function useRowHeight() {
  const [high, setHigh] = useState(coarse.matches ? 40 : 32);
  useEffect(() => {
    const look = () => setHigh(coarse.matches ? 40 : 32);
    coarse.addEventListener("change", look);
    return () => coarse.removeEventListener("change", look);
  }, []);
  return high;
}
