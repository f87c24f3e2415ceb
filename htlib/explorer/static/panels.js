// The explorer's charts.  Each draws itself large or small; a legend lists only what is drawn.

import { axes, band, BROWN, format, GREEN, GREY, INK, lines, linearScale, logScale, make, MARKERS, PALE, path, PURPLE, RUN } from "./marks.js";

const ALIGNMENT = [{ key: "alignment", name: "|⟨v₁, β⟩|", colour: PURPLE, dash: "", marker: "circle" }];
const SHADES = 24;

const KTA = [{ key: "kta", name: "kernel-target alignment", colour: BROWN, dash: "6 3", marker: "square" }];
const HILL = [{ key: "alpha_hill", name: "Hill", colour: PURPLE, dash: "", marker: "circle" }];
const KS = [{ key: "alpha_ks", name: "KS", colour: BROWN, dash: "6 3", marker: "square" }];
const TRAINING = [{ key: "train_loss", name: "training (stage 1)", colour: PURPLE, dash: "", marker: "circle" }];
const REFIT = [
  { key: "test_loss", name: "refit, test", colour: BROWN, dash: "6 3", marker: "square" },
  { key: "ridge_train_loss", name: "refit, probe set", colour: PURPLE, dash: "2 2", marker: "triangle" },
];

// The law of the bulk is known after one step only.
const bulkOf = ({ snapshots, start }) => (snapshots.at(-1).step === 1 ? start.prediction?.bulk : null);
const unstableAbove = ({ start }) => start.prediction?.unstable_lr;
const spikeOf = ({ snapshots, start }) =>
  (snapshots.at(-1).step === 1 && start.prediction?.has_outlier ? start.prediction.spectral_norm ** 2 : null);

function histogram(values, width) {
  const counts = new Map();
  for (const v of values) {
    const bin = Math.floor(Math.log10(v) / width);
    counts.set(bin, (counts.get(bin) ?? 0) + 1);
  }
  return counts;
}

