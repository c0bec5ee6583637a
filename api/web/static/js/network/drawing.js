/** A network drawn: what flows through it, to scale. */
import { html, useId, useMemo } from "../core/ui.js";
import { CHANGED, FONT, LINE, layOut } from "./layout.js";
import { blockSentence, find, isHead, networkSentence, shape } from "./words.js";
import { useWidth } from "./width.js";

const TOP = 40; // of the rulers and the arcs

/**
 * @param network of the REST API (`NetworkOut`)
 * @param against another network: stages that differ from its are marked, and both drawn so have the same columns
 * @param selected name of a stage, block or op; onSelect(name | null): without it the drawing is a picture
 * @param compact for small places
 * @param layout of `layOut`, if something else is drawn beside it
 */
export function NetworkDrawing({ network, against = null, selected = null, onSelect, compact = false, layout, label }) {
  const [box, width] = useWidth();
  return html`<div class="network-drawing" ref=${box}>
    ${width > 0 && html`<${Picture} ...${{ network, against, selected, onSelect, compact, layout, width, label }} />`}
  </div>`;
}

function Picture({ network, against, selected, onSelect, compact, layout, width, label }) {
  const place = useMemo(() => layout ?? layOut(network, { against, width, compact }), [network, against, width, compact, layout]);
  const id = useId();
  const { vertical, across, columns } = place;
  const middle = vertical ? across / 2 + 4 : (compact ? 30 : TOP) + across / 2;
  const at = vertical ? (m, c) => [middle + c, m] : (m, c) => [m, middle + c];
  const words = vertical ? across + (place.narrow ? 12 : 18) : middle + across / 2 + (compact ? 18 : 24);
  const lines = Math.max(...columns.map((column) => column.lines.length));
  const size = vertical ? [width, place.length] : [width, words + LINE * lines - 6];
  const chosen = find(network, selected);
  const blocks = columns.flatMap((column) => column.blocks);
  const now = blocks.findIndex(({ block }) => block === chosen?.block);
  const onKey = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") return onSelect(null);
    if (step === undefined) return;
    event.preventDefault();
    onSelect(blocks[Math.max(0, Math.min(blocks.length - 1, Math.max(now, step > 0 ? -1 : 0) + step))].block.name);
  };
  const told = label ?? networkSentence(network);
  const can = Boolean(onSelect);
  return html`<svg class=${`network-svg${can ? " can" : ""}`} width=${size[0]} height=${size[1]} role=${can ? "listbox" : "img"} aria-label=${can ? `Blocks. ${told}` : told}
      aria-orientation=${can ? (vertical ? "vertical" : "horizontal") : null} tabindex=${can ? 0 : null} aria-activedescendant=${now >= 0 && can ? `${id}-${now}` : null}
      onKeyDown=${can ? onKey : null} data-testid="network-drawing">
    <${Axis} ...${{ network, place, at, words, size }} />
    ${columns.map((column) => html`<g key=${column.name} role=${can ? "group" : null} aria-label=${can ? column.name : null}>
      <${Words} ...${{ column, place, words, size, chosen, onSelect }} />
      ${column.blocks.map((one) => html`<${Block} key=${one.block.name} ...${{ one, stage: column.stage, at, can }} id=${`${id}-${blocks.indexOf(one)}`}
        chosen=${one.block === chosen?.block} onClick=${can ? () => onSelect(one.block.name) : null} />`)}
    </g>`)}
  </svg>`;
}

