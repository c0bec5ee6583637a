/** Two networks stage beside stage, and what changed from one to the other. */
import { stageTitle, stageTraits } from "./words.js";

export const TRAITS = [
  { id: "width", title: "Channels", short: "channels" }, { id: "repeats", title: "Blocks", short: "blocks" },
  { id: "kernel", title: "Kernel", short: "kernel" }, { id: "expansion", title: "Expansion", short: "expansion" },
  { id: "se", title: "SE", short: "SE" }, { id: "resolution", title: "Resolution", short: "resolution" },
];

/** [{mine, theirs}] in order; stages of one name are a pair, what is left between pairs is paired as it comes. */
export function align(mine, theirs) {
  if (!theirs) return mine.stages.map((stage) => ({ mine: stage, theirs: null }));
  const rows = [];
  let [i, j] = [0, 0];
  const flush = (toI, toJ) => {
    while (i < toI || j < toJ) {
      rows.push({ mine: i < toI ? mine.stages[i] : null, theirs: j < toJ ? theirs.stages[j] : null });
      i += i < toI ? 1 : 0;
      j += j < toJ ? 1 : 0;
    }
  };
  for (const [index, stage] of mine.stages.entries()) {
    const at = theirs.stages.findIndex((other, k) => k >= j && other.name === stage.name);
    if (at < 0) continue;
    flush(index, at);
    rows.push({ mine: stage, theirs: theirs.stages[at] });
    [i, j] = [index + 1, at + 1];
  }
  flush(mine.stages.length, theirs.stages.length);
  return rows;
}

/** [{id, short, from, to}] of what is not the same; a stage that only one has is one change. */
export function changes({ mine, theirs }) {
  if (!mine || !theirs) return [{ id: "stage", short: "stage", from: theirs ? theirs.name : "none", to: mine ? mine.name : "none" }];
  const [now, before] = [stageTraits(mine), stageTraits(theirs)];
  return TRAITS.filter(({ id }) => now[id] !== before[id]).map(({ id, short }) => ({ id, short, from: before[id] || "none", to: now[id] || "none" }));
}

const minus = (a, b) => (a === null || a === undefined || b === null || b === undefined ? null : a - b);

/** What a stage, or a whole network, costs more than the other: {ms, flops, params}; null where one of them is not known. */
export function stageDeltas({ mine, theirs }) {
  const of = (stage, name, none = 0) => (stage ? stage[name] : none);
  return {
    ms: minus(of(mine, "predicted_ms"), of(theirs, "predicted_ms")),
    flops: of(mine, "flops") - of(theirs, "flops"), params: of(mine, "params") - of(theirs, "params"),
  };
}

export function totalDeltas(mine, theirs) {
  return {
    ms: minus(mine.totals.predicted_ms, theirs.totals.predicted_ms), flops: mine.totals.flops - theirs.totals.flops,
    params: mine.totals.params - theirs.totals.params,
  };
}

/** s2: channels 24 → 32, kernel 3 → 5 */
export function changesSentence(rows) {
  const changed = rows.map((row) => ({ row, list: changes(row) })).filter(({ list }) => list.length > 0);
  if (changed.length === 0) return "No stage differs.";
  const told = changed.map(({ row, list }) => `${stageTitle(row.mine ?? row.theirs)}: ${list.map((one) => `${one.short} ${one.from} → ${one.to}`).join(", ")}`);
  return `${changed.length} of ${rows.length} stages differ. ${told.join("; ")}.`;
}