function spectrum(svg, box, run, { counts: kind, pinned }) {
  const { snapshots, start } = run, bulk = bulkOf(run), spike = spikeOf(run);
  const { eigenvalues, metrics, step } = snapshots.at(-1);
  const { x: grid, edge } = start.noise;
  const [positive, before] = [eigenvalues, pinned?.snapshots.at(-1).eigenvalues ?? []].map((all) => all.filter((v) => v > 0));
  const snap = (v, round) => 10 ** (round(2 * Math.log10(v)) / 2);
  const [low, high] = [
    snap(Math.min(positive[0] ?? edge, before[0] ?? edge, grid[0]), Math.floor),
    snap(Math.max(positive.at(-1) ?? edge, before.at(-1) ?? edge, edge, spike ?? 0, bulk?.edge ?? 0) * 1.05, Math.ceil),
  ];
  const span = Math.log10(high / low), width = span <= 3 ? 0.1 : span <= 6 ? 0.15 : 0.3;
  const counts = histogram(positive, width), counted = histogram(before, width);
  // dN = N p(x) dx, and a bin is x ln 10 times its width on the log axis
  const expected = ({ x, density }) => x.map((v, i) => [v, eigenvalues.length * density[i] * v * Math.LN10 * width]);
  const law = expected(start.noise);
  const top = Math.max(...counts.values(), ...counted.values(), ...law.map(([, c]) => c));
  const x = logScale([low, high], [box.left, box.right]);
  const y = kind === "log"
    ? logScale([0.5, top * 1.6], [box.bottom, box.top + 14])
    : linearScale([0, top * 1.05], [box.bottom, box.top + 14]);
  axes(svg, box, x, y, "eigenvalue λ of WᵀW, log scale", "eigenvalues per bin");
  const ends = (bin) => [bin, bin + 1].map((b) => x.at(Math.min(high, Math.max(low, 10 ** (b * width)))));
  for (const [bin, count] of counts) {
    const [from, to] = ends(bin);
    svg.append(make("rect", {
      x: from + 0.5, width: Math.max(1, to - from - 1), y: y.at(count), height: box.bottom - y.at(count),
      fill: 10 ** (bin * width) < edge ? PALE : RUN, opacity: 0.65,
    }));
  }
  if (counted.size) {
    const bins = [...counted.keys()], outline = [];
    for (let bin = Math.min(...bins); bin <= Math.max(...bins); bin++)
      outline.push(...ends(bin).map((at) => `${at.toFixed(1)},${(counted.has(bin) ? y.at(counted.get(bin)) : box.bottom).toFixed(1)}`));
    const [from, to] = [outline[0], outline.at(-1)].map((place) => `${place.split(",")[0]},${box.bottom}`);
    svg.append(make("path", { d: `M${from}L${outline.join("L")}L${to}`, fill: "none", stroke: GREY, "stroke-width": 2, class: "pinned" }));
  }
  const curve = (points) => path(points.filter(([v]) => v >= low).map(([v, c]) => [x.at(v), Math.max(y.at(Math.max(c, y.low)), box.top)]));
  svg.append(make("path", { d: curve(law), fill: "none", stroke: INK, "stroke-width": 2 }));
  if (bulk)
    svg.append(
      make("path", { d: curve(expected(bulk)), fill: "none", stroke: INK, "stroke-width": 1.5, "stroke-dasharray": "6 3", class: "bulk" }),
      make("path", { d: `M${x.at(bulk.edge).toFixed(1)},${box.bottom}V${box.top}`, stroke: INK, "stroke-dasharray": "6 3", class: "bulk" }, make("title", {}, `predicted edge of the bulk: ${format(bulk.edge)}`)),
    );
  svg.append(make("line", {
    x1: x.at(edge), x2: x.at(edge), y1: box.top, y2: box.bottom, stroke: GREY, "stroke-width": 1.5, "stroke-dasharray": "2 3",
  }));
  if (spike)
    svg.append(make("line", {
      x1: x.at(spike), x2: x.at(spike), y1: box.top, y2: box.bottom, stroke: GREEN, "stroke-width": 2, "stroke-dasharray": "7 3", class: "predicted",
    }, make("title", {}, `predicted spike: ${format(spike)}`)));
  // Stored eigenvalues are rounded, but their number beyond the edge is exact.
  const outliers = eigenvalues.slice(eigenvalues.length - metrics.n_outliers);
  const ticks = outliers.map((v) => `M${x.at(v).toFixed(1)},${box.top}v${box.small ? 5 : 9}`).join("");
  svg.append(make("path", { d: ticks, stroke: RUN, class: "outliers" }));
  if (outliers.length && !box.small)
    svg.append(make("path", { d: MARKERS.triangle, transform: `translate(${x.at(outliers.at(-1))},${box.top + 9}) rotate(180) scale(1.4)`, fill: RUN },
      make("title", {}, `largest eigenvalue: ${format(outliers.at(-1))}`)));
  return `Histogram of the ${eigenvalues.length} eigenvalues after step ${step}, from about ${format(positive[0], 2)} to ` +
    `${format(positive.at(-1))}; ${outliers.length} lie beyond the noise edge at ${format(edge)}.` +
    (spike ? ` The spike is predicted at ${format(spike)}.` : "") + (bulk ? ` The bulk is predicted to end at ${format(bulk.edge)}.` : "") +
    (before.length ? ` A, in grey, reaches ${format(before.at(-1))}; ${pinned.snapshots.at(-1).metrics.n_outliers} of its eigenvalues lie beyond the edge.` : "");
}

