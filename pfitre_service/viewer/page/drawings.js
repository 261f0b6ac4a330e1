// The angle dial and the error curves, as SVG with words for those who cannot see them.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function drawing(width, height, label) {
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  svg.append(element("title", {}, label));
  return svg;
}

/** The holes [from, to] in degrees between ranges that were measured, modulo 180. */
function holes(ranges) {
  return ranges.map(([, from], place) => [from, place + 1 < ranges.length ? ranges[place + 1][0] : ranges[0][0] + 180]).filter(([from, to]) => to > from);
}

/** Drawing and words: measured angles, held-out ones (longer), what lies between the measured ranges (shaded), the next best (a dot). */
export function dial(angles, held, ranges, next) {
  const wide = holes(ranges), missing = wide.reduce((sum, [from, to]) => sum + to - from, 0);
  const label = angles.length
    ? `${angles.length} angles, ${held.filter(Boolean).length} of them held out${ranges.length ? `; ${missing.toFixed(0)} of 180 degrees are missing` : ""}`
    : "no angle yet";
  const svg = drawing(220, 144, label);
  const at = (angle, radius) => [110 + radius * Math.cos((angle * Math.PI) / 180), 72 - radius * Math.sin((angle * Math.PI) / 180)];
  svg.append(element("circle", { cx: 110, cy: 72, r: 62, fill: "none", class: "axis" }));
  for (const [from, to] of wide) for (const turn of [0, 180]) {
    const [x1, y1] = at(from + turn, 62), [x2, y2] = at(to + turn, 62);
    svg.append(element("path", { d: `M110 72 L${x1} ${y1} A62 62 0 ${to - from > 180 ? 1 : 0} 0 ${x2} ${y2} Z`, fill: "var(--missing)", opacity: 0.7 }));
  }
  const rays = (out, from) => angles.filter((_, place) => Boolean(held[place]) === out).map((angle) => `M${at(angle, from)}L${at(angle, 62)}`).join("");
  svg.append(element("path", { d: rays(false, 34), stroke: "var(--accent)" }), element("path", { d: rays(true, 20), stroke: "var(--held)", "stroke-width": 2 }));
  if (Number.isFinite(next)) {
    const [x, y] = at(next, 68);
    svg.append(element("circle", { cx: x, cy: y, r: 4, fill: "var(--good)" }));
  }
  const words = document.createElement("p");
  words.textContent = label;
  words.setAttribute("aria-hidden", "true"); // the drawing says the same
  return [svg, words];
}

const LINES = [
  ["heldout_error", "held-out error", "var(--held)"],
  ["heldout_error_physics", "held-out error, physics alone", "var(--soft)"],
  ["residual", "residual", "var(--accent)"],
  ["prior_gap", "prior gap", "var(--good)"],
];

/** Curves of progress rows against `against`: angles or time; logarithmic upwards; and the floor that noise makes, dashed. */
export function curves(rows, against, floor) {
  const times = rows.time ?? [], along = against === "time" ? times.map((time) => time - times[0]) : rows.angles_used ?? [];
  const values = LINES.flatMap(([name]) => (rows[name] ?? []).filter((value) => value > 0));
  const svg = drawing(300, 224, times.length ? summary(rows) : "no step yet");
  if (!values.length) return svg;
  if (floor > 0) values.push(floor);
  const [least, most] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))];
  const [low, high] = [Math.floor(least * 10) / 10, Math.max(Math.ceil(most * 10) / 10, least + 0.2)];
  const end = Math.max(...along, 1e-9);
  const x = (value) => 38 + (252 * value) / end, y = (value) => 130 - (120 * (Math.log10(value) - low)) / (high - low);
  for (let line = 0; line <= 2; line++) {
    const level = 10 ** (low + ((high - low) * line) / 2);
    svg.append(element("line", { x1: 38, x2: 290, y1: y(level), y2: y(level), class: "axis" }));
    svg.append(element("text", { x: 34, y: y(level) + 4, "text-anchor": "end" }, level.toPrecision(2)));
  }
  svg.append(element("text", { x: 290, y: 144, "text-anchor": "end" }, against === "time" ? `${end.toFixed(0)} s` : `${end} angles`));
  LINES.forEach(([name, words, colour], place) => {
    const points = (rows[name] ?? []).map((value, row) => (value > 0 ? `${x(along[row]).toFixed(1)},${y(value).toFixed(1)}` : "")).filter(Boolean);
    svg.append(element("polyline", { points: points.join(" "), fill: "none", stroke: colour, "stroke-width": 1.6 }));
    svg.append(element("line", { x1: 6, x2: 22, y1: 160 + 14 * place, y2: 160 + 14 * place, stroke: colour, "stroke-width": 2 }));
    const last = (rows[name] ?? []).findLast((value) => value > 0);
    svg.append(element("text", { x: 27, y: 164 + 14 * place }, `${words}${last ? `: ${last.toPrecision(3)}` : ": not measured"}`));
  });
  if (floor > 0) {
    const dashed = { stroke: "var(--held)", "stroke-dasharray": "4 3" };
    svg.append(element("line", { x1: 38, x2: 290, y1: y(floor), y2: y(floor), ...dashed }));
    svg.append(element("line", { x1: 6, x2: 22, y1: 216, y2: 216, ...dashed }), element("text", { x: 27, y: 220 }, `noise alone: ${floor.toPrecision(3)}`));
  }
  return svg;
}

function summary(rows) {
  const last = (name) => rows[name]?.findLast((value) => value > 0)?.toPrecision(3) ?? "not measured";
  return `held-out error ${last("heldout_error")}, physics alone ${last("heldout_error_physics")}, residual ${last("residual")}, prior gap ${last("prior_gap")}`;
}
