/**
 * Trials as points over a uPlot: one canvas for the points at rest, one for what moves. A new trial costs one stamp and a
 * hover one small redraw, however many points there are.
 */
import { calm } from "../../core/theme.js";
import { BELOW, CROSS, NONE, RING, makeStamps } from "./stamps.js";

const GROW_MS = 500;
const MOST_GROWING = 60;

const radiusFor = (count) => (count <= 400 ? 4 : count <= 4000 ? 3 : 2.2);

export class Points {
  /**
   * `x`, `y`: {of(row) -> value}; `place(row)` -> a shape; `over(context, points)` draws what lies above them, e.g. a front.
   */
  constructor({ trials, x, y, place, over }) {
    Object.assign(this, { trials, x, y, place, over });
    this.drawn = new Uint8Array(0); // per row the shape on the canvas
    this.left = new Float32Array(0);
    this.top = new Float32Array(0);
    this.growing = new Map(); // row -> when it began
    this.hover = this.selected = -1;
    this.interval = null;
    this.moving = [];
  }

  attach(u, colors) {
    [this.u, this.colors, this.key] = [u, colors, null];
    const layer = () => {
      const canvas = document.createElement("canvas");
      canvas.className = "search-layer";
      u.over.append(canvas);
      return canvas.getContext("2d");
    };
    this.rest = layer();
    this.live = layer();
    if (u.scales.x.min != null) this.drew(u);
  }

  detach() {
    cancelAnimationFrame(this.frame);
    this.frame = this.u = null;
  }

  /** uPlot has drawn: its scales or its size may be others. */
  drew(u) {
    const [width, height] = [u.over.clientWidth, u.over.clientHeight];
    const { x, y } = u.scales;
    const key = [width, height, devicePixelRatio, x.min, x.max, y.min, y.max].join();
    if (key === this.key || !this.rest) return;
    [this.key, this.width, this.height] = [key, width, height];
    for (const { canvas } of [this.rest, this.live]) {
      canvas.width = Math.round(width * devicePixelRatio);
      canvas.height = Math.round(height * devicePixelRatio);
    }
    this.redraw();
  }

  /** The position of a value on an axis, in pixels of the plot. */
  at(axis, value) {
    const { min, max, distr } = this.u.scales[axis];
    const to = distr === 3 ? Math.log10 : (v) => v;
    const share = (to(value) - to(min)) / (to(max) - to(min));
    return axis === "x" ? share * this.width : (1 - share) * this.height;
  }

  redraw() {
    const { canvas } = this.rest;
    this.growing.clear();
    this.rest.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    this.rest.clearRect(0, 0, canvas.width, canvas.height);
    const { count } = this.trials;
    this.radius = radiusFor(count);
    this.stamps = makeStamps(this.colors, this.radius, count > 1500 ? 0.6 : 0.9);
    this.drawn = new Uint8Array(this.trials.room);
    [this.left, this.top] = [new Float32Array(this.trials.room), new Float32Array(this.trials.room)];
    this.update({ grow: false });
  }

  /** Draw the trials that came since; they grow in, unless there are too many at once or motion is not wanted. */
  update({ grow = true } = {}) {
    if (!this.u || !this.key) return;
    const { count, room } = this.trials;
    if (radiusFor(count) !== this.radius) return this.redraw();
    if (this.drawn.length < room) {
      const longer = (old, fresh) => (fresh.set(old), fresh);
      this.drawn = longer(this.drawn, new Uint8Array(room));
      [this.left, this.top] = [longer(this.left, new Float32Array(room)), longer(this.top, new Float32Array(room))];
    }
    const fresh = [];
    this.moving = [];
    for (let row = 0; row < count; row += 1) {
      const shape = this.place(row);
      if (shape === this.drawn[row] && shape !== RING) continue;
      if (this.drawn[row] !== NONE && this.drawn[row] !== RING) return this.redraw(); // a failed trial runs again
      this.locate(row, shape);
      if (shape === RING) this.moving.push(row);
      else if (shape !== NONE) fresh.push(row);
      this.drawn[row] = shape;
    }
    const growing = grow && !calm.matches && fresh.length <= MOST_GROWING;
    for (const row of fresh) {
      if (growing) this.growing.set(row, performance.now());
      else this.stamp(this.rest, row);
    }
    this.touch();
  }

