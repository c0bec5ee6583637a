/** The shell: who is signed in, the places, and the view of the address. */
import { begin, session, signOut } from "./core/session.js";
import { connection, listen, reconnect } from "./core/events.js";
import { currentRoute, useRoute } from "./core/router.js";
import { useStore } from "./core/store.js";
import { theme } from "./core/theme.js";
import { html, render, useEffect, useErrorBoundary, useState } from "./core/ui.js";
import { Button, Icon, Toasts } from "./ui/controls.js";
import { Failure, Loading, Page } from "./ui/states.js";

/** The first pattern that fits; `:` stands for one part. Views are loaded when they are first shown. */
const ROUTES = [
  ["/searches", () => import("./views/searches.js")],
  ["/searches/:", () => import("./views/search.js")],
  ["/searches/:/trials/:", () => import("./views/network.js")],
  ["/new", () => import("./views/new_search.js")],
  ["/boards", () => import("./views/boards.js")],
  ["/boards/:", () => import("./views/board.js")],
  ["/jobs", () => import("./views/jobs.js")],
  ["/jobs/:", () => import("./views/job.js")],
].map(([pattern, load]) => ({ pattern: pattern.split("/").filter(Boolean), load }));

const PLACES = [
  { at: "searches", text: "Searches", icon: "searches" },
  { at: "new", text: "New search", icon: "plus", role: "user" },
  { at: "boards", text: "Boards", icon: "board" },
  { at: "jobs", text: "Jobs", icon: "jobs" },
];

const THEMES = { auto: ["light", "As the system is"], light: ["dark", "Light"], dark: ["auto", "Dark"] };
const loaded = new Map();

function find(parts) {
  return ROUTES.find(({ pattern }) => pattern.length === parts.length && pattern.every((one, i) => one === ":" || one === parts[i]));
}

/** The view of a route; a thing's number is part of its key, so that nothing of another thing lingers. */
function View({ route }) {
  const found = find(route.parts);
  const [, again] = useState(0);
  const [failed, setFailed] = useState(null);
  const [broken, recover] = useErrorBoundary((error) => console.error(error));
  useEffect(() => {
    setFailed(null);
    if (broken) recover();
    if (!found || loaded.has(found)) return undefined;
    let gone = false; // somebody has gone on to another view, which has not failed
    found.load().then((module) => loaded.set(found, module.default)).then(() => again((n) => n + 1), (error) => gone || setFailed(error));
    return () => (gone = true);
  }, [found, route.path]);
  if (!found) return html`<${Page} title="No such page"><${Failure} problem=${{ status: 404, detail: `There is no page ${route.path}.` }} /><//>`;
  const problem = failed ?? broken;
  if (problem) {
    const detail = failed ? "This part of the dashboard could not be loaded; is the server running?" : `The page failed: ${problem.message}`;
    return html`<${Page} title="Something went wrong"><${Failure} problem=${{ title: "Something went wrong", detail }} retry=${() => location.reload()} /><//>`;
  }
  const Shown = loaded.get(found);
  return Shown ? html`<${Shown} key=${route.path} parts=${route.parts} query=${route.query} />` : html`<${Loading} />`;
}

function LinkState() {
  const { state } = useStore(connection);
  const words = { live: "live", connecting: "connecting …", lost: "connection lost", paused: "paused" }[state];
  return html`<div class="link-state" data-state=${state} role="status"><span class="dot"></span><span class="words">${words}</span><span class="sr-only">Live updates: ${words}</span></div>`;
}

/** Below the top only when it lasts: a moment without connection is no news. */
function Lost() {
  const { state, retryAt } = useStore(connection);
  const [, tick] = useState(0);
  const [long, setLong] = useState(false);
  useEffect(() => {
    if (state === "live" || state === "paused") return setLong(false);
    const late = setTimeout(setLong, 2500, true);
    const ticking = setInterval(() => tick((n) => n + 1), 1000);
    return () => {
      clearTimeout(late);
      clearInterval(ticking);
    };
  }, [state === "live" || state === "paused"]);
  if (!long || state === "live") return null;
  const s = retryAt ? Math.max(0, Math.ceil((retryAt - Date.now()) / 1000)) : 0;
  return html`<div class="lost" role="alert"><span>No connection to the server. What you see is what was known; searches run on without it.
    ${s > 0 ? ` Trying again in ${s} s.` : " Trying …"}</span><${Button} onClick=${reconnect}>Try now<//></div>`;
}

function Shell() {
  const route = useRoute();
  const { user, role } = useStore(session);
  const mode = useStore(theme);
  const place = PLACES.find(({ at }) => at === route.parts[0]);
  const open = PLACES.filter((one) => one.role === undefined || role !== "read");
  useEffect(() => listen({}, () => {}), []); // the stream is open on every page
  useEffect(() => scrollTo(0, 0), [route.path]);
  const leave = () => document.getElementById("main").focus();
  return html`<button class="skip" type="button" onClick=${leave}>To the content</button>
  <div class="shell">
    <header class="side">
      <a class="brand" href="#/searches"><img src="assets/icon.svg" alt="" />lightnas</a>
      <nav aria-label="Places"><ul>${open.map(({ at, text, icon }) => html`<li key=${at}><a href=${`#/${at}`} aria-current=${place?.at === at ? "page" : null}>
        <${Icon} name=${icon} />${text}</a></li>`)}</ul></nav>
      <div class="foot">
        <${LinkState} />
        <span class="who">${user} (${role}) · <a href="docs">API</a></span>
        <div class="row"><${Button} kind="quiet" icon=${{ auto: "auto", light: "sun", dark: "moon" }[mode]} label=${`Colours: ${THEMES[mode][1]}. Change`} onClick=${() => theme.set(THEMES[mode][0])} />
          <${Button} kind="quiet" icon="out" label="Sign out" onClick=${signOut} /></div>
      </div>
    </header>
    <div><${Lost} /><main class="main" id="main" tabindex="-1"><${View} route=${route} /></main></div>
  </div><${Toasts} />`;
}

function App() {
  const { state } = useStore(session);
  const [Login, setLogin] = useState(null);
  const [failed, setFailed] = useState(false);
  const away = state === "out" || state === "expired";
  useEffect(() => {
    if (away && !Login) import("./views/login.js").then((module) => setLogin(() => module.default), () => setFailed(true));
  }, [away]);
  if (state === "unknown") return html`<p class="boot">lightnas is loading …</p>`;
  if (state === "unreachable") return html`<p class="boot" role="alert">The server cannot be reached; trying again …</p>`;
  if (away && failed && !Login) {
    return html`<div class="boot" role="alert"><p>The page to sign in could not be loaded; is the server running?</p>
      <p><${Button} onClick=${() => location.reload()}>Try again<//></p></div>`;
  }
  if (away) return Login && html`<${Login} />`;
  return html`<${Shell} />`;
}

find(currentRoute().parts)?.load().catch(() => {}); // while the session is looked at; where it fails, the view asks again
const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
begin();
addEventListener("hashchange", () => location.hash.startsWith("#token=") && begin()); // the printed address in a tab that is open