// Spectral norm against rates: this run among others, and the prediction for one step.
function rateMap(svg, box, run, { visited, pinned }) {
  const { snapshots, start } = run, { prediction, map } = start, unstable = unstableAbove(run), here = snapshots.at(-1).metrics.spectral_norm;
  const alike = alikeOf(run, visited);
  const other = pinned && { lr: pinned.start.config.lr, norm: pinned.snapshots.at(-1).metrics.spectral_norm };
  const noise = Math.sqrt(start.noise.edge), curve = prediction?.curve;
  const rate = start.config.lr;
  const rates = [rate, unstable ?? 0, ...(curve?.lr ?? []), ...(map?.lr ?? []), other?.lr ?? 0, ...alike.map((v) => v.lr)].filter((v) => v > 0);
  const norms = [here, noise, ...(curve?.spectral_norm ?? []), ...(map?.high ?? []), ...(map?.low ?? []), other?.norm ?? 0, ...alike.map((v) => v.norm)].filter((v) => v > 0);
  const x = logScale([Math.min(...rates), Math.max(...rates, 10 * Math.min(...rates))], [box.left, box.right]);
  const y = logScale([Math.min(...norms) / 1.3, Math.max(...norms) * 1.3], [box.bottom, box.top]);
  axes(svg, box, x, y, "learning rate η, log scale", "spectral norm, log");
  svg.pick = (place) => ({ lr: Number(x.from(Math.min(box.right, Math.max(box.left, place))).toPrecision(2)) });
  const line = (a) => svg.append(make("line", { "stroke-width": 1.5, "stroke-dasharray": "2 3", stroke: GREY, ...a }));
  line({ x1: box.left, x2: box.right, y1: y.at(noise), y2: y.at(noise) });
  const places = (norm) => map.lr.map((lr, i) => [x.at(lr), norm[i] > 0 ? y.at(norm[i]) : NaN]);
  if (map) {
    band(svg, places(map.low), places(map.high), RUN);
    svg.append(make("path", { d: path(places(map.median)), fill: "none", stroke: RUN, "stroke-width": 2 }));
  }
  if (curve) {
    svg.append(make("path", {
      d: path(curve.lr.map((lr, i) => [x.at(lr), y.at(curve.spectral_norm[i])])), fill: "none", stroke: INK, "stroke-width": 1.5, "stroke-dasharray": "6 3", class: "predicted",
    }));
    line({ x1: x.at(prediction.critical_lr), x2: x.at(prediction.critical_lr), y1: box.top, y2: box.bottom, stroke: GREEN, "stroke-dasharray": "7 3" });
  }
  if (unstable)
    line({ x1: x.at(unstable), x2: x.at(unstable), y1: box.top, y2: box.bottom, stroke: BROWN, "stroke-dasharray": "6 3", class: "unstable" });
  for (const { lr, norm } of alike)
    if (lr > 0 && norm > 0) svg.append(make("path", { d: MARKERS.circle, transform: `translate(${x.at(lr)},${y.at(norm)})`, fill: RUN, class: "visited" }));
  if (other?.lr > 0 && other.norm > 0)
    svg.append(make("path", { d: MARKERS.diamond, transform: `translate(${x.at(other.lr)},${y.at(other.norm)}) scale(1.3)`, fill: GREY, class: "pinned" }));
  if (here > 0 && rate > 0)
    svg.append(make("path", { d: MARKERS.diamond, transform: `translate(${x.at(rate)},${y.at(here)}) scale(1.3)`, fill: INK, class: "here" },
      make("title", {}, `you are here: rate ${format(rate)}, spectral norm ${format(here)}`)));
  return `Spectral norm against the learning rate. You are at rate ${format(rate)}, spectral norm ${format(here)} after step ${snapshots.at(-1).step}.` +
    (prediction ? ` In one step a spike is predicted from rate ${format(prediction.critical_lr)} on.` : "") +
    (unstable ? ` Unstable above rate ${format(unstable, 2)}.` : "");
}

/** Say how the present rate compares with that above which training is unstable, if there is one. */
export function instability(run) {
  const unstable = unstableAbove(run);
  if (!unstable) return "";
  const { lr, optimizer } = run.start.config, what = optimizer === "gd" ? "Unstable" : "The first step overshoots";
  return `${what} above ${format(unstable, 2)}; now ${format(lr / unstable, 2)} times that.`;
}

const alikeOf = ({ settings, start }, visited) => visited.filter((v) => v.steps === settings.steps && v.family === familyOf(start));

