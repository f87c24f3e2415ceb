// The explorer's front end: controls, four charts, and an engine that it asks for results.
//
// An engine has request(settings) -> id, cancel(id) and onMessage(callback) -> function that ends it.
// htlib/engine.py describes the messages.  No dependencies, no network.

const INK = "#222", GRID = "#e4e4e4", BLUE = "#0072B2", ORANGE = "#D55E00", GREEN = "#009E73", GREY = "#767676";
const PATIENCE = 300; // ms that a run may take to finish before a newer one, or a part of it, is shown
const SILENCE = 4000; // ms without an answer before the reader is told so
const SATURATED = 0.9;
const RATES = { from: -3, to: 3.5, step: 0.05 }; // log10 of the learning rate

const WORDS = {
  adam: "Adam", gd: "gradient descent",
  softplus: "softplus", relu: "relu", identity: "identity (linear)",
  hermite2: "Hermite 2 (even)", hermite3: "Hermite 3 (odd)",
  real: "real", shuffled: "shuffled", noise: "pure noise", centred: "real, centred",
  paper: "paper: W x / √d", "released-code": "released code: W x / d",
};

export function kernelEngine(model) {
  // Views of one model hear each other's answers: ids start at a random place.
  let id = Math.floor(Math.random() * 1e9) * 1000;
  return {
    request(settings) {
      id += 1;
      model.send({ type: "request", id, settings });
      return id;
    },
    cancel(which) {
      model.send({ type: "cancel", id: which });
    },
    onMessage(callback) {
      model.on("msg:custom", callback);
      return () => model.off("msg:custom", callback);
    },
  };
}

// Elements ------------------------------------------------------------------------------------------

const SVG = new Set(["svg", "g", "path", "line", "rect", "text", "title", "clipPath"]);

