/** A network of the REST API (`NetworkOut`) in words: where an op belongs, what it is, how big it is. */
import { compact, ms, percent } from "../core/format.js";

/** Kinds of ops as the colours tell them apart. */
export const KINDS = [
  { id: "conv", text: "convolution" },
  { id: "depthwise", text: "depthwise" },
  { id: "linear", text: "fully connected" },
  { id: "pool", text: "pooling" },
  { id: "add", text: "addition, scaling" },
  { id: "other", text: "other" },
];
const GROUPS = { conv: "conv", depthwise: "depthwise", linear: "linear", maxpool: "pool", avgpool: "pool", globalpool: "pool", add: "add", scale: "add" };
const NAMES = {
  conv: "convolution", depthwise: "depthwise convolution", linear: "fully connected layer", add: "addition", concat: "concatenation", split: "channel split",
  shuffle: "channel shuffle", maxpool: "max pooling", avgpool: "average pooling", globalpool: "global average pooling", scale: "channel scaling",
};
const SHORT = { conv: "conv", depthwise: "dw", linear: "fc", globalpool: "pool", maxpool: "max", avgpool: "avg", scale: "×", add: "+" };
const WINDOWED = new Set(["conv", "depthwise", "maxpool", "avgpool"]);

/** What the pieces of a bar can be of. */
export const MEASURES = {
  ms: { title: "Milliseconds", noun: "milliseconds", of: (op) => op.predicted_ms ?? 0, show: ms, total: (totals) => totals.predicted_ms },
  flops: { title: "FLOPs", noun: "FLOPs", of: (op) => op.flops, show: compact, total: (totals) => totals.flops },
  params: { title: "Parameters", noun: "parameters", of: (op) => op.params, show: compact, total: (totals) => totals.params },
};

export const kindOf = (op) => GROUPS[op.kind] ?? "other";
export const shape = (dims) => dims.join("×");
/** Pooling and classifier: nothing in it looks through a window. */
export const isHead = (stage) => stage.resolution.every((side) => side === 1) && stage.blocks.every((block) => block.kernel === null);
/** How people call it: pooling and classifier are one stage, named after its last op. */
export const stageTitle = (stage) => (isHead(stage) ? "head" : stage.name);
const taps = (op) => (WINDOWED.has(op.kind) ? ` ${shape(op.kernel)}` : "");

/** depthwise convolution 5×5, stride 2, relu6 */
export function opWords(op) {
  const stride = Math.max(...op.stride) > 1 ? `, stride ${Math.max(...op.stride)}` : "";
  const groups = op.kind === "conv" && op.groups > 1 ? `, ${op.groups} groups` : "";
  return `${NAMES[op.kind] ?? op.kind}${taps(op)}${stride}${groups}${op.act === "none" ? "" : `, ${op.act}`}`;
}

/** dw 5×5 */
export const opShort = (op) => `${SHORT[op.kind] ?? op.kind}${taps(op)}`;

/** Where an op's time comes from. */
export function timedWords(op) {
  if (op.predicted_ms === null || op.predicted_ms === undefined) return "not timed on this board";
  if (op.predicted_ms === 0) return "runs inside another op's kernel";
  return op.estimated ? "estimated from ops like it" : "timed on the board";
}

/** One sentence about an op, for screen readers and tooltips. */
export function opSentence(op) {
  const parts = [`${op.path}: ${opWords(op)}`, `${shape(op.inputs[0])} to ${shape(op.outputs[0])}`];
  if (op.flops) parts.push(`${compact(op.flops)} FLOPs`);
  if (op.params) parts.push(`${compact(op.params)} parameters`);
  if (op.predicted_ms !== null && op.predicted_ms !== undefined) parts.push(`${ms(op.predicted_ms)}, ${percent(op.share, 1)}`, timedWords(op));
  return parts.join("; ");
}

export function blockSentence(block) {
  const parts = [`${block.name}: ${shape(block.input)} to ${shape(block.output)}`];
  if (block.kernel) parts.push(`kernel ${block.kernel}`);
  if (block.expansion) parts.push(`expansion ${block.expansion}`);
  if (block.squeeze_excite) parts.push("squeeze-excite");
  if (block.residual) parts.push("residual");
  return parts.join("; ");
}

/** One sentence about a network. */
export function networkSentence(network) {
  const { totals, stages } = network;
  const blocks = stages.reduce((sum, stage) => sum + stage.repeats, 0);
  const time = totals.predicted_ms === null || totals.predicted_ms === undefined ? "" : `, ${ms(totals.predicted_ms)} predicted on ${network.board}`;
  return `From a picture of ${shape(network.input)} to ${network.outputs[0]} classes in ${blocks} blocks of ${stages.length} stages: `
    + `${compact(totals.flops)} FLOPs, ${compact(totals.params)} parameters${time}.`;
}

const values = (list) => [...new Set(list.filter((one) => one !== null && one !== undefined))].sort((a, b) => a - b).join("/");

/** What can differ between two stages, as short texts. */
export function stageTraits(stage) {
  return {
    width: String(stage.width), kernel: values(stage.blocks.map((block) => block.kernel)),
    expansion: values(stage.blocks.map((block) => block.expansion)), repeats: String(stage.repeats),
    se: stage.blocks.some((block) => block.squeeze_excite) ? "yes" : "no", resolution: shape(stage.resolution),
  };
}

/** Name of an op, block or stage -> {stage, block, op}, as far as it names them; null if there is no such thing. */
export function find(network, name) {
  if (!name) return null;
  const all = network.stages.flatMap((stage) => stage.blocks.map((block) => ({ stage, block })));
  const of = all.find(({ block }) => block.ops.includes(name));
  if (of) return { ...of, op: network.ops.find((op) => op.path === name) };
  const stage = network.stages.find((one) => one.name === name);
  return all.find(({ block }) => block.name === name) ?? (stage ? { stage } : null);
}

export const opsOf = (network, part) => {
  if (part.op) return [part.op];
  const paths = new Set(part.block ? part.block.ops : part.stage.blocks.flatMap((block) => block.ops));
  return network.ops.filter((op) => paths.has(op.path));
};

export const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);
