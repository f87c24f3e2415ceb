// @ts-check
// Pictures of a model and of one spectrum.

import { draw, format } from "./elements.js";
import { MarchenkoPastur } from "./marchenko_pastur.js";

/** @import { Change, Row } from "../../../../live/src/mirror/table" */
/** @typedef {{ width: number, height: number, left: number, right: number, top: number, bottom: number }} Box */
/** @typedef {{ at: (value: number) => number, ticks: number[] }} Scale */
/** @typedef {[number, number]} Point */

const [FEWEST_BINS, MOST_BINS] = [12, 70];
const POINTS = 300; // of a curve

/**
 * Draw the exponents of all layers, each beside that of noise of its shape; a click chooses a layer.
 * @param {readonly Row[]} rows
 * @param {Row | null} chosen
 * @param {number} width
 * @param {(row: Row) => void} choose
 * @param {string | null} noise
 */
export function overview(rows, chosen, width, choose, noise) {
  const box = boxOf(width, 220, 28);
  const svg = canvas(box, `PL_Alpha_Hill of ${rows.length} layers${noise ? `, each beside ${noise}` : ""}`);
  const spread = (/** @type {Row} */ row) => Math.abs((row.alpha_hill - (row.alpha_hill_null ?? NaN)) / (row.alpha_hill_z || NaN)) || 0;
  const values = rows.flatMap((row) => [row.alpha_hill, (row.alpha_hill_null ?? row.alpha_hill) + 3 * spread(row), (row.alpha_hill_null ?? row.alpha_hill) - 3 * spread(row)]);
  const y = linear(domain(values), [box.bottom, box.top]);
  const step = (box.right - box.left) / Math.max(1, rows.length);
  axes(svg, box, null, y, "layers, in the order of the model", "α (Hill)");
  // few elements, however many layers: one path for all bars of noise, and one for each verdict
  /** @type {Record<string, string>} */
  const paths = { null: "", heavier: "", lighter: "", as: "", undecided: "" };
  const r = Math.max(2, Math.min(5, step * 0.36));
  rows.forEach((row, i) => {
    const x = box.left + (i + 0.5) * step;
    const middle = row.alpha_hill_null;
    if (middle !== undefined && Number.isFinite(middle)) {
      const [low, high] = [y.at(middle - 3 * spread(row)), y.at(middle + 3 * spread(row))];
      const half = Math.min(7, step * 0.48);
      paths["null"] += `M${(x - half).toFixed(1)},${high.toFixed(1)}h${(2 * half).toFixed(1)}v${Math.max(1.5, low - high).toFixed(1)}h${(-2 * half).toFixed(1)}z`;
    }
    if (Number.isFinite(row.alpha_hill)) paths[verdictClass(row)] += disc([x, y.at(row.alpha_hill)], r);
  });
  const band = (/** @type {string} */ name) => draw("rect", { class: name, display: "none", x: 0, y: box.top, width: step, height: box.bottom - box.top });
  const [over, own, title] = [band("over"), band("own"), draw("title")];
  const mark = (/** @type {SVGRectElement} */ rect, /** @type {number} */ i) => {
    rect.setAttribute("x", String(box.left + i * step));
    rect.removeAttribute("display");
  };
  if (chosen) mark(own, rows.indexOf(chosen));
  const dots = Object.entries(paths).map(([name, d]) => draw("path", { class: `dots ${name}`, d }));
  const target = draw("rect", { class: "target", x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }, title);
  const place = (/** @type {MouseEvent} */ event) => Math.floor((event.clientX - target.getBoundingClientRect().left) / step);
  target.addEventListener("pointermove", (event) => {
    const row = rows[place(event)];
    if (!row) return;
    mark(over, place(event));
    title.textContent = `${row.name}: ${format(row.alpha_hill)}${noise ? `, noise ${format(row.alpha_hill_null)}` : ""}`;
  });
  target.addEventListener("pointerleave", () => over.setAttribute("display", "none"));
  target.addEventListener("click", (event) => {
    const row = rows[place(event)];
    if (row) choose(row);
  });
  svg.append(over, own, ...dots, target);
  return svg;
}