function make(tag, attributes = {}, ...children) {
  const element = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const power = (exponent) => "10" + [...String(exponent)].map((c) => SUPERSCRIPTS[c]).join("");

function format(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) {
    const [mantissa, exponent] = value.toExponential(2).split("e");
    return `${Number(mantissa)} × ${power(Number(exponent))}`.replace("-", "−");
  }
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

// Scales and axes -----------------------------------------------------------------------------------

function linearScale([a, b], [p, q]) {
  const rough = (b - a) / Math.min(5, Math.abs(q - p) / 24), unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((m) => m * unit >= rough * 0.99);
  const ticks = [];
  for (let k = Math.ceil(a / step - 1e-9); k * step <= b + step * 1e-9; k++) ticks.push(k * step);
  return { at: (v) => p + ((v - a) / (b - a)) * (q - p), ticks, write: (v) => format(v, 3), low: a };
}

function logScale([a, b], [p, q]) {
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
  return { at: (v) => p + ((Math.log10(v) - from) / (to - from)) * (q - p), ticks, write, low: a };
}

function domain(values, kind, atLeast = 0) {
  const finite = values.filter((v) => v !== null && (kind !== "log" || v > 0));
  if (!finite.length) return kind === "log" ? [0.1, 10] : [0, 1];
  const low = Math.min(...finite), high = Math.max(...finite);
  if (kind === "log") return [low / 1.25, high * 1.25];
  const margin = Math.max(0.08 * (high - low), (atLeast - (high - low)) / 2, 1e-3 * Math.abs(high), 1e-9);
  return [low - margin, high + margin];
}

function axes(svg, box, x, y, xlabel, ylabel) {
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

// Charts --------------------------------------------------------------------------------------------

const MARKERS = {
  circle: "M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0",
  square: "M-2.8,-2.8h5.6v5.6h-5.6z",
  triangle: "M0,-3.6l3.4,6h-6.8z",
  diamond: "M0,-3.8l3.8,3.8l-3.8,3.8l-3.8,-3.8z",
};

const ALIGNMENT = [{ key: "alignment", name: "|⟨v₁, β⟩|", colour: BLUE, dash: "", marker: "circle" }];
const HILL = [{ key: "alpha_hill", name: "Hill", colour: BLUE, dash: "", marker: "circle" }];
const KS = [{ key: "alpha_ks", name: "KS", colour: ORANGE, dash: "6 3", marker: "square" }];
const TRAINING = [{ key: "train_loss", name: "training (stage 1)", colour: BLUE, dash: "", marker: "circle" }];
const REFIT = [
  { key: "test_loss", name: "refit, test", colour: ORANGE, dash: "6 3", marker: "square" },
  { key: "ridge_train_loss", name: "refit, probe set", colour: GREEN, dash: "2 2", marker: "triangle" },
];

function sample({ colour, dash = "", marker, bar }) {
  const svg = make("svg", { width: 26, height: 12, "aria-hidden": "true" });
  if (bar) svg.append(make("rect", { x: 6, y: 1, width: 14, height: 10, fill: colour, opacity: 0.6 }));
  else svg.append(make("line", { x1: 1, x2: 25, y1: 6, y2: 6, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }));
  if (marker) svg.append(make("path", { d: MARKERS[marker], transform: "translate(13,6)", fill: colour }));
  return svg;
}

function lines(svg, box, run, series, { kind = "linear", range, atLeast, reference, xlabel, ylabel }) {
  const { snapshots, settings } = run;
  const values = series.flatMap(({ key }) => snapshots.map((s) => s.metrics[key]));
  if (reference) values.push(reference.value);
  const x = linearScale([0, Math.max(1, settings.steps)], [box.left + 6, box.right - 6]);
  x.ticks = x.ticks.filter(Number.isInteger);
  const y = (kind === "log" ? logScale : linearScale)(range ?? domain(values, kind, atLeast), [box.bottom, box.top]);
  axes(svg, box, x, y, xlabel, ylabel);
  const line = (attributes) => svg.append(make("line", { "stroke-width": 1.5, ...attributes }));
  if (reference)
    line({ x1: box.left, x2: box.right, y1: y.at(reference.value), y2: y.at(reference.value), stroke: GREY, "stroke-dasharray": "2 3" });
  if (run.state === "diverged") {
    const at = x.at(run.stoppedAt), anchor = at > (box.left + box.right) / 2 ? "end" : "start";
    line({ x1: at, x2: at, y1: box.top, y2: box.bottom, stroke: ORANGE, "stroke-dasharray": "6 3" });
    svg.append(make("text", { x: at + (anchor === "end" ? -5 : 5), y: box.top + 10, "text-anchor": anchor }, "diverged"));
  }
  const every = Math.ceil(snapshots.length / 26);
  for (const { key, name, colour, dash, marker } of series) {
    let path = "", pen = "M";
    const dots = make("g", { fill: colour });
    snapshots.forEach(({ step, metrics }, i) => {
      const v = metrics[key];
      if (v === null || (kind === "log" && v <= 0)) return void (pen = "M");
      path += `${pen}${x.at(step).toFixed(1)},${y.at(v).toFixed(1)}`;
      pen = "L";
      if (i % every && i < snapshots.length - 1) return;
      const place = `translate(${x.at(step).toFixed(1)},${y.at(v).toFixed(1)})`;
      dots.append(make("path", { d: MARKERS[marker], transform: place }, make("title", {}, `${name}, step ${step}: ${format(v)}`)));
    });
    svg.append(make("path", { d: path, fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }), dots);
  }
}

function spectrum(svg, box, { snapshots, start }, kind) {
  const { eigenvalues, step } = snapshots.at(-1);
  const { x: grid, density, edge } = start.noise;
  const positive = eigenvalues.filter((v) => v > 0);
  const snap = (v, round) => 10 ** (round(2 * Math.log10(v)) / 2);
  const [low, high] = [
    snap(Math.min(positive[0] ?? edge, grid[0]), Math.floor), snap(Math.max(positive.at(-1) ?? edge, edge) * 1.05, Math.ceil),
  ];
  const span = Math.log10(high / low), width = span <= 3 ? 0.1 : span <= 6 ? 0.15 : 0.3;
  const counts = new Map();
  for (const v of positive) {
    const bin = Math.floor(Math.log10(v) / width);
    counts.set(bin, (counts.get(bin) ?? 0) + 1);
  }
  // dN = N p(x) dx, and a bin is x ln 10 times its width on the log axis
  const law = grid.map((v, i) => [v, eigenvalues.length * density[i] * v * Math.LN10 * width]);
  const top = Math.max(...counts.values(), ...law.map(([, c]) => c));
  const x = logScale([low, high], [box.left, box.right]);
  const y = kind === "log"
    ? logScale([0.5, top * 1.6], [box.bottom, box.top + 14])
    : linearScale([0, top * 1.05], [box.bottom, box.top + 14]);
  axes(svg, box, x, y, "eigenvalue λ of WᵀW, log scale", "eigenvalues per bin");
  for (const [bin, count] of counts) {
    const [from, to] = [bin, bin + 1].map((b) => x.at(Math.min(high, Math.max(low, 10 ** (b * width)))));
    svg.append(make("rect", {
      x: from + 0.5, width: Math.max(1, to - from - 1), y: y.at(count), height: box.bottom - y.at(count), fill: BLUE, opacity: 0.6,
    }));
  }
  const curve = law.map(([v, c]) => `${x.at(v).toFixed(1)},${y.at(Math.max(c, y.low)).toFixed(1)}`);
  svg.append(make("path", { d: "M" + curve.join("L"), fill: "none", stroke: INK, "stroke-width": 2 }));
  svg.append(make("line", {
    x1: x.at(edge), x2: x.at(edge), y1: box.top, y2: box.bottom, stroke: GREY, "stroke-width": 1.5, "stroke-dasharray": "2 3",
  }));
  const outliers = eigenvalues.filter((v) => v > edge);
  for (const v of outliers)
    svg.append(make("line", { x1: x.at(v), x2: x.at(v), y1: box.top, y2: box.top + 9, stroke: ORANGE, class: "outlier" }));
  if (outliers.length)
    svg.append(make("path", { d: MARKERS.triangle, transform: `translate(${x.at(outliers.at(-1))},${box.top + 9}) rotate(180) scale(1.4)`, fill: ORANGE },
      make("title", {}, `largest eigenvalue: ${format(outliers.at(-1))}`)));
  return `Histogram of the ${eigenvalues.length} eigenvalues after step ${step}, from ${format(positive[0])} to ` +
    `${format(positive.at(-1))}; ${outliers.length} lie beyond the noise edge at ${format(edge)}.`;
}

const journey = (run, key, name) =>
  `${name}: ${format(run.snapshots[0].metrics[key])} at the start, ${format(run.snapshots.at(-1).metrics[key])} after step ${run.snapshots.at(-1).step}.`;

const PANELS = [
  {
    name: "esd", title: "Spectrum",
    legend: [
      { name: "eigenvalues", colour: BLUE, bar: true },
      { name: "Marchenko–Pastur law", colour: INK },
      { name: "noise edge", colour: GREY, dash: "2 3" },
      { name: "outliers", colour: ORANGE, marker: "triangle" },
    ],
    draw: (svg, [whole], run, view) => spectrum(svg, whole, run, view.counts),
  },
  {
    name: "alignment", title: "Alignment with the teacher",
    legend: [...ALIGNMENT, { name: "chance", colour: GREY, dash: "2 3" }],
    draw(svg, [whole], run) {
      const chance = Math.sqrt(2 / (Math.PI * run.start.config.d)); // mean cosine of random directions
      lines(svg, whole, run, ALIGNMENT, { range: [0, 1], reference: { value: chance }, xlabel: "step", ylabel: "|⟨v₁, β⟩|" });
      return journey(run, "alignment", "Alignment of the top singular vector with the teacher");
    },
  },
  {
    name: "alphas", title: "Tail exponents",
    legend: [...HILL, { name: "Hill of pure noise (start)", colour: GREY, dash: "2 3" }, ...KS],
    draw(svg, [, upper, lower], run) {
      const reference = { value: run.snapshots[0].metrics.alpha_hill };
      lines(svg, upper, run, HILL, { reference: reference.value === null ? undefined : reference, atLeast: 0.4, ylabel: "Hill α" });
      lines(svg, lower, run, KS, { atLeast: 2, xlabel: "step", ylabel: "KS α" });
      return journey(run, "alpha_hill", "Hill exponent") + " " + journey(run, "alpha_ks", "KS exponent");
    },
  },
  {
    name: "losses", title: "Losses (mean squared error)",
    legend: [...TRAINING, ...REFIT],
    draw(svg, [, upper, lower], run) {
      const refits = run.snapshots.flatMap(({ metrics }) => REFIT.map(({ key }) => metrics[key])).filter((v) => v > 0);
      const kind = Math.max(...refits) > 30 * Math.min(...refits) ? "log" : "linear";
      lines(svg, upper, run, TRAINING, { kind: "log", ylabel: "stage 1, log" });
      lines(svg, lower, run, REFIT, { kind, atLeast: 0.2, xlabel: "step", ylabel: "refit" });
      return [...TRAINING, ...REFIT].map(({ key, name }) => journey(run, key, `Loss, ${name}`)).join(" ");
    },
  },
];

const READOUT = [
  ["spectral_norm", "spectral norm"], ["n_outliers", "outliers"], ["alignment", "align­ment"],
  ["alpha_hill", "Hill α"], ["test_loss", "test loss"],
];

// The view ------------------------------------------------------------------------------------------

export function createExplorer(el, options, engine) {
  const settings = { ...options.settings };
  let run = { id: null, state: "none", snapshots: [] }; // the newest request
  let shown = null; // the run in the picture
  let drawn = "", dirty = false, frame = 0, timers = [];
  const view = { counts: "log" };

  // Controls
  const select = (name, title, help) => {
    const input = make("select", { name, title: help ?? "" });
    for (const value of options.choices[name]) input.append(make("option", { value }, WORDS[value] ?? value));
    input.value = settings[name];
    input.addEventListener("change", () => change({ [name]: input.value }));
    const label = make("label", {}, make("span", {}, title), input);
    return make("div", { class: name }, label, ...(help ? [make("small", { "aria-hidden": "true" }, help)] : []));
  };
  const range = (attributes) => make("input", { type: "range", ...attributes });
  const slider = range({ name: "lr", min: RATES.from, max: RATES.to, step: RATES.step });
  const typed = make("input", { type: "number", name: "lr-value", min: 0, step: "any", "aria-label": "learning rate, typed" });
  const steps = range({ name: "steps", min: 0, max: options.max_steps, step: 1 });
  const count = make("output", {});
  const place = () => {
    const plain = String(settings.lr), short = settings.lr.toExponential().replace("+", "");
    typed.value = short.length < plain.length ? short : plain;
    slider.value = settings.lr > 0 ? Math.log10(settings.lr) : RATES.from;
    slider.setAttribute("aria-valuetext", format(settings.lr));
  };
  slider.addEventListener("input", () => {
    const lr = Number((10 ** slider.valueAsNumber).toPrecision(2));
    change({ lr });
    place();
  });
  typed.addEventListener("change", () => {
    if (Number.isNaN(typed.valueAsNumber)) return refuse("the learning rate must be a number, such as 0.1 or 2e3");
    change({ lr: typed.valueAsNumber });
    place();
  });
  steps.addEventListener("input", () => {
    count.textContent = steps.value;
    change({ steps: steps.valueAsNumber });
  });
  steps.value = settings.steps;
  count.textContent = settings.steps;
  place();
  const log = make("input", { type: "checkbox", name: "log-counts", checked: "" });
  log.addEventListener("change", () => {
    view.counts = log.checked ? "log" : "linear";
    schedule();
  });
  const button = make("button", { type: "button" }, "Stop");
  button.addEventListener("click", () => {
    if (run.state === "running") return engine.cancel(run.id);
    place();
    send();
  });
  const controls = make("form", { class: "controls", "aria-label": "settings of the experiment" },
    select("optimizer", "Optimizer"),
    make("div", { class: "wide" }, make("label", {}, make("span", {}, "Learning rate η (log)"), slider), typed),
    make("div", { class: "wide" }, make("label", {}, make("span", {}, "Steps"), steps), count),
    select("teacher", "Teacher"),
    select("labels", "Training labels"),
    select("feature_scale", "Feature scale", "Of the ridge refit: paper W x / √d, released code W x / d. Training and spectrum do not change."),
  );
  controls.addEventListener("submit", (event) => event.preventDefault());

  // Status
  const status = make("p", { class: "status", "aria-live": "polite" });
  const notice = make("p", { class: "notice", "aria-live": "polite", hidden: "" });
  const bar = make("progress", { "aria-label": "progress", value: 0, max: 1 });
  const bench = make("div", { class: "bench" }, button, status, bar);
  const say = (state, text) => {
    status.dataset.state = state;
    if (status.textContent !== text) status.textContent = text;
  };

  // Pictures and numbers
  const panels = PANELS.map((panel) => {
    const svg = make("svg", { role: "img", "aria-label": "" });
    const key = panel.legend.map((item) => make("span", {}, sample(item), item.name));
    const title = make("strong", {}, panel.title);
    const toggle = panel.name === "esd" ? [make("label", { class: "toggle" }, log, "log counts")] : [];
    const figure = make("figure", { class: panel.name }, make("figcaption", {}, make("div", {}, title, ...toggle), make("div", { class: "key" }, ...key)), svg);
    return { ...panel, svg, figure, heading: title };
  });
  const charts = make("div", { class: "charts" }, ...panels.map(({ figure }) => figure));
  const rows = make("tbody");
  const table = make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "step"), ...READOUT.map(([, name]) => make("th", { scope: "col" }, name)))), rows);
  el.classList.add("htlib-explorer");
  el.append(controls, bench, notice, charts, table);
  // Arrow keys are for our sliders, not for JupyterLab's cells.
  for (const input of el.querySelectorAll("input, select, button")) input.dataset.lmSuppressShortcuts = "true";

  function change(update) {
    Object.assign(settings, update);
    delete el.dataset.settled;
    // A run that is about to finish is let finish: while a slider moves, every picture is whole.
    if (run.state === "running" && performance.now() - run.sent < PATIENCE) dirty = true;
    else send();
  }

  function refuse(message) {
    if (run.state === "running") engine.cancel(run.id);
    forget();
    run = { state: "error", message, settings, snapshots: [] };
    schedule();
  }

  function forget() {
    dirty = false;
    delete el.dataset.settled;
    timers.forEach(clearTimeout);
  }

  function send() {
    forget();
    run = { state: "running", settings: { ...settings }, snapshots: [], sent: performance.now(), heard: false };
    run.id = engine.request(run.settings);
    timers = [
      setTimeout(() => (dirty ? send() : schedule()), PATIENCE),
      setTimeout(() => run.heard || say("waiting", "No answer from the kernel yet. It may be busy with another cell; if it is not, run this cell again."), SILENCE),
    ];
    schedule();
  }

  function receive(message) {
    if (message.id !== run.id) return; // of an older request, or another view
    run.heard = true;
    if (message.type === "start") run.start = message;
    else if (message.type === "progress") run.progress = message;
    else if (message.type === "snapshots") run.snapshots.push(...message.snapshots);
    else Object.assign(run, { state: message.type, stoppedAt: message.step, message: message.message, took: performance.now() - run.sent });
    if (run.state !== "running" && dirty) send();
    schedule();
  }

  function schedule() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      report();
      if (run.snapshots.length && (run.state !== "running" || performance.now() - run.sent >= PATIENCE)) shown = run;
      if (shown) draw();
      if (run.state !== "running" && !dirty) el.dataset.settled = run.state;
    });
  }

  function report() {
    const { state, snapshots, progress } = run, last = snapshots.at(-1)?.step ?? 0, asked = run.settings?.steps;
    const running = state === "running";
    bar.hidden = !running;
    if (running && progress?.phase === "start" && !snapshots.length) bar.removeAttribute("value");
    else bar.value = Math.max(last, progress?.step ?? 0);
    bar.max = Math.max(1, asked ?? 1);
    const stopped = state === "cancelled" || state === "error";
    button.textContent = stopped ? "Run" : "Stop";
    button.disabled = !(running || stopped);
    el.setAttribute("aria-busy", running);
    charts.classList.toggle("stale", state === "error");
    const sizes = run.start && `n = ${run.start.config.n}, d = ${run.start.config.d}, h = ${run.start.config.h}`;
    if (running && !run.heard) status.textContent || say("waiting", "Waiting for the kernel.");
    else if (running && performance.now() - run.sent >= PATIENCE)
      say(state, snapshots.length ? `Training at ${sizes}: ${asked} steps.` : `Preparing data and first measures at ${sizes}.`);
    else if (state === "done") say(state, `${asked} step${asked === 1 ? "" : "s"} done in ${format(run.took / 1000, 2)} s (${sizes}).`);
    else if (state === "cancelled") say(state, `Stopped after step ${last} of ${asked}. Run goes on from there.`);
    else if (state === "diverged")
      say(state, `Diverged: at step ${run.stoppedAt} a number stopped being finite. ${snapshots.length ? `What was measured up to step ${last} is shown.` : "Nothing could be measured."}`);
    else if (state === "error") say(state, `These settings do not run: ${run.message}.`);
  }

  function draw() {
    const width = Math.floor(charts.firstChild.clientWidth) - 2;
    const picture = [shown.id, shown.state, shown.snapshots.length, width, view.counts].join();
    if (width < 100 || picture === drawn) return; // not laid out, as in a hidden tab, or nothing new
    drawn = picture;
    const height = 268, left = 58, right = width - 14;
    const boxes = [[8, height - 42], [8, 106], [128, height - 42]].map(([top, bottom]) => ({ left, right, top, bottom }));
    for (const panel of panels) {
      panel.svg.replaceChildren();
      panel.svg.setAttribute("width", width);
      panel.svg.setAttribute("height", height);
      panel.svg.setAttribute("aria-label", panel.draw(panel.svg, boxes, shown, view));
    }
    const [first, last] = [shown.snapshots[0], shown.snapshots.at(-1)];
    panels[0].heading.textContent = `Spectrum after step ${last.step}`;
    rows.replaceChildren(...[first, ...(last === first ? [] : [last])].map(({ step, metrics }) =>
      make("tr", {}, make("th", { scope: "row" }, String(step)), ...READOUT.map(([key]) => make("td", { "data-metric": key }, format(metrics[key]))))));
    const { activation } = shown.start.config, share = last.saturation;
    notice.hidden = !(share > SATURATED);
    if (!notice.hidden)
      notice.textContent = `Saturated: ${Math.floor(100 * share)} % of the hidden activations are within 1 % of ±1 after step ${last.step}. ` +
        `${activation} cannot overflow, but its slope is nearly zero there: little gradient is left.`;
  }

  const silence = engine.onMessage(receive);
  const observer = new ResizeObserver(schedule);
  observer.observe(charts);
  send();
  return () => {
    silence();
    observer.disconnect();
    timers.forEach(clearTimeout);
    cancelAnimationFrame(frame);
    if (run.state === "running") engine.cancel(run.id);
  };
}

export default {
  render: ({ model, el }) => createExplorer(el, model.get("options"), kernelEngine(model)),
};
