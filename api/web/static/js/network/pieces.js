/** The pieces of a flame: where each stage, block and op begins and ends, in the unit of the measure. */
import { MEASURES, opsOf, sum } from "./words.js";

export const OVERHEAD = "(overhead)";

/** {total, stages: [{name, from, to, blocks: [{name, from, to, ops: [{op, from, to}]}]}], overhead: {from, to} | null} */
export function piecesOf(network, by) {
  const { of } = MEASURES[by];
  const byPath = new Map(network.ops.map((op) => [op.path, op]));
  let at = 0;
  const stages = network.stages.map((stage) => {
    const from = at;
    const blocks = stage.blocks.map((block) => {
      const start = at;
      const ops = block.ops.map((path) => {
        const op = byPath.get(path);
        const before = at;
        at += Math.max(0, of(op));
        return { op, from: before, to: at };
      });
      return { name: block.name, block, from: start, to: at, ops };
    });
    return { name: stage.name, stage, from, to: at, blocks };
  });
  const more = by === "ms" ? Math.max(0, network.totals.overhead_ms ?? 0) : 0;
  return { total: at + more || 1, stages, overhead: more > 0 ? { from: at, to: at + more } : null };
}

/** Measures that this network can be divided by. */
export function measuresOf(network) {
  return Object.keys(MEASURES).filter((by) => sum(network.ops, MEASURES[by].of) > 0);
}

/** What a part of the network is worth: {value, share}. */
export function worth(network, part, by) {
  const value = sum(opsOf(network, part), MEASURES[by].of);
  return { value, share: value / piecesOf(network, by).total };
}
