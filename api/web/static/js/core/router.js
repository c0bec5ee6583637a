/** Routes live behind the # of the address: #/searches/3?x=flops. A link to every state, under any prefix. */
import { store, useStore } from "./store.js";

function read() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?", 2);
  const clean = path.startsWith("/") ? path : "/searches";
  const parts = clean.split("/").filter(Boolean).map(decode);
  return { path: "/" + parts.join("/"), parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const route = store(read());
function follow() {
  const now = read();
  if (JSON.stringify(now) !== JSON.stringify(route.get())) route.set(now); // popstate and hashchange tell the same
}

addEventListener("hashchange", follow);
addEventListener("popstate", follow);

export function useRoute() {
  return useStore(route);
}

export function currentRoute() {
  return route.get();
}

/** "#/searches/3?x=flops"; what is null, undefined or "" is left out. */
export function href(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(kept).toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

export function go(path, query, { replace = false } = {}) {
  const to = href(path, query);
  if (to === location.hash) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  follow();
}

/** Change some of the query; null removes. */
export function setQuery(patch, { replace = true } = {}) {
  const { parts, query } = route.get();
  go(`/${parts.map(encodeURIComponent).join("/")}`, { ...query, ...patch }, { replace });
}
