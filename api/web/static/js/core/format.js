/** Numbers, times and units as people read them. */

export const METRICS = {
  latency_ms: { title: "Latency", short: "latency", unit: "ms" },
  flops: { title: "FLOPs", short: "FLOPs", unit: "multiply-adds" },
  params: { title: "Parameters", short: "parameters", unit: "" },
  model_mb: { title: "Model size", short: "size", unit: "MB" },
  peak_memory_mb: { title: "Peak memory", short: "memory", unit: "MB" },
  accuracy: { title: "Accuracy", short: "accuracy", unit: "%" },
  reward: { title: "Reward", short: "reward", unit: "" },
  seconds: { title: "Time", short: "time", unit: "s" },
};

const NONE = "–";
const SUFFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const isNone = (x) => x === null || x === undefined || Number.isNaN(x);

/** Three or four digits that matter: 0.0123, 1.23, 123.4, 1234. */
export function digits(x, most = 3) {
  if (isNone(x)) return NONE;
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const shown = Math.abs(x) >= 10 ** most && Math.abs(x) < 1e15 ? x.toFixed(0) : Number(x.toPrecision(most)).toString();
  return minus(shown);
}

/** A real minus; and nothing is minus zero. */
function minus(text) {
  return /^-0(\.0*)?$/.test(text) ? text.slice(1) : text.replaceAll("-", "−");
}

/** 1 234 567: groups with a thin space that does not break. */
export function count(n) {
  if (isNone(n)) return NONE;
  return Math.abs(n) < 1e21 ? minus(String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, "\u202f")) : digits(n);
}

/** 1.23 M */
export function compact(n) {
  if (isNone(n)) return NONE;
  if (!Number.isFinite(n)) return digits(n);
  // 999 950 is 1 M, not 1000 k.
  const [by, suffix] = SUFFIXES.find(([least]) => Math.abs(n) >= 0.9995 * least) ?? [1, ""];
  return suffix ? `${digits(n / by)}\u00a0${suffix}` : digits(n);
}

export function percent(x, places = 2) {
  if (isNone(x)) return NONE;
  return Number.isFinite(100 * x) ? `${minus((100 * x).toFixed(places))}\u00a0%` : `${digits(100 * x)}\u00a0%`;
}

export function ms(x) {
  return isNone(x) ? NONE : `${digits(x)}\u00a0ms`;
}

export function bytes(n) {
  if (isNone(n)) return NONE;
  return n < 1000 ? `${n}\u00a0B` : n < 0.9995e6 ? `${digits(n / 1e3)}\u00a0kB` : n < 0.9995e9 ? `${digits(n / 1e6)}\u00a0MB` : `${digits(n / 1e9)}\u00a0GB`;
}

/** A metric's value with its unit. */
export function metric(name, value) {
  if (isNone(value)) return NONE;
  if (name === "latency_ms") return ms(value);
  if (name === "accuracy") return percent(value);
  if (name === "seconds") return duration(value);
  if (name === "model_mb" || name === "peak_memory_mb") return `${digits(value)}\u00a0MB`;
  if (name === "reward") return Math.abs(value) < 1e6 ? minus(value.toFixed(4)) : digits(value);
  return compact(value);
}

/** As `metric`, with the metric's name where the number has no unit: 540 k FLOPs. */
export function named(name, value) {
  const bare = name === "flops" || name === "params";
  return `${metric(name, value)}${bare && !isNone(value) ? `\u00a0${METRICS[name].short}` : ""}`;
}

/** 1.2 s, 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h */
export function duration(s) {
  if (isNone(s)) return NONE;
  if (Math.abs(s) > 1e11) return s > 0 ? `${digits(s / 86400)}\u00a0d` : NONE; // no time, but somebody's number
  if (s < 0.0995) return `${Math.max(0, Math.round(1000 * s))}\u00a0ms`;
  if (s < 9.95) return `${s.toFixed(1)}\u00a0s`;
  const whole = Math.round(s);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => whole >= size);
  const [size, unit] = parts[first];
  const next = parts[first + 1];
  const rest = next && Math.floor((whole % size) / next[0]);
  return `${Math.floor(whole / size)}\u00a0${unit}${rest ? ` ${rest}\u00a0${next[1]}` : ""}`;
}

const when = (at) => (at instanceof Date ? at : new Date(at));

export function ago(at) {
  if (!at) return NONE;
  const s = (Date.now() - when(at).getTime()) / 1000;
  if (s < 5) return "just now";
  return s < 86400 * 30 ? `${duration(s < 60 ? Math.round(s) : s < 3600 ? s - (s % 60) : s).split(" ")[0]} ago` : when(at).toLocaleDateString();
}

export function clock(at) {
  return at ? when(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }) : NONE;
}

export function dateTime(at) {
  return at ? when(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short", hour12: false }) : NONE;
}

/** With its sign: +1.2 %, −3 ms. */
export function signed(x, format = digits) {
  if (isNone(x)) return NONE;
  return x > 0 ? `+${format(x)}` : format(x).replace("-", "−");
}

export function plural(n, noun, many = `${noun}s`) {
  return `${count(n)}\u00a0${n === 1 ? noun : many}`;
}

/** Whether a number of the server's came as it is: JSON has any, JavaScript rounds whole ones above 2^53. */
export function isExact(seed) {
  return Number.isSafeInteger(seed);
}