/** Return a key that is equal for the runs of one map: only rate, steps and seed may differ. */
export const familyOf = ({ config }) =>
  JSON.stringify(["n", "d", "h", "optimizer", "teacher", "labels", "noise_std"].map((name) => config[name]));

// Squared inner products of the leading singular vectors of W and of the last update; dark means agreement.
function overlapMap(svg, box, { snapshots, start }) {
  const { overlaps, step } = snapshots.at(-1);
  const say = (text) => {
    if (!box.small) svg.append(make("text", { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2, "text-anchor": "middle", class: "empty" }, text));
    return text;
  };
  if (!overlaps)
    return say(step === 0 ? "No update yet." : start.source === "stored" ? "Not stored for this run: train here." : "Not known for this step.");
  const k = overlaps.length, side = Math.min(box.right - box.left, box.bottom - box.top);
  const left = box.left + (box.right - box.left - side) / 2, square = { left, right: left + side, top: box.top, bottom: box.top + side, small: box.small };
  const x = linearScale([0.5, k + 0.5], [square.left, square.right]), y = linearScale([0.5, k + 0.5], [square.top, square.bottom]);
  for (const scale of [x, y]) scale.ticks = [1, ...[5, 10, 15, 20].filter((v) => v <= k)];
  // one path per shade, because four hundred elements would slow the page down
  const cell = side / k, shades = Array.from({ length: SHADES + 1 }, () => "");
  overlaps.forEach((row, i) => row.forEach((v, j) => {
    const [left, top] = [square.left + j * cell, square.top + i * cell].map((at) => at.toFixed(2));
    shades[Math.round(SHADES * Math.sqrt(Math.min(1, v)))] += `M${left},${top}h${cell.toFixed(2)}v${cell.toFixed(2)}h${(-cell).toFixed(2)}z`;
  }));
  shades.forEach((d, shade) => {
    const colour = `color-mix(in srgb, var(--deep) ${Math.round((100 * shade) / SHADES)}%, var(--pale))`;
    if (d) svg.append(make("path", { d, fill: colour, stroke: colour, "stroke-width": 0.5 }));
  });
  axes(svg, square, x, y, "vector of the update", "vector of W");
  return `Squared overlaps of the ${k} leading right singular vectors of W and of the update after step ${step}; the first two overlap by ${format(overlaps[0][0], 2)}.`;
}

const journey = (run, key, name) =>
  `${name}: ${format(run.snapshots[0].metrics[key])} at the start, ${format(run.snapshots.at(-1).metrics[key])} after step ${run.snapshots.at(-1).step}.`;

const PINNED = { name: "A", colour: GREY, when: (_, { pinned }) => pinned };
const hasPrediction = ({ start }) => start.prediction;