/**
 * Draw the exponents before and after.
 * @param {readonly Change[]} rows
 * @param {number} width
 */
export function changes(rows, width) {
  const box = boxOf(width, 220, 28);
  const svg = canvas(box, `PL_Alpha_Hill of ${rows.length} layers before and after`);
  const y = linear(domain(rows.flatMap((row) => [row.alpha_hill_before, row.alpha_hill_after])), [box.bottom, box.top]);
  const step = (box.right - box.left) / Math.max(1, rows.length);
  axes(svg, box, null, y, "layers, in the order of the model", "α (Hill)");
  rows.forEach((row, i) => {
    const x = box.left + (i + 0.5) * step;
    const [from, to] = [y.at(row.alpha_hill_before), y.at(row.alpha_hill_after)];
    if (!Number.isFinite(from) || !Number.isFinite(to)) return;
    const own = draw("g", { class: `change ${to > from ? "heavier" : to < from ? "lighter" : "same"}` });
    const r = Math.max(2, Math.min(4.5, step * 0.4));
    own.append(draw("line", { x1: x, x2: x, y1: from, y2: to }), draw("circle", { class: "from", cx: x, cy: from, r }), draw("circle", { cx: x, cy: to, r }));
    own.append(draw("title", {}, `${row.name}: ${format(row.alpha_hill_before)} to ${format(row.alpha_hill_after)}`));
    svg.append(own);
  });
  return svg;
}

/**
 * Draw the density of the eigenvalues in equal steps of their logarithm, with the laws of noise.
 * @param {Row} row
 * @param {Float64Array} eigenvalues
 * @param {number} width
 */
export function density(row, eigenvalues, width) {
  const box = boxOf(width, 270);
  const positive = eigenvalues.filter((x) => x > 0);
  const N = eigenvalues.length;
  const noise = noiseOf(row);
  const bulk = row.has_bulk && row.law_shape ? new MarchenkoPastur(...row.law_shape, row.mp_variance) : null;
  const largest = positive[positive.length - 1];
  // the smallest eigenvalues of a square matrix reach far down, and say little
  const smallest = Math.max(positive[Math.floor(positive.length / 200)], largest * 1e-7);
  /** @type {Point} */
  const ends = [Math.min(smallest, Math.max(noise.support[0], smallest)) / 1.2, Math.max(largest, noise.support[1]) * 1.25];
  const x = logarithmic(ends, [box.left, box.right]);
  const bins = Math.max(FEWEST_BINS, Math.min(MOST_BINS, Math.round(2 * Math.sqrt(positive.length))));
  const size = Math.log10(ends[1] / ends[0]) / bins;
  const counts = /** @type {number[]} */ (new Array(bins)).fill(0);
  for (const value of positive) {
    const bin = Math.floor(Math.log10(value / ends[0]) / size);
    if (bin >= 0 && bin < bins) counts[bin] += 1 / (N * size);
  }
  /** @type {(law: MarchenkoPastur, share: number) => Point[]} */
  const curve = (law, share) => {
    const [low, high] = law.support;
    const from = Math.max(low, ends[0]);
    return Array.from({ length: POINTS + 1 }, (_, i) => {
      // points lie close at the edges, where the density is steep
      const value = from * (high / from) ** ((1 - Math.cos((Math.PI * i) / POINTS)) / 2);
      return [value, share * law.pdf(value) * value * Math.LN10];
    });
  };
  const ownNoise = curve(noise, 1);
  const fitted = bulk ? curve(bulk, 1 - row.n_spikes / N) : [];
  const top = Math.max(...counts, ...fitted.map(([, p]) => p), ...ownNoise.map(([, p]) => Math.min(p, 2 * Math.max(...counts))));
  const y = linear([0, top * 1.05], [box.bottom, box.top]);
  const svg = canvas(box, `Density of the ${N} eigenvalues of ${row.name} along a logarithmic axis, with the Marchenko-Pastur law`);
  axes(svg, box, x, y, "eigenvalue λ of WᵀW", "share per decade");
  counts.forEach((count, i) => {
    if (!count) return;
    const [from, to] = [x.at(ends[0] * 10 ** (i * size)), x.at(ends[0] * 10 ** ((i + 1) * size))];
    svg.append(draw("rect", { class: "bar", x: from + 0.4, width: Math.max(0.5, to - from - 0.8), y: y.at(count), height: box.bottom - y.at(count) }));
  });
  /** @type {(points: Point[]) => string} */
  const place = (points) => line(points.map(([value, p]) => [x.at(value), y.at(Math.min(p, top * 1.05))]));
  svg.append(draw("path", { class: "noise", d: place(ownNoise) }));
  if (bulk) {
    svg.append(draw("path", { class: "bulk", d: place(fitted) }));
    svg.append(draw("line", { class: "edge", x1: x.at(row.mp_edge), x2: x.at(row.mp_edge), y1: box.top, y2: box.bottom }));
    const label = { x: x.at(row.mp_edge) + 4, y: box.top + 10, class: "note", "text-anchor": "start" };
    if (label.x > box.right - 70) Object.assign(label, { x: x.at(row.mp_edge) - 4, "text-anchor": "end" });
    svg.append(draw("text", label, "edge of noise"));
    for (const value of eigenvalues.subarray(N - row.n_spikes)) svg.append(draw("path", { class: "spike", d: `M${x.at(value).toFixed(1)},${box.bottom}v-9l-3.2,-6h6.4l-3.2,6` }));
  }
  return svg;
}

