/** A small picture per shape: to copy one is several times faster than to draw it. */

/** What a trial is drawn as. CROSS and RING have no value and sit on the axis; BELOW: its value lies below it. */
export const [NONE, DOT, HOLLOW, CROSS, RING, BELOW, FAINT, SMALL] = [0, 1, 2, 3, 4, 5, 6, 7];

export function makeStamps(colors, radius, alpha) {
  const stamp = (color, opacity, paint) => {
    const half = radius + 4;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = Math.ceil(2 * half * devicePixelRatio);
    canvas.half = half;
    const context = canvas.getContext("2d");
    context.scale(canvas.width / (2 * half), canvas.width / (2 * half));
    context.translate(half, half);
    [context.fillStyle, context.strokeStyle, context.globalAlpha, context.lineWidth] = [color, color, opacity, 1.5];
    context.beginPath();
    paint(context);
    return canvas;
  };
  const round = (r) => (c) => c.arc(0, 0, r, 0, 2 * Math.PI);
  const lines = (c, ...ends) => ends.forEach(([x1, y1, x2, y2]) => (c.moveTo(x1, y1), c.lineTo(x2, y2)));
  const r = radius;
  const s = Math.max(2.6, r);
  return {
    [DOT]: stamp(colors.complete, alpha, (c) => (round(r)(c), c.fill())),
    [FAINT]: stamp(colors.complete, alpha < 0.8 ? 0.3 : 0.6, (c) => (round(Math.max(1.6, r - 1))(c), c.fill())),
    [SMALL]: stamp(colors.pruned, 0.6, (c) => (round(Math.max(1.4, r - 1.8))(c), c.fill())),
    [HOLLOW]: stamp(colors.pruned, alpha, (c) => (round(r)(c), c.stroke())),
    [CROSS]: stamp(colors.failed, 1, (c) => (lines(c, [-s, -s, s, s], [-s, s, s, -s]), c.stroke())),
    [RING]: stamp(colors.running, 1, (c) => (round(r + 1.5)(c), (c.lineWidth = 2.5), c.stroke())),
    [BELOW]: stamp(colors.muted, 0.6, (c) => (c.moveTo(-s, -s + 1), c.lineTo(s, -s + 1), c.lineTo(0, s), c.fill())),
  };
}
