/** Light, dark, or as the system is; and the colours for what is drawn on a canvas. */
import { store } from "./store.js";

const PLACE = "lightnas-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const NAMES = [
  "text", "muted", "line", "line-strong", "accent", "front", "budget", "complete", "pruned", "failed", "running", "paused",
  "warm", "cool", "surface", "page", "kind-conv", "kind-depthwise", "kind-linear", "kind-pool", "kind-add", "kind-other",
];

export const theme = store(localStorage.getItem(PLACE) ?? "auto");
const followers = new Set();
let found = null;

function show() {
  const wanted = theme.get();
  if (wanted === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = wanted;
  found = null;
  for (const follow of [...followers]) follow();
}

theme.subscribe((wanted) => {
  localStorage.setItem(PLACE, wanted);
  show();
});
dark.addEventListener("change", show);
show();

/** Name (camelCase: lineStrong) -> a colour that a canvas understands, as it is now. */
export function colors() {
  if (found) return found;
  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  found = {};
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    found[name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

/** Call when the colours have changed. Returns how to stop. */
export function onTheme(follow) {
  followers.add(follow);
  return () => followers.delete(follow);
}

export const calm = matchMedia("(prefers-reduced-motion: reduce)");
