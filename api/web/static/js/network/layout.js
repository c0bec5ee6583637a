/**
 * Where a drawing puts things. Stages follow each other along one axis, left to right, or top to bottom where their words
 * would not fit beside each other; across it a block is as wide as its channels.
 */
import { align, changes } from "./align.js";
import { isHead, shape, stageTitle, stageTraits } from "./words.js";

const GAP = 2; // between blocks, px
const HEAD = 40; // length of pooling and classifier
export const FONT = 12;
export const LINE = 15;
export const CHANGED = "▲";
const pen = document.createElement("canvas").getContext("2d");

/** px */
export function textWidth(text, { bold = false, size = FONT } = {}) {
  pen.font = `${bold ? 650 : 400} ${size}px system-ui, sans-serif`;
  return pen.measureText(text).width;
}

const side = ([, height, width]) => Math.sqrt(height * width);
const hidden = (block) => (block.expansion ? block.expansion * block.input[0] : 0);

/** The lines of a stage, the first one its name. */
function stageLines(stage, changed, compact) {
  const repeats = stage.repeats > 1 ? ` ×${stage.repeats}` : "";
  const { kernel } = stageTraits(stage);
  const label = stage.label || (kernel ? `k${kernel}` : "");
  const told = changed.length > 0 ? [`${CHANGED} ${changed.length === 1 ? changed[0].short : `${changed.length} changes`}`] : [];
  if (isHead(stage)) return [stageTitle(stage), "pool, fc", ...told];
  if (compact) return [`${stage.name}${repeats}`, label].filter(Boolean);
  return [`${stage.name}${repeats}`, `${stage.width} ch`, label, ...told].filter(Boolean);
}

/**
 * @param against another network: both get the same columns and the same scale, so that their drawings can stand one
 *   under the other
 * @returns {vertical, narrow, length, across, columns: [{stage, from, to, lines, changed, blocks: [{block, from, to, inHalf,
 *   outHalf, hiddenHalf}]}], rulers: [{text, from, to}], head, tail}; halves: px to either side of the axis
 */
export function layOut(network, { against = null, width, compact = false }) {
  const rows = align(network, against);
  const sides = [network, against].filter(Boolean);
  const most = Math.max(...sides.flatMap((one) => one.stages.flatMap((stage) => stage.blocks.flatMap((b) => [b.input[0], b.output[0], hidden(b)]))));
  const words = rows.map((row) => {
    const changed = against ? changes(row) : [];
    return { changed, mine: row.mine && stageLines(row.mine, changed, compact), theirs: row.theirs && stageLines(row.theirs, changed, compact) };
  });
  const ends = compact ? { head: 46, tail: 52 } : { head: 62, tail: 70 };
  const gap = compact ? 8 : 14;
  const least = words.map(({ mine, theirs }, i) => Math.max(compact ? 20 : 30, ...[...(mine ?? []), ...(theirs ?? [])].map((text, line) => textWidth(text, { bold: line === 0 || text.startsWith(CHANGED) })),
    textWidth(shape((rows[i].mine ?? rows[i].theirs).resolution))));
  const spans = (unit, short) => rows.map((row, i) => Math.max(short ? 0 : least[i], ...[row.mine, row.theirs].map((stage) => (stage ? lengthOf(stage, unit) : 0))));
  const room = width - ends.head - ends.tail - gap * (rows.length - 1);
  const total = (list) => list.reduce((a, b) => a + b, 0);
  const vertical = total(spans(0.5, false)) > room;
  let unit = 4.5;
  if (!vertical) {
    let [low, high] = [0.5, compact ? 8 : 16];
    for (let i = 0; i < 30; i += 1) {
      const middle = (low + high) / 2;
      [low, high] = total(spans(middle, false)) <= room ? [middle, high] : [low, middle];
    }
    unit = low;
  }
  const found = vertical
    ? spans(unit, true).map((length, i) => Math.max(length, LINE * Math.max(words[i].mine?.length ?? 0, words[i].theirs?.length ?? 0) + 2))
    : spans(unit, false);
  const spare = vertical ? 0 : Math.max(0, room - total(found)) / rows.length;
  const narrow = width < 260;
  const across = vertical ? (narrow ? Math.max(56, width - 100) : Math.min(220, width * 0.52)) : compact ? 96 : Math.max(160, Math.min(216, width * 0.165));
  const half = (channels) => Math.max(1.5, (across / 2 - 6) * Math.sqrt(channels / most));
  let at = vertical ? 44 : ends.head;
  const columns = rows.map((row, i) => {
    const [from, to] = [at, at + found[i] + spare];
    at = to + gap;
    return {
      stage: row.mine, name: (row.mine ?? row.theirs).name, from, to, changed: words[i].changed, lines: words[i].mine ?? ["–"],
      blocks: row.mine ? placeBlocks(row.mine, unit, (from + to) / 2, half) : [],
    };
  });
  return { vertical, narrow, compact, width, across, columns, rulers: rulers(columns), end: columns[columns.length - 1].to, length: at - gap + (vertical ? 40 : ends.tail) };
}

function blockLength(block, stage, unit) {
  return isHead(stage) ? HEAD : Math.max(block.ops.length === 1 ? 16 : 11, unit * Math.sqrt(side(block.output)));
}

function lengthOf(stage, unit) {
  return stage.blocks.reduce((sum, block) => sum + blockLength(block, stage, unit) + GAP, -GAP);
}

function placeBlocks(stage, unit, middle, half) {
  let at = middle - lengthOf(stage, unit) / 2;
  return stage.blocks.map((block) => {
    const [from, to] = [at, at + blockLength(block, stage, unit)];
    at = to + GAP;
    const wide = hidden(block) > Math.max(block.input[0], block.output[0]);
    return { block, from, to, inHalf: half(block.input[0]), outHalf: half(block.output[0]), hiddenHalf: wide ? half(hidden(block)) : 0 };
  });
}

/** Neighbouring stages of one resolution share a ruler. */
function rulers(columns) {
  const list = [];
  for (const { stage, from, to } of columns) {
    if (!stage || isHead(stage)) continue;
    const text = shape(stage.resolution);
    const last = list[list.length - 1];
    if (last?.text === text) last.to = to;
    else list.push({ text, from, to });
  }
  return list;
}