/**
 * Draw the share of eigenvalues above each one on two logarithmic axes, with both power laws.
 * @param {Row} row
 * @param {Float64Array} eigenvalues
 * @param {number} width
 */
export function tail(row, eigenvalues, width) {
  const box = boxOf(width, 270);
  const positive = eigenvalues.filter((x) => x > 0);
  const n = positive.length;
  const largest = positive[n - 1];
  const noise = noiseOf(row);
  const from = Math.max(positive[Math.floor(n / 4)], largest * 1e-6);
  /** @type {Point} */
  const ends = [Math.min(from, Math.max(noise.support[1] / 30, from)) / 1.1, Math.max(largest, noise.support[1]) * 1.4];
  const x = logarithmic(ends, [box.left, box.right]);
  const y = logarithmic([0.7 / n, 1.2], [box.bottom, box.top]);
  const svg = canvas(box, `Share of the eigenvalues of ${row.name} above each value on logarithmic axes, with the power laws of both exponents`);
  axes(svg, box, x, y, "eigenvalue λ of WᵀW", "share above");
  /** @type {(point: Point) => boolean} */
  const inside = ([px, py]) => px >= box.left - 0.5 && px <= box.right + 0.5 && py <= box.bottom && py >= box.top - 4;
  const curve = Array.from({ length: POINTS }, /** @returns {Point} */ (_, i) => {
    const value = ends[0] * (noise.support[1] / ends[0]) ** (i / (POINTS - 1));
    return [x.at(value), y.at(Math.max(1 - noise.cdf(value), 1e-12))];
  }).filter(inside);
  svg.append(draw("path", { class: "noise", d: line(curve) }));
  let dots = ""; // one path, however many eigenvalues
  /** @type {Point} */
  let last = [-9, -9];
  positive.forEach((value, i) => {
    /** @type {Point} */
    const point = [x.at(value), y.at((n - i) / n)];
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) < 1.5) return; // it would lie on the one before
    last = point;
    if (inside(point)) dots += disc(point, i > n - 60 ? 2 : 1.4);
  });
  svg.append(draw("path", { class: "points", d: dots }));
  /** @type {(name: string, xmin: number, share: number, alpha: number) => void} */
  const law = (name, xmin, share, alpha) => {
    if (!Number.isFinite(alpha)) return;
    const points = Array.from({ length: POINTS }, /** @returns {Point} */ (_, i) => {
      const value = xmin * (ends[1] / xmin) ** (i / (POINTS - 1));
      return [x.at(value), y.at(share * (value / xmin) ** (1 - alpha))];
    }).filter(inside);
    svg.append(draw("path", { class: name, d: line(points) }));
  };
  law("hill", positive[n >> 1], (n - (n >> 1)) / n, row.alpha_hill);
  law("ks", row.ks_xmin, row.n_tail / n, row.alpha_ks);
  return svg;
}