/** The picture at the beginning, the classes at the end, the resolutions on the way. */
function Axis({ network, place, at, words, size }) {
  const { vertical, narrow, compact, rulers, end, columns } = place;
  const [channels, ...sides] = network.input;
  const [x, y] = vertical ? at(2, -15) : at(4, -15);
  const text = (className, tx, ty, told, anchor) => html`<text class=${className} x=${tx} y=${ty} text-anchor=${anchor}>${told}</text>`;
  const classes = network.outputs[0];
  const tail = vertical ? at(end + 24, 0) : at(end + 26, 0);
  return html`<g aria-hidden="true">
    <path class="network-axis" d=${line([at(vertical ? 34 : 38, 0), at(end + 20, 0)])} />
    <path class="network-arrow" d=${vertical ? `M${tail[0] - 4} ${tail[1] - 6}l4 6l4 -6` : `M${tail[0] - 7} ${tail[1] - 4}l6 4l-6 4`} />
    <g class="network-picture" transform=${`translate(${x} ${y})`}><rect width="30" height="30" rx="4" /><path d="M4 25l7-10l5 6l4-5l6 9z" /><circle cx="21" cy="8.500" r="3" /></g>
    ${vertical
      ? html`${text("name", words, 16, "picture")}${text("", words, 31, narrow ? shape(sides) : `${channels} ch · ${shape(sides)}`)}
        ${text("name", words, end + 22, narrow ? String(classes) : `${classes} classes`)}${narrow && text("", words, end + 22 + LINE, "classes")}`
      : html`${text("name", 2, words, compact ? "input" : "picture")}${!compact && text("", 2, words + LINE, `${channels} ch`)}
        ${text("muted", 2, compact ? 11 : 13, shape(sides))}
        ${text("name", size[0], words, String(classes), "end")}${text("", size[0], words + LINE, "classes", "end")}
        ${rulers.map((one) => html`<g key=${one.from}>${text("muted", (one.from + one.to) / 2, compact ? 11 : 13, one.text, "middle")}
          <path class="network-ruler" d=${`M${one.from} ${compact ? 20 : 23}v-4H${one.to}v4`} /></g>`)}`}
    ${vertical && columns.map(({ from }, i) => i > 0 && html`<path key=${from} class="network-row" d=${`M${words - 6} ${from - 7}H${size[0]}`} />`)}
  </g>`;
}

function Words({ column, place, words, size, chosen, onSelect }) {
  const { vertical } = place;
  const { from, to, lines, stage, changed } = column;
  const middle = (from + to) / 2;
  const y = vertical ? middle - (LINE * lines.length) / 2 + FONT - 1 : words;
  const lit = chosen && chosen.stage === stage;
  const back = vertical ? { x: words - 8, y: from - 5, width: size[0] - words + 8, height: to - from + 10 } : { x: from - 5, y: words - 14, width: to - from + 10, height: size[1] - words + 14 };
  return html`<g class=${`network-words${changed.length ? " changed" : ""}${lit ? " chosen" : ""}`} aria-hidden="true" onClick=${onSelect && stage ? () => onSelect(stage.name) : null}>
    <rect class="back" ...${back} rx="5" />
    ${lines.map((text, i) => html`<text key=${i} class=${i === 0 ? "name" : text.startsWith(CHANGED) ? "change" : "plain"} x=${vertical ? words : middle} y=${y + LINE * i}
      text-anchor=${vertical ? "start" : "middle"}>${text}${vertical && i === 1 && stage && !isHead(stage) && !place.narrow ? ` · ${shape(stage.resolution)}` : ""}</text>`)}
  </g>`;
}

const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const closed = (points) => `${line(points)}Z`;

/** A block: the channels it carries, what it expands them to, the window it looks through, its shortcut. */
function Block({ one, stage, at, can, id, chosen, onClick }) {
  const { block, from, to, inHalf, outHalf, hiddenHalf } = one;
  const length = to - from;
  const peak = Math.max(inHalf, outHalf, hiddenHalf);
  const told = blockSentence(block);
  return html`<g class=${`network-block${chosen ? " chosen" : ""}`} id=${id} role=${can ? "option" : null} aria-selected=${can ? String(chosen) : null} aria-label=${can ? told : null}
      onClick=${onClick} data-block=${block.name}>
    <title>${told}</title>
    <path class="hit" d=${closed([at(from - 1, -peak - 12), at(to + 1, -peak - 12), at(to + 1, peak + 6), at(from - 1, peak + 6)])} />
    ${isHead(stage) ? head(one, at) : block.expansion === null && block.ops.length > 3 ? lanes(one, at) : html`
      ${hiddenHalf > 0 && html`<path class="bulge" d=${closed(lantern(one, at))} />`}
      <path class=${block.kernel === null ? "pool" : "spine"} d=${closed([at(from, -inHalf), at(to, -outHalf), at(to, outHalf), at(from, inHalf)])} />`}
    ${!isHead(stage) && block.kernel > 1 && html`<${Window} ...${{ kernel: block.kernel, length, half: Math.min(inHalf, outHalf), center: at((from + to) / 2, 0) }} />`}
    ${block.squeeze_excite && html`<path class="se" d=${diamond(at((from + to) / 2, peak), Math.min(5, length / 2.6))} />`}
    ${block.residual && html`<path class="shortcut" d=${arc(at, from, to, inHalf, outHalf, peak)} />`}
  </g>`;
}