// `draw` gets the whole box and its two halves, and returns a description.  `value` is what a small picture says.
export const PANELS = [
  {
    name: "esd", short: "spectrum", title: "Spectrum", value: ({ metrics, eigenvalues }) => `${metrics.n_outliers}/${eigenvalues.length}`,
    legend: [
      { name: "eigenvalues", colour: PALE, bar: true, when: ({ snapshots: all }) => all.at(-1).eigenvalues.length > all.at(-1).metrics.n_outliers },
      { name: "Marchenko–Pastur law", colour: INK },
      { name: "noise edge", colour: GREY, dash: "2 3" },
      { name: "beyond it", colour: RUN, bar: true, when: ({ snapshots }) => snapshots.at(-1).metrics.n_outliers },
      { name: "predicted spike", colour: GREEN, dash: "7 3", when: spikeOf },
      { name: "predicted bulk", colour: INK, dash: "6 3", when: bulkOf },
      PINNED,
    ],
    draw: (svg, [whole], run, view) => spectrum(svg, whole, run, view),
  },
  {
    name: "alignment", short: "alignment", title: "Alignment with the teacher", value: ({ metrics }) => format(metrics.alignment, 2),
    legend: [
      ...ALIGNMENT, ...KTA, { name: "chance", colour: GREY, dash: "2 3" },
      { name: "predicted (step 1)", colour: INK, marker: "diamond", hollow: true, when: (run) => hasPrediction(run) && run.span > 0 }, PINNED,
    ],
    draw(svg, [whole], run, { pinned }) {
      const chance = Math.sqrt(2 / (Math.PI * run.start.config.d)); // mean cosine of random directions
      const { prediction } = run.start;
      const predicted = prediction && { step: 1, value: prediction.alignment, name: `predicted alignment after one step: ${format(prediction.alignment)}` };
      lines(svg, whole, run, [...ALIGNMENT, ...KTA], { range: [0, 1], reference: { value: chance }, predicted, pinned, xlabel: "step", ylabel: "alignment" });
      return journey(run, "alignment", "Alignment of the top singular vector with the teacher") + " " + journey(run, "kta", "Kernel-target alignment") +
        (prediction ? ` Predicted after one step: ${format(prediction.alignment)}.` : "");
    },
  },
  {
    name: "alphas", short: "tails", title: "Tail exponents", value: ({ metrics }) => `Hill ${format(metrics.alpha_hill, 3)}`,
    legend: [...HILL, { name: "Hill of pure noise (start)", colour: GREY, dash: "2 3" }, ...KS, PINNED],
    draw(svg, [, upper, lower], run, { pinned }) {
      const reference = { value: run.snapshots[0].metrics.alpha_hill };
      lines(svg, upper, run, HILL, { reference: reference.value === null ? undefined : reference, atLeast: 0.4, pinned, ylabel: "Hill α" });
      lines(svg, lower, run, KS, { atLeast: 2, pinned, xlabel: "step", ylabel: "KS α" });
      return journey(run, "alpha_hill", "Hill exponent") + " " + journey(run, "alpha_ks", "KS exponent");
    },
  },
  {
    name: "losses", short: "losses", title: "Losses (mean squared error)", value: ({ metrics }) => `test ${format(metrics.test_loss, 3)}`,
    legend: [...TRAINING, ...REFIT, PINNED],
    draw(svg, [, upper, lower], run, { pinned }) {
      const refits = run.snapshots.flatMap(({ metrics }) => REFIT.map(({ key }) => metrics[key])).filter((v) => v > 0);
      const kind = Math.max(...refits) > 30 * Math.min(...refits) ? "log" : "linear";
      lines(svg, upper, run, TRAINING, { kind: "log", pinned, ylabel: "stage 1, log" });
      lines(svg, lower, run, REFIT, { kind, atLeast: 0.2, pinned, xlabel: "step", ylabel: "refit" });
      return [...TRAINING, ...REFIT].map(({ key, name }) => journey(run, key, `Loss, ${name}`)).join(" ");
    },
  },
  {
    name: "rates", short: "rates", title: "Where you are among the rates", value: ({ metrics }) => `‖W‖ ${format(metrics.spectral_norm, 3)}`,
    legend: [
      { name: "you", colour: INK, marker: "diamond", point: true },
      { name: "stored runs, all seeds", colour: RUN, when: ({ start }) => start.map },
      { name: "your runs", colour: RUN, marker: "circle", point: true, when: (run, { visited }) => alikeOf(run, visited).length },
      { name: "one step, predicted", colour: INK, dash: "6 3", when: hasPrediction },
      { name: "noise edge", colour: GREY, dash: "2 3" },
      { name: "critical rate of the spike", colour: GREEN, dash: "7 3", when: hasPrediction },
      { name: "unstable above", colour: BROWN, dash: "6 3", when: unstableAbove },
      { ...PINNED, marker: "diamond", point: true },
    ],
    draw: (svg, [whole], run, view) => rateMap(svg, whole, run, view),
  },
  {
    name: "overlaps", short: "overlaps", title: "Overlaps of W and the update",
    value: ({ overlaps }) => (overlaps ? `first ${overlaps[0][0].toFixed(2)}` : "–"),
    legend: [{
      name: "dark: the same direction; squared inner products of right singular vectors", colour: "var(--deep)", bar: true,
      when: ({ snapshots }) => snapshots.at(-1).overlaps,
    }],
    draw: (svg, [whole], run) => overlapMap(svg, whole, run),
  },
];
