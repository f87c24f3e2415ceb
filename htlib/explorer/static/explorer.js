// The explorer's front end: controls, linked charts, and an engine that computes the results.
//
// An engine has request(settings, train) -> id, cancel(id) and onMessage(callback) -> function that stops the calls.
// htlib/explorer/messages.py describes the messages.  The engine of a page without a kernel (live/src/engine.ts) answers
// from stored runs unless `train` is set; a kernel always trains.  No dependencies, no network.

import { format, make, sample } from "./marks.js";
import { familyOf, instability, PANELS, READOUT } from "./panels.js";

const PATIENCE = 300; // ms that a run has to finish before a newer run, or a part of this one, is shown
const SILENCE = 4000; // ms without an answer before the page says so
const SILENT = {
  kernel: "No answer from the kernel yet. It may be busy with another cell; if it is not, run this cell again.",
  page: "No answer yet: the stored runs, or the engine that trains, are still on their way.",
};
const SATURATED = 0.9;
const RATES = { from: -3, to: 6, step: 0.05 }; // log10 of the learning rate
const PACE = 450; // ms from one step to the next while the run is played
const KEPT = 300; // runs of this reader that the map of rates remembers

// Their rates are rates of the stored runs.
const PRESETS = [
  ["bulk", { optimizer: "adam", lr: 0.01, steps: 1, labels: "real" }],
  ["bulk + spike", { optimizer: "adam", lr: 0.316, steps: 1, labels: "real" }],
  ["heavy tail", { optimizer: "adam", lr: 1, steps: 10, labels: "real" }],
  ["saturates", { optimizer: "adam", lr: 316, steps: 10, labels: "real" }],
  ["shuffled labels: same tail", { optimizer: "adam", lr: 1, steps: 10, labels: "shuffled" }],
];
const EVERY_PRESET = { teacher: "softplus", noise_std: 0.3, feature_scale: "paper", seed: 0 };

const WORDS = {
  softplus: "softplus", relu: "relu", identity: "identity (linear)",
  hermite2: "Hermite 2 (even)", hermite3: "Hermite 3 (odd)",
  real: "real", shuffled: "shuffled", noise: "pure noise", centred: "real, centred",
  paper: "paper: W x / √d", "released-code": "released code: W x / d",
};

