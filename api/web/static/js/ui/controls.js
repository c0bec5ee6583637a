/** Buttons, badges, tabs, dialogs, toasts. */
import { store, useStore } from "../core/store.js";
import { html, render, useEffect, useRef } from "../core/ui.js";

const ICONS = {
  searches: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14M20 20l-4-4",
  plus: "M12 5v14M5 12h14",
  board: "M6 6h12v12H6zM9 2v4M15 2v4M9 18v4M15 18v4M2 9h4M2 15h4M18 9h4M18 15h4",
  jobs: "M4 6h16M4 12h16M4 18h10",
  play: "M7 5l12 7-12 7z", pause: "M8 5v14M16 5v14", stop: "M6 6h12v12H6z", retry: "M4 12a8 8 0 1 1 3 6M4 20v-5h5",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13", download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5", sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500L19 19M5 19l1.500-1.500M17.500 6.500L19 5",
  moon: "M20 14.500A8 8 0 0 1 9.500 4 8 8 0 1 0 20 14.500z", auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  out: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9", check: "M5 12l5 5 9-10", cross: "M6 6l12 12M18 6L6 18", clock: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 7v5l3 2",
  spin: "M12 3a9 9 0 1 1-8.500 6", warn: "M12 4l9 16H3zM12 10v4M12 17v.5", left: "M15 5l-7 7 7 7", right: "M9 5l7 7-7 7", up: "M5 15l7-7 7 7", down: "M5 9l7 7 7-7",
  scissors: "M6 5l12 12M6 19L18 7M6 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4M6 20a2 2 0 1 0 0-4 2 2 0 0 0 0 4",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[name] ?? ""} /></svg>`;
}

/** kind: primary, plain, danger, quiet. With `href` a link. `label`: for an icon without text. */
export function Button({ kind = "plain", onClick, busy = false, disabled = false, href, icon, label, children, type = "button", ...rest }) {
  const bare = icon && (children === undefined || children === null || children?.length === 0);
  const look = `button ${kind}${bare ? " icon" : ""}`;
  const inside = html`${busy ? html`<span class="busy"></span>` : icon && html`<${Icon} name=${icon} />`}${children}`;
  if (href !== undefined) return html`<a class=${look} href=${href} aria-label=${label} title=${label} ...${rest}>${inside}</a>`;
  const off = disabled || busy;
  // aria-disabled keeps the focus where it is; a disabled button would lose it.
  return html`<button class=${look} type=${type} aria-disabled=${off ? "true" : null} aria-label=${label} title=${label}
    onClick=${(event) => (off ? event.preventDefault() : onClick?.(event))} ...${rest}>${inside}</button>`;
}

const STATES = {
  running: ["spin", "running"], queued: ["clock", "queued"], paused: ["pause", "paused"], stopped: ["pause", "stopped"],
  complete: ["check", "complete"], failed: ["cross", "failed"], cancelled: ["stop", "cancelled"], pruned: ["scissors", "pruned"],
};

/** A state by shape and word. `text` says it in other words. */
export function Badge({ state, text }) {
  const [icon, word] = STATES[state] ?? ["clock", state];
  return html`<span class=${`badge ${state}`}><${Icon} name=${icon} />${text ?? word}</span>`;
}

export function Progress({ value, max, label, children }) {
  return html`<div class="progress"><progress value=${value} max=${Math.max(1, max)} aria-label=${label}></progress>${children}</div>`;
}

/** Views of one thing as links, so that each has an address. tabs: [{id, text, count, href}]. */
export function Tabs({ tabs, at, label }) {
  return html`<nav class="tabs" aria-label=${label}>
    ${tabs.map(({ id, text, count, href }) => html`<a key=${id} href=${href} aria-current=${id === at ? "page" : null}>${text}${
      count !== undefined && html` <span class="muted small">${count}</span>`}</a>`)}
  </nav>`;
}

/** items: [[label, value, hint?]] */
export function Facts({ items }) {
  return html`<dl class="facts">${items.map(([label, value, hint]) => html`<div key=${label}><dt>${label}</dt>
    <dd>${value}${hint && html`<small>${hint}</small>`}</dd></div>`)}</dl>`;
}

/** Ask before what cannot be undone. Resolves to whether it was wanted. */
export function ask({ title, text, action, danger = false }) {
  return new Promise((resolve) => {
    const place = document.createElement("div");
    const before = document.activeElement;
    document.body.append(place);
    const end = (wanted) => {
      render(null, place);
      place.remove();
      before?.focus?.();
      resolve(wanted);
    };
    render(html`<${Asked} ...${{ title, text, action, danger, end }} />`, place);
  });
}

function Asked({ title, text, action, danger, end }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog class="dialog" ref=${dialog} aria-labelledby="asked" onCancel=${(e) => { e.preventDefault(); end(false); }}>
    <h2 id="asked">${title}</h2><p>${text}</p>
    <div class="row spread"><${Button} onClick=${() => end(false)}>No, leave it<//>
      <${Button} kind=${danger ? "danger" : "primary"} onClick=${() => end(true)}>${action}<//></div>
  </dialog>`;
}

const toasts = store([]);
let nextToast = 0;

/** A line at the edge: kind good, bad or note. Bad ones stay until they are closed. */
export function toast(text, kind = "note") {
  const id = (nextToast += 1);
  toasts.update((list) => [...list.slice(-3), { id, text, kind }]);
  if (kind !== "bad") setTimeout(() => closeToast(id), 6000);
}

function closeToast(id) {
  toasts.update((list) => list.filter((one) => one.id !== id));
}

export function Toasts() {
  const list = useStore(toasts);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${list.map(({ id, text, kind }) => html`<div key=${id} class=${`toast ${kind}`}><span class="grow">${text}</span>
      <${Button} kind="quiet" icon="cross" label="Close this message" onClick=${() => closeToast(id)} /></div>`)}
  </div>`;
}
