// The parts of the explorer's charts: elements, numbers as text, scales, axes, lines along steps.

// The colours are variables of explorer.css, because a dark page has others.  They mean what they mean in the figures of
// the book (htlib/figures/style.py): RUN is that of the optimizer, PURPLE and BROWN mean nothing of their own.
const [INK, GRID, RUN, PALE, PURPLE, BROWN, GREEN, GREY] = ["ink", "grid", "run", "run-pale", "purple", "brown", "green", "grey"].map((name) => `var(--${name})`);
export { INK, GRID, RUN, PALE, PURPLE, BROWN, GREEN, GREY };

// Elements ------------------------------------------------------------------------------------------

const SVG = new Set(["svg", "g", "path", "line", "rect", "text", "title", "clipPath"]);

export function make(tag, attributes = {}, ...children) {
  const element = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const power = (exponent) => "10" + [...String(exponent)].map((c) => SUPERSCRIPTS[c]).join("");

export function format(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) {
    const [mantissa, exponent] = value.toExponential(2).split("e");
    return `${Number(mantissa)} × ${power(Number(exponent))}`.replace("-", "−");
  }
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

// Scales and axes -----------------------------------------------------------------------------------

export function linearScale([a, b], [p, q]) {
  const rough = (b - a) / Math.min(5, Math.abs(q - p) / 24), unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((m) => m * unit >= rough * 0.99);
  const ticks = [];
  for (let k = Math.ceil(a / step - 1e-9); k * step <= b + step * 1e-9; k++) ticks.push(k * step);
  return {
    at: (v) => p + ((v - a) / (b - a)) * (q - p), from: (place) => a + ((place - p) / (q - p)) * (b - a), ticks, write: (v) => format(v, 3), low: a,
  };
}

export function logScale([a, b], [p, q]) {
  const [from, to] = [Math.log10(a), Math.log10(b)];
  const every = Math.ceil((to - from) / Math.min(7, Math.abs(q - p) / 24)), ticks = [];
  const multiples = to - from < 1.7 ? [1, 2, 5] : [1];
  for (let e = Math.floor(from); e <= Math.ceil(to); e++)
    for (const m of multiples) {
      const v = m * 10 ** e;
      if (e % every === 0 && v >= a * 0.999 && v <= b * 1.001) ticks.push(v);
    }
  const plain = ticks.every((v) => v >= 0.01 && v <= 1000);
  const write = (v) => (plain || multiples.length > 1 ? format(v, 2) : power(Math.round(Math.log10(v))));
  return {
    at: (v) => p + ((Math.log10(v) - from) / (to - from)) * (q - p), from: (place) => 10 ** (from + ((place - p) / (q - p)) * (to - from)), ticks, write, low: a,
  };
}

export function domain(values, kind, atLeast = 0) {
  const finite = values.filter((v) => v !== null && (kind !== "log" || v > 0));
  if (!finite.length) return kind === "log" ? [0.1, 10] : [0, 1];
  const low = Math.min(...finite), high = Math.max(...finite);
  if (kind === "log") return [low / 1.25, high * 1.25];
  const margin = Math.max(0.08 * (high - low), (atLeast - (high - low)) / 2, 1e-3 * Math.abs(high), 1e-9);
  return [low - margin, high + margin];
}

// A box of a small picture has no numbers.
export function axes(svg, box, x, y, xlabel, ylabel) {
  if (box.small) return void svg.append(make("path", { d: `M${box.left},${box.bottom}H${box.right}`, stroke: GREY }));
  for (const v of y.ticks)
    svg.append(
      make("line", { x1: box.left, x2: box.right, y1: y.at(v), y2: y.at(v), stroke: GRID }),
      make("text", { x: box.left - 6, y: y.at(v) + 4, "text-anchor": "end" }, y.write(v)),
    );
  svg.append(make("path", {
    d: `M${box.left},${box.top}V${box.bottom}H${box.right}`, fill: "none", stroke: INK,
  }));
  for (const v of x.ticks) {
    svg.append(make("line", { x1: x.at(v), x2: x.at(v), y1: box.bottom, y2: box.bottom + 4, stroke: INK }));
    if (xlabel) svg.append(make("text", { x: x.at(v), y: box.bottom + 17, "text-anchor": "middle" }, x.write(v)));
  }
  const middle = (box.top + box.bottom) / 2;
  if (xlabel)
    svg.append(make("text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle" }, xlabel));
  svg.append(make("text", { transform: `translate(12,${middle}) rotate(-90)`, "text-anchor": "middle" }, ylabel));
}

// Lines ---------------------------------------------------------------------------------------------

export const MARKERS = {
  circle: "M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0",
  square: "M-2.8,-2.8h5.6v5.6h-5.6z",
  triangle: "M0,-3.6l3.4,6h-6.8z",
  diamond: "M0,-5l5,5l-5,5l-5,-5z",
};