export function kernelEngine(model) {
  // Views of one model receive each other's answers.  The thousands of an id are the view, and random.
  const view = Math.floor(Math.random() * 1e9) * 1000;
  let count = 0;
  return {
    request(settings) {
      count += 1;
      const id = view + (count % 1000);
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

// The view ------------------------------------------------------------------------------------------

// Options: `settings` are the initial settings and `home` those of Reset; `names` has the names of choices; with `stored`
// the engine has stored runs, and with `train` it begins by training.  `hooks.changed(settings, train)` is called after the
// reader's changes.  Returns a function that removes the view.
export function createExplorer(el, options, engine, hooks = {}) {
  const settings = { ...options.settings };
  let training = !options.stored || options.train === true; // else answers come from stored runs
  let run = { id: null, state: "none", snapshots: [] }; // the newest request
  let shown = null; // the run in the picture
  let drawn = "", dirty = false, frame = 0, timers = [], player = 0, target = null;
  const view = { counts: "log", visited: [] };

  // Controls
  const select = (name, title, help) => {
    const input = make("select", { name, title: help ?? "" });
    for (const value of options.choices[name])
      input.append(make("option", { value }, options.names[value] ?? WORDS[value] ?? String(value)));
    const read = typeof options.choices[name][0] === "number" ? Number : String;
    input.addEventListener("change", () => change({ [name]: read(input.value) }));
    const label = make("label", {}, make("span", {}, title), input);
    return make("div", { class: name }, label, ...(help ? [make("small", { "aria-hidden": "true" }, help)] : []));
  };
  const range = (attributes) => make("input", { type: "range", ...attributes });
  const slider = range({ name: "lr", min: RATES.from, max: RATES.to, step: RATES.step });
  const typed = make("input", { type: "number", name: "lr-value", min: 0, step: "any", "aria-label": "learning rate, typed" });
  const unstable = make("small", { class: "unstable" });
  const steps = range({ name: "steps", min: 0, max: options.max_steps, step: 1 });
  const count = make("output", {});
  const seed = make("input", { type: "number", name: "seed", min: 0, step: 1 });
  slider.addEventListener("input", () => change({ lr: Number((10 ** slider.valueAsNumber).toPrecision(2)) }));
  typed.addEventListener("change", () => {
    if (Number.isNaN(typed.valueAsNumber)) return refuse("the learning rate must be a number, such as 0.1 or 2e3");
    change({ lr: typed.valueAsNumber });
  });
  steps.addEventListener("input", () => change({ steps: steps.valueAsNumber }));
  seed.addEventListener("change", () => {
    if (!Number.isInteger(seed.valueAsNumber)) return refuse("the seed must be a whole number, such as 0 or 17");
    change({ seed: seed.valueAsNumber });
  });
  const log = make("input", { type: "checkbox", name: "log-counts", checked: "" });
  log.addEventListener("change", () => {
    view.counts = log.checked ? "log" : "linear";
    schedule();
  });
  const press = (text, action, attributes = {}) => {
    const button = make("button", { type: "button", ...attributes }, text);
    button.addEventListener("click", action);
    return button;
  };
  const button = press("Stop", () => {
    hold();
    if (run.state === "running") return engine.cancel(run.id);
    place(); // replaces a refused value by the setting
    send();
  });
  const here = press("Train here", () => {
    training = !training;
    change({});
  }, { class: "source" });
  const play = press("Play", () => (player ? hold() : begin()), { class: "play" });
  const step = press("Step", () => change({ steps: Math.min(settings.steps + 1, options.max_steps) }));
  const reset = press("Reset", () => {
    training = !options.stored;
    change(options.home ?? options.settings);
  });
  const presets = PRESETS.map(([name, fields]) => press(name, () => change({ ...EVERY_PRESET, ...fields }), { "aria-pressed": "false" }));
  const controls = make("form", { class: "controls", "aria-label": "settings of the experiment" },
    make("div", { class: "presets", role: "group", "aria-label": "presets" }, ...presets),
    select("optimizer", "Optimizer"),
    make("div", { class: "wide" }, make("label", {}, make("span", {}, "Learning rate η (log)"), slider), typed, unstable),
    make("div", { class: "wide" }, make("label", {}, make("span", {}, "Steps"), steps), count),
    select("teacher", "Teacher"),
    select("labels", "Training labels"),
    select("noise_std", "Label noise σ"),
    make("div", { class: "seed" }, make("label", {}, make("span", {}, "Seed"), seed)),
    select("feature_scale", "Feature scale", "Of the ridge refit: paper W x / √d, released code W x / d. Training and spectrum do not change."),
  );
  // Show the present settings in all controls.
  const place = (playing = false) => {
    for (const name of Object.keys(options.choices)) controls.elements[name].value = settings[name];
    if (!playing) { // else a reader may be typing
      const plain = String(settings.lr), short = settings.lr.toExponential().replace("+", "");
      typed.value = short.length < plain.length ? short : plain;
      seed.value = settings.seed;
    }
    slider.value = settings.lr > 0 ? Math.log10(settings.lr) : RATES.from;
    slider.setAttribute("aria-valuetext", format(settings.lr));
    steps.value = settings.steps;
    count.textContent = settings.steps;
    here.textContent = training ? "Stored runs" : "Train here";
    presets.forEach((button, i) => button.setAttribute("aria-pressed",
      Object.entries({ ...EVERY_PRESET, ...PRESETS[i][1] }).every(([name, value]) => settings[name] === value)));
  };
  controls.addEventListener("submit", (event) => event.preventDefault());

  // Status
  const status = make("p", { class: "status", "aria-live": "polite" });
  const notice = make("p", { class: "notice", "aria-live": "polite", hidden: "" });
  const bar = make("progress", { "aria-label": "progress", value: 0, max: 1 });
  const bench = make("div", { class: "bench" },
    make("div", { class: "buttons", role: "group", "aria-label": "run" }, play, step, reset, ...(options.stored ? [here] : []), button), status, bar);
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
    const conditional = panel.legend.flatMap(({ when }, i) => (when ? [[key[i], when]] : []));
    const figure = make("figure", { class: panel.name }, make("figcaption", {}, make("div", {}, title, ...toggle), make("div", { class: "key" }, ...key)), svg);
    return { ...panel, svg, figure, heading: title, conditional };
  });
  const charts = make("div", { class: "charts" }, ...panels.map(({ figure }) => figure));
  const rows = make("tbody");
  const table = make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "step"), ...READOUT.map(([, name]) => make("th", { scope: "col" }, name)))), rows);
  el.classList.add("htlib-explorer");
  el.append(controls, bench, notice, charts, table);
  // Arrow keys move our sliders, not JupyterLab's cells.
  for (const input of el.querySelectorAll("input, select, button")) input.dataset.lmSuppressShortcuts = "true";

  // A change by the reader ends the play; a change by the player does not.
  function change(update, playing = false) {
    if (!playing) {
      if (player && !("steps" in update)) settings.steps = target; // show another run with all its steps
      pause();
    }
    Object.assign(settings, update);
    place(playing);
    if (!playing) hooks.changed?.({ ...settings }, training);
    delete el.dataset.settled;
    // Let a run finish that is nearly done, so that every picture is complete while a slider moves.
    if (run.state === "running" && performance.now() - run.sent < PATIENCE) dirty = true;
    else send();
  }

  // Playing starts at step 0 and goes step by step to the number of steps that was set.
  function begin() {
    target = Math.max(1, settings.steps);
    const advance = () => {
      if (settings.steps >= target) return pause();
      // the next step waits for the picture of this one
      if (el.dataset.settled) change({ steps: settings.steps + 1 }, true);
      player = setTimeout(advance, PACE);
    };
    player = setTimeout(advance, PACE);
    play.textContent = "Pause";
    change({ steps: 0 }, true);
  }

  function pause() {
    clearTimeout(player);
    player = 0;
    play.textContent = "Play";
  }

  // The reader ends the play; the step that is shown becomes the setting.
  function hold() {
    if (!player) return;
    pause();
    hooks.changed?.({ ...settings }, training);
  }

  function refuse(message) {
    hold();
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
    run = { state: "running", settings: { ...settings }, span: player ? target : settings.steps, snapshots: [], sent: performance.now(), heard: false };
    run.id = engine.request(run.settings, training);
    timers = [
      setTimeout(() => (dirty ? send() : schedule()), PATIENCE),
      setTimeout(() => run.heard || say("waiting", options.stored ? SILENT.page : SILENT.kernel), SILENCE),
    ];
    schedule();
  }

  function receive(message) {
    if (message.id !== run.id) return; // from an older request or another view
    run.heard = true;
    if (message.type === "start") run.start = message;
    else if (message.type === "progress") run.progress = message;
    else if (message.type === "snapshots") run.snapshots.push(...message.snapshots);
    else Object.assign(run, { state: message.type, stoppedAt: message.step, message: message.message, took: performance.now() - run.sent });
    if (run.state === "done") remember();
    if (run.state !== "running" && dirty) send();
    schedule();
  }

  function remember() {
    if (run.start.source === "stored") return; // the map has all stored runs
    const { lr } = run.start.config, { spectral_norm: norm } = run.snapshots.at(-1).metrics;
    const visit = { family: familyOf(run.start), steps: run.settings.steps, lr, norm }, known = JSON.stringify(visit);
    view.visited = [...view.visited.filter((v) => JSON.stringify(v) !== known), visit].slice(-KEPT);
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
    if (running && progress && progress.phase !== "train" && !snapshots.length) bar.removeAttribute("value");
    else bar.value = Math.max(last, progress?.step ?? 0);
    bar.max = Math.max(1, asked ?? 1);
    const stopped = state === "cancelled" || state === "error";
    button.textContent = stopped ? "Run" : "Stop";
    button.disabled = !(running || stopped);
    step.disabled = settings.steps >= options.max_steps;
    el.setAttribute("aria-busy", running);
    for (const part of [charts, table]) part.classList.toggle("stale", state === "error" || state === "absent");
    const sizes = run.start && `n = ${run.start.config.n}, d = ${run.start.config.d}, h = ${run.start.config.h}`;
    if (running && !run.heard) status.textContent || say("waiting", options.stored ? "Reading the stored runs." : "Waiting for the kernel.");
    else if (running && progress?.phase === "load") say(state, "Loading the engine: once, 4 MB.");
    else if (running && performance.now() - run.sent >= PATIENCE)
      say(state, snapshots.length ? `Training at ${sizes}: ${asked} steps.` : `Preparing data and first measures at ${sizes}.`);
    else if (state === "done") say(state, run.start.note ?? `${asked} step${asked === 1 ? "" : "s"} done in ${format(run.took / 1000, 2)} s (${sizes}).`);
    else if (state === "absent") say(state, `${run.message} Train here computes it.`);
    else if (state === "cancelled") say(state, `Stopped after step ${last} of ${asked}. Run goes on from there.`);
    else if (state === "diverged")
      say(state, `Diverged: at step ${run.stoppedAt} a number stopped being finite. ${snapshots.length ? `What was measured up to step ${last} is shown.` : "Nothing could be measured."}`);
    else if (state === "error") say(state, `This does not run: ${run.message}.`);
  }

  function draw() {
    const width = Math.floor(charts.firstChild.clientWidth) - 2;
    const picture = [shown.id, shown.state, shown.snapshots.length, width, view.counts, view.visited.length].join();
    if (width < 100 || picture === drawn) return; // the page is not laid out, as in a hidden tab, or nothing has changed
    drawn = picture;
    const height = 268, left = 58, right = width - 14;
    const boxes = [[8, height - 42], [8, 106], [128, height - 42]].map(([top, bottom]) => ({ left, right, top, bottom }));
    for (const panel of panels) {
      panel.svg.replaceChildren();
      panel.svg.setAttribute("width", width);
      panel.svg.setAttribute("height", height);
      panel.svg.setAttribute("aria-label", panel.draw(panel.svg, boxes, shown, view));
      for (const [item, when] of panel.conditional) item.hidden = !when(shown);
    }
    unstable.textContent = instability(shown);
    const [first, last] = [shown.snapshots[0], shown.snapshots.at(-1)];
    panels[0].heading.textContent = `Spectrum after step ${last.step}`;
    const row = (name, cell, attributes = {}) =>
      make("tr", attributes, make("th", { scope: "row" }, name), ...READOUT.map(([key]) => cell(key)));
    rows.replaceChildren(...[first, ...(last === first ? [] : [last])].map(({ step, metrics }) =>
      row(String(step), (key) => make("td", { "data-metric": key }, format(metrics[key])))));
    if (last.spread)
      rows.append(row("seeds", (key) => make("td", { "data-spread": key }, last.spread[key].map((v) => format(v, 3)).join(" – ")), { class: "spread" }));
    const { activation } = shown.start.config, share = last.saturation;
    notice.hidden = !(share > SATURATED);
    if (!notice.hidden)
      notice.textContent = `Saturated: ${Math.floor(100 * share)} % of the hidden activations are within 1 % of their bound after step ${last.step}. ` +
        `${activation} cannot overflow, but its slope is nearly zero there: little gradient is left.`;
  }

  const silence = engine.onMessage(receive);
  const observer = new ResizeObserver(schedule);
  observer.observe(charts);
  place();
  send();
  if (options.play) begin();
  return () => {
    pause();
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