function lantern({ from, to, inHalf, outHalf, hiddenHalf }, at) {
  const cut = (to - from) * 0.26;
  const upper = [at(from, -inHalf), at(from + cut, -hiddenHalf), at(to - cut, -hiddenHalf), at(to, -outHalf)];
  const lower = [at(to, outHalf), at(to - cut, hiddenHalf), at(from + cut, hiddenHalf), at(from, inHalf)];
  return [...upper, ...lower];
}

/** Pooling, then the classifier. */
function head({ from, to, inHalf, outHalf }, at) {
  const pooled = from + 7;
  return html`<path class="pool" d=${closed([at(from, -inHalf), at(pooled, -inHalf), at(pooled, inHalf), at(from, inHalf)])} />
    <path class="linear" d=${closed([at(pooled + 2, -inHalf), at(to, -outHalf), at(to, outHalf), at(pooled + 2, inHalf)])} />`;
}

/** Half of the channels pass, half are worked on (ShuffleNetV2). */
function lanes({ from, to, inHalf, outHalf }, at) {
  return html`<path class="spine pass" d=${closed([at(from, -inHalf), at(to, -outHalf), at(to, -1), at(from, -1)])} />
    <path class="spine" d=${closed([at(from, 1), at(to, 1), at(to, outHalf), at(from, inHalf)])} />`;
}

/** The window of a convolution as a grid of its taps, where there is room. */
function Window({ kernel, length, half, center: [x, y] }) {
  const pitch = Math.min(3, (length - 1) / kernel);
  if (pitch < 1.9 || kernel > 7) return null;
  const dot = pitch * 0.68;
  const first = -((kernel - 1) / 2) * pitch - dot / 2;
  let path = "";
  for (let i = 0; i < kernel * kernel; i += 1) {
    path += `M${(x + first + (i % kernel) * pitch).toFixed(2)} ${(y + first + Math.floor(i / kernel) * pitch).toFixed(2)}h${dot.toFixed(2)}v${dot.toFixed(2)}h${(-dot).toFixed(2)}z`;
  }
  return html`<path class=${(kernel * pitch) / 2 <= half + 1 ? "taps" : "taps wide"} d=${path} />`;
}

const diamond = ([x, y], r) => `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`;

function arc(at, from, to, inHalf, outHalf, peak) {
  const lift = -(peak + 6 - 0.25 * Math.min(inHalf, outHalf)) / 0.75;
  const [a, b, c, d] = [at(from - 1, -inHalf), at(from + 1, lift), at(to - 1, lift), at(to + 1, -outHalf)];
  return `M${a.join(" ")}C${b.join(" ")} ${c.join(" ")} ${d.join(" ")}`;
}

/** What the shapes mean. */
export function DrawingLegend() {
  const item = (draw, text) => html`<span key=${text}><svg width="22" height="16" aria-hidden="true" class="network-svg">${draw}</svg>${text}</span>`;
  return html`<div class="legend network-legend" aria-label="What the shapes mean">
    ${item(html`<path class="spine" d="M3 6L19 4V12L3 10Z" />`, "across: channels; along: resolution (both as square roots)")}
    ${item(html`<path class="bulge" d="M2 5L6 1H16L20 5V11L16 15H6L2 11Z" /><path class="spine" d="M2 5H20V11H2Z" />`, "e: expanded channels")}
    ${item(html`<path class="spine" d="M3 2H19V14H3Z" /><path class="taps" d=${"M6 3h2v2h-2zM10 3h2v2h-2zM14 3h2v2h-2zM6 7h2v2h-2zM10 7h2v2h-2zM14 7h2v2h-2zM6 11h2v2h-2zM10 11h2v2h-2zM14 11h2v2h-2z"} />`, "k: kernel")}
    ${item(html`<path class="shortcut" d="M2 14C5 -2 17 -2 20 14" />`, "residual")}
    ${item(html`<path class="se" d="M11 3l5 5l-5 5l-5 -5z" />`, "SE")}
  </div>`;
}