// A legend's sample: a line, with or without a marker; a bar; a marker by itself, hollow or full.
export function sample({ colour, dash = "", marker, bar, hollow, point }) {
  const svg = make("svg", { width: 26, height: 12, "aria-hidden": "true" });
  if (bar) svg.append(make("rect", { x: 6, y: 1, width: 14, height: 10, fill: colour, opacity: 0.6 }));
  else if (!hollow && !point) svg.append(make("line", { x1: 1, x2: 25, y1: 6, y2: 6, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }));
  if (marker) svg.append(make("path", { d: MARKERS[marker], transform: "translate(13,6)", fill: hollow ? "none" : colour, stroke: hollow ? colour : "none" }));
  return svg;
}

// Fill the area between two lines of [x, y] places; a place without numbers interrupts it.
export function band(svg, lower, upper, colour) {
  let part = [];
  const close = () => {
    if (part.length > 1) {
      const [down, up] = [part.map(([l]) => l), part.map(([, u]) => u).reverse()];
      svg.append(make("path", { d: "M" + [...down, ...up].map((p) => p.map((v) => v.toFixed(1))).join("L") + "Z", fill: colour, opacity: 0.18, class: "band" }));
    }
    part = [];
  };
  lower.forEach((l, i) => ([...l, ...upper[i]].every(Number.isFinite) ? part.push([l, upper[i]]) : close()));
  close();
}

export function path(places) {
  let d = "", pen = "M";
  for (const [x, y] of places) {
    const there = Number.isFinite(y);
    if (there) d += `${pen}${x.toFixed(1)},${y.toFixed(1)}`;
    pen = there ? "L" : "M";
  }
  return d;
}

// Draw measures against the step.  `predicted` is one point in closed form, {step, value, name}; `pinned` is a run to
// compare with.  Where the picture is large, a place in it leads to a step.
export function lines(svg, box, run, series, { kind = "linear", range, atLeast, reference, predicted, pinned, xlabel, ylabel }) {
  const { snapshots } = run, span = Math.max(run.span, pinned?.span ?? 0);
  const values = series.flatMap(({ key }) =>
    [...snapshots, ...(pinned?.snapshots ?? [])].flatMap((s) => [s.metrics[key], ...(s.spread?.[key] ?? [])]));
  if (reference) values.push(reference.value);
  const x = linearScale([0, Math.max(1, span)], [box.left + 6, box.right - 6]);
  svg.pick = (place) => ({ steps: Math.min(span, Math.max(0, Math.round(x.from(place)))) });
  x.ticks = x.ticks.filter(Number.isInteger);
  const y = (kind === "log" ? logScale : linearScale)(range ?? domain(values, kind, atLeast), [box.bottom, box.top]);
  const at = (v) => (v === null || v === undefined || (kind === "log" && v <= 0) ? NaN : y.at(v));
  axes(svg, box, x, y, xlabel, ylabel);
  const line = (attributes) => svg.append(make("line", { "stroke-width": 1.5, ...attributes }));
  if (reference)
    line({ x1: box.left, x2: box.right, y1: y.at(reference.value), y2: y.at(reference.value), stroke: GREY, "stroke-dasharray": "2 3" });
  if (run.state === "diverged" && !box.small) {
    const stop = x.at(run.stoppedAt), anchor = stop > (box.left + box.right) / 2 ? "end" : "start";
    line({ x1: stop, x2: stop, y1: box.top, y2: box.bottom, stroke: BROWN, "stroke-dasharray": "6 3" });
    svg.append(make("text", { x: stop + (anchor === "end" ? -5 : 5), y: box.top + 10, "text-anchor": anchor }, "diverged"));
  }
  const every = Math.ceil(snapshots.length / 26);
  for (const { key, dash } of pinned ? series : [])
    svg.append(make("path", {
      d: path(pinned.snapshots.map(({ step, metrics }) => [x.at(step), at(metrics[key])])),
      fill: "none", stroke: GREY, "stroke-width": 2, "stroke-dasharray": dash, class: "pinned",
    }));
  for (const { key, name, colour, dash, marker } of series) {
    const edge = (side) => snapshots.map((s) => [x.at(s.step), at(s.spread?.[key]?.[side])]);
    band(svg, edge(0), edge(1), colour);
    const places = snapshots.map(({ step, metrics }) => [x.at(step), at(metrics[key])]);
    svg.append(make("path", { d: path(places), fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }));
    if (box.small) continue;
    const dots = make("g", { fill: colour });
    places.forEach(([px, py], i) => {
      if (!Number.isFinite(py) || (i % every && i < places.length - 1)) return;
      const place = `translate(${px.toFixed(1)},${py.toFixed(1)})`, { step, metrics } = snapshots[i];
      dots.append(make("path", { d: MARKERS[marker], transform: place }, make("title", {}, `${name}, step ${step}: ${format(metrics[key])}`)));
    });
    svg.append(dots);
  }
  if (predicted && span >= predicted.step && !box.small)
    svg.append(make("path", {
      d: MARKERS.diamond, transform: `translate(${x.at(predicted.step)},${y.at(predicted.value)})`, fill: "none", stroke: INK, "stroke-width": 1.5, class: "predicted",
    }, make("title", {}, predicted.name)));
}