/**
 * The law of noise with the shape and the norm of a layer.
 * @param {Row} row
 */
function noiseOf(row) {
  const [h, d] = row.shape;
  return new MarchenkoPastur(h, d, row.frobenius_norm ** 2 / (h * d * row.n_matrices));
}

/**
 * @param {{ verdict?: string | undefined }} row
 */
export const verdictClass = ({ verdict }) => (verdict || "undecided").split(" ")[0];

/**
 * @param {number} width
 * @param {number} height
 * @param {number} foot
 * @returns {Box}
 */
function boxOf(width, height, foot = 42) {
  return { width, height, left: 50, right: width - 8, top: 10, bottom: height - foot };
}

/**
 * @param {Box} box
 * @param {string} label
 */
function canvas({ width, height }, label) {
  return draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

/**
 * @param {Point} middle
 * @param {number} r
 */
function disc([x, y], r) {
  return `M${(x - r).toFixed(1)},${y.toFixed(1)}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;
}

/**
 * @param {Point[]} points
 */
function line(points) {
  return points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)},${py.toFixed(1)}`).join("");
}

/**
 * @param {number[]} values
 * @returns {Point}
 */
function domain(values) {
  const finite = values.filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const margin = Math.max(0.08 * (high - low), 0.02 * Math.abs(high));
  return [low - margin, high + margin];
}

/**
 * @param {Point} ends
 * @param {Point} places
 * @returns {Scale}
 */
function linear([a, b], [p, q]) {
  const rough = (b - a) / Math.min(5, Math.abs(q - p) / 28);
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5, 10].find((m) => m * unit >= rough * 0.99) ?? 10);
  /** @type {number[]} */
  const ticks = [];
  for (let k = Math.ceil(a / step - 1e-9); k * step <= b + step * 1e-9; k++) ticks.push(Number((k * step).toPrecision(12)));
  return { at: (value) => p + ((value - a) / (b - a)) * (q - p), ticks };
}

/**
 * @param {Point} ends
 * @param {Point} places
 * @returns {Scale}
 */
function logarithmic([a, b], [p, q]) {
  const [from, to] = [Math.log10(a), Math.log10(b)];
  const every = Math.max(1, Math.ceil((to - from) / Math.min(7, Math.abs(q - p) / 46)));
  const multiples = to - from < 1.2 ? [1, 2, 5] : to - from < 2.2 ? [1, 3] : [1];
  /** @type {number[]} */
  const ticks = [];
  for (let e = Math.floor(from); e <= Math.ceil(to); e++)
    for (const m of multiples) {
      const value = Number(`${m}e${e}`);
      if (e % every === 0 && value >= a * 0.999 && value <= b * 1.001) ticks.push(value);
    }
  return { at: (value) => p + ((Math.log10(value) - from) / (to - from)) * (q - p), ticks };
}

/**
 * @param {SVGSVGElement} svg
 * @param {Box} box
 * @param {Scale | null} x
 * @param {Scale} y
 * @param {string} xlabel
 * @param {string} ylabel
 */
function axes(svg, box, x, y, xlabel, ylabel) {
  for (const value of y.ticks)
    svg.append(
      draw("line", { class: "grid", x1: box.left, x2: box.right, y1: y.at(value), y2: y.at(value) }),
      draw("text", { x: box.left - 6, y: y.at(value) + 4, "text-anchor": "end" }, format(value, 3)),
    );
  svg.append(draw("path", { class: "axis", d: `M${box.left},${box.bottom}H${box.right}` }));
  if (x)
    for (const value of x.ticks)
      svg.append(
      draw("line", { class: "axis", x1: x.at(value), x2: x.at(value), y1: box.bottom, y2: box.bottom + 4 }),
      draw("text", { x: x.at(value), y: box.bottom + 17, "text-anchor": "middle" }, format(value, 3)),
    );
  svg.append(
    draw("text", { class: "label", x: (box.left + box.right) / 2, y: box.height - 6, "text-anchor": "middle" }, xlabel),
    draw("text", { class: "label", transform: `translate(11,${(box.top + box.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, ylabel),
  );
}