  locate(row, shape) {
    const value = this.y.of(row);
    const floor = shape === CROSS || shape === RING || shape === BELOW || value !== value;
    this.left[row] = this.at("x", this.x.of(row));
    this.top[row] = floor ? this.height - (shape === RING ? 9 : 5) : this.at("y", value);
  }

  stamp(context, row, shape = this.drawn[row]) {
    const stamp = this.stamps[shape];
    if (stamp) context.drawImage(stamp, this.left[row] - stamp.half, this.top[row] - stamp.half, 2 * stamp.half, 2 * stamp.half);
  }

  /** The nearest trial within some pixels, -1 if there is none. */
  nearest(x, y, within = 24) {
    let [best, found] = [within * within, -1];
    const { count } = this.trials;
    for (let row = 0; row < Math.min(count, this.drawn.length); row += 1) {
      if (this.drawn[row] === NONE) continue;
      const [dx, dy] = [this.left[row] - x, this.top[row] - y];
      const far = dx * dx + dy * dy;
      if (far <= best) [best, found] = [far, row];
    }
    return found;
  }

  /** The next trial in a direction along an axis ("left" or "top", by = 1 or -1), so that arrows visit all of them. */
  next(row, axis, by) {
    const values = this[axis];
    const from = row < 0 ? -Infinity * by : values[row];
    let found = -1;
    for (let one = 0; one < Math.min(this.trials.count, this.drawn.length); one += 1) {
      if (this.drawn[one] === NONE || one === row) continue;
      const ahead = by * (values[one] - from) || by * (one - row);
      if (ahead <= 0) continue;
      const nearer = found < 0 ? -1 : by * (values[one] - values[found]) || by * (one - found);
      if (nearer < 0) found = one;
    }
    return found;
  }

  /** What moves is drawn with the next frame. */
  touch() {
    this.frame ??= requestAnimationFrame((now) => this.draw(now));
  }

  draw(now) {
    this.frame = null;
    if (!this.u || !this.key) return;
    const context = this.live;
    const { canvas } = context;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.over?.(context, this);
    for (const row of this.moving) this.stamp(context, row);
    for (const [row, began] of this.growing) this.grow(context, row, (now - began) / GROW_MS);
    this.whisker(context);
    for (const [row, wide] of [[this.hover, 1.5], [this.selected, 2.5]]) {
      if (row < 0) continue;
      this.ring(context, row, this.radius + 4.5, this.colors.surface, wide + 3); // stands out among other points
      this.ring(context, row, this.radius + 4.5, this.colors.text, wide);
    }
    if (this.growing.size) this.touch();
  }

  grow(context, row, share) {
    if (share >= 1) {
      this.growing.delete(row);
      return this.stamp(this.rest, row);
    }
    const soft = 1 - (1 - Math.max(0, share)) ** 3;
    const stamp = this.stamps[this.drawn[row]];
    if (!stamp) return;
    const half = stamp.half * (0.2 + 0.8 * soft);
    context.drawImage(stamp, this.left[row] - half, this.top[row] - half, 2 * half, 2 * half);
    context.globalAlpha = 1 - soft;
    this.ring(context, row, this.radius + 14 * soft, this.colors.running, 2);
    context.globalAlpha = 1;
  }

  ring(context, row, radius, color, width) {
    if (row >= this.drawn.length || this.drawn[row] === NONE) return;
    context.beginPath();
    context.arc(this.left[row], this.top[row], radius, 0, 2 * Math.PI);
    [context.strokeStyle, context.lineWidth] = [color, width];
    context.stroke();
  }

  /** The interval of the measured value around a predicted one: {row, low, high}. */
  whisker(context) {
    const { row, low, high } = this.interval ?? { row: -1 };
    if (row < 0 || row >= this.drawn.length || this.drawn[row] === NONE || (row !== this.hover && row !== this.selected)) return;
    const [from, to, y] = [this.at("x", low), this.at("x", high), this.top[row]];
    context.beginPath();
    context.moveTo(from, y);
    context.lineTo(to, y);
    for (const end of [from, to]) {
      context.moveTo(end, y - 5);
      context.lineTo(end, y + 5);
    }
    for (const [color, wide] of [[this.colors.surface, 4.5], [this.colors.text, 1.5]]) {
      [context.strokeStyle, context.lineWidth] = [color, wide];
      context.stroke();
    }
  }
}
