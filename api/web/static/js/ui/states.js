/** Pages and the states they can be in: loading, empty, failed. */
import { html, useEffect, useRef } from "../core/ui.js";
import { Button } from "./controls.js";

/** A page: title (also of the window), crumbs, actions. Its heading has the focus after a change of place. */
export function Page({ title, crumbs = [], actions, children, wide = false }) {
  const heading = useRef(null);
  useEffect(() => {
    document.title = `${title} · lightnas`;
  }, [title]);
  useEffect(() => {
    if (document.activeElement === document.body || document.activeElement?.closest(".side")) {
      heading.current?.focus({ preventScroll: true });
    }
  }, []);
  return html`<div class=${`page${wide ? " wide" : ""}`}>
    <header class="page-head">
      <div class="titles">
        ${crumbs.length > 0 && html`<nav class="crumbs" aria-label="Where this is">
          ${crumbs.map(({ text, href }) => html`<span key=${text}><a href=${href}>${text}</a> / </span>`)}
        </nav>`}
        <h1 tabindex="-1" ref=${heading}>${title}</h1>
      </div>
      ${actions && html`<div class="toolbar">${actions}</div>`}
    </header>
    ${children}
  </div>`;
}

export function Loading({ what = "" }) {
  return html`<div class="state" role="status"><span class="busy"></span><p>Loading ${what} …</p></div>`;
}

export function Empty({ title, children, action }) {
  return html`<div class="state"><h2>${title}</h2><div>${children}</div>${action}</div>`;
}

/** What went wrong, in the server's words, and what to do. */
export function Failure({ problem, retry }) {
  const gone = problem.status === 404;
  return html`<div class="state failure" role="alert">
    <h2>${gone ? "Not found" : problem.status === 0 ? "No connection" : (problem.title ?? "Something went wrong")}</h2>
    <p>${problem.detail ?? problem.message}</p>
    ${retry && !gone && html`<${Button} onClick=${retry}>Try again<//>`}
    ${gone && html`<${Button} href="#/searches">To the searches<//>`}
  </div>`;
}

/** Renders `children(data)` of a `useGet` once there is data; what went wrong since is told above it. */
export function Loaded({ query, what, empty, children }) {
  const { data, error, reload } = query;
  if (data === null) return error ? html`<${Failure} problem=${error} retry=${reload} />` : html`<${Loading} what=${what} />`;
  const none = Array.isArray(data) ? data.length === 0 : data.items?.length === 0;
  return html`${error && error.status !== 0 && html`<${Failure} problem=${error} retry=${reload} />`}
    ${none && empty ? empty : children(data)}`;
}
