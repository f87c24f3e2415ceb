// The explorer's front end: one large picture that its rails move, small ones beside it, and an engine that computes.
//
// An engine has request(settings, train) -> id, cancel(id) and onMessage(callback) -> function that stops the calls.
// htlib/explorer/messages.py describes the messages.  The engine of a page without a kernel (live/src/engine.ts) answers
// from stored runs unless `train` is set; a kernel always trains.  No dependencies, no network.

import { enable, press, rateRail, segments, select, wordFor } from "./controls.js";
import { format, make, sample } from "./marks.js";
import { kernelEngine } from "./kernel.js";
import { familyOf, instability, PANELS } from "./panels.js";
import { columns, saturation, sentence, tableRows } from "./readout.js";
import { exportMenu } from "./share.js";
import { createTour, settingsOf } from "./tour.js";

const PATIENCE = 300; // ms that a run has to finish before a newer run, or a part of this one, is shown
const SILENCE = 4000; // ms without an answer before the page says so
const SILENT = {
  kernel: "No answer from the kernel yet. It may be busy with another cell; if it is not, run this cell again.",
  page: "No answer yet: the stored runs, or the engine that trains, are still on their way.",
};
const PIN = "Pin as A";
const PACE = 450; // ms from one step to the next while the run is played
const KEPT = 300; // runs of this reader that the map of rates remembers
const SMALL = { width: 120, height: 52 }; // of a small picture, which the page stretches

// Their rates are rates of the stored runs.
const PRESETS = [
  ["bulk", { optimizer: "adam", lr: 0.01, steps: 1, labels: "real" }],
  ["bulk + spike", { optimizer: "adam", lr: 0.316, steps: 1, labels: "real" }],
  ["heavy tail", { optimizer: "adam", lr: 1, steps: 10, labels: "real" }],
  ["saturates", { optimizer: "adam", lr: 316, steps: 10, labels: "real" }],
  ["shuffled labels: same tail", { optimizer: "adam", lr: 1, steps: 10, labels: "shuffled" }],
];

// The view ------------------------------------------------------------------------------------------

// Options: `settings` are the initial settings and `home` those of Reset; `names` has the names of choices and `defaults`
// the fields of htlib's ExperimentConfig; with `stored` the engine has stored runs, and with `train` it begins by training;
// `panel` is the name of the large picture and `pinned` the settings of A.  `hooks.changed(state)` is called after the
// reader's changes with {settings, train, panel, pinned}.  Returns `show(state)`, which restores one, `tour()`, and
// `leave()`, which removes the view.
/**
 * @import { Engine, Options, State } from "../../../live/src/protocol"
 * @param {HTMLElement} el
 * @param {Options & Omit<State, "train"> & { home: State["settings"], stored: boolean, train: boolean, play: boolean, tour: boolean }} options
 * @param {Engine} engine
 * @param {{ changed?: (state: State) => void }} hooks
 * @returns {{ show: (state: State) => void, tour: () => void, leave: () => void }}
 */
export function createExplorer(el, options, engine, hooks = {}) {
  const settings = { ...options.settings };
  let training = !options.stored || options.train === true; // else answers come from stored runs
  let run = { id: null, state: "none", snapshots: [] }; // the newest request
  let shown = null; // the run in the picture
  let told = {}; // the run and the words of the last settled picture, for screen readers
  let ahead = options.pinned ?? null; // settings whose run is requested first, and becomes A
  let drawn = "", dirty = false, frame = 0, timers = [], player = 0, target = null, awaited = null;
  let reach = Math.max(1, settings.steps); // the last step of the charts along steps
  const view = { counts: "log", visited: [], panel: options.panel ?? PANELS[0].name, pinned: null };

  // Controls
  const { choices, names } = options;
  const rail = rateRail(change, refuse);
  const steps = make("input", { type: "range", name: "steps", min: 0, max: options.max_steps, step: 1, "aria-label": "Steps" });
  const count = make("output", { "aria-hidden": "true" }); // the rail has its value
  const seed = make("input", { type: "number", name: "seed", min: 0, step: 1 });
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
  const button = press("Stop", () => {
    hold();
    if (run.state === "running") return engine.cancel(run.id);
    place(); // replaces a refused value by the setting
    send();
  }, { class: "stop" });
  const here = press("Train here", () => {
    training = !training;
    change({});
  }, { class: "source" });
  const play = press("Play", () => (player ? hold() : begin()), { class: "play" });
  const step = press("Step", () => change({ steps: Math.min(settings.steps + 1, options.max_steps) }));
  const reset = press("Reset", () => {
    training = !options.stored;
    view.pinned = ahead = null;
    change(options.home ?? options.settings);
  });
  const pin = press(PIN, () => {
    view.pinned = view.pinned ? null : shown;
    changed();
    schedule();
  }, { class: "pin" });
  const presets = PRESETS.map(([name, fields]) => press(name, () => change(settingsOf(fields)), { "aria-pressed": "false" }));
  const guide = press("Take the two-minute tour", () => tour.begin(), { class: "guide" });
  const tour = createTour(go, () => {
    pause();
    awaited = null;
    changed();
    guide.focus();
  });

  // The large picture, its rails, and the small pictures
  const stage = make("svg", { role: "img", "aria-label": "" });
  const heading = make("strong"), badge = make("span", { class: "badge" }), key = make("div", { class: "key" });
  const figure = make("figure", { class: "stage" },
    make("figcaption", {}, make("div", {}, heading, badge, pin), key), make("div", { class: "picture" }, stage), rail.row,
    make("div", { class: "rail steps" }, play, step, make("span", {}, "Steps"), steps, count));
  const thumbs = PANELS.map((panel) => {
    const { width, height } = SMALL;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", preserveAspectRatio: panel.name === "overlaps" ? "xMidYMid" : "none" });
    const value = make("span", { class: "value" });
    const shows = press("", () => enlarge(panel.name), { class: `thumb ${panel.name}`, title: panel.title });
    shows.append(svg, make("span", {}, panel.short), " ", value);
    return { panel, svg, value, shows };
  });
  stage.addEventListener("pointerdown", drag);

  const more = make("details", { class: "more" }, make("summary", {}, "More"),
    make("div", {},
      select("teacher", "Teacher", choices.teacher, names, change),
      select("noise_std", "Label noise σ", choices.noise_std, names, change),
      make("div", { class: "seed" }, make("label", {}, make("span", {}, "Seed"), seed)),
      select("feature_scale", "Feature scale", choices.feature_scale, names, change,
        "Of the ridge refit: paper W x / √d, released code W x / d. Training and spectrum do not change."),
      make("label", { class: "toggle" }, log, "log counts"), reset));
  const status = make("p", { class: "status", "aria-live": "polite" });
  const notice = make("p", { class: "notice", "aria-live": "polite", hidden: "" });
  const heard = make("p", { class: "heard", role: "status" }); // what a change has done to the picture, for screen readers
  const bar = make("progress", { "aria-label": "progress", value: 0, max: 1 });
  const share = exportMenu(current, { defaults: options.defaults, linked: Boolean(hooks.changed), root: el });
  const charts = make("div", { class: "charts" }, figure,
    make("div", { class: "thumbs", role: "group", "aria-label": "picture to enlarge" }, ...thumbs.map(({ shows }) => shows)));
  const controls = make("form", { class: "controls", "aria-label": "settings of the experiment" },
    make("div", { class: "invitation" }, guide, make("span", {}, "or drag the rate under the picture; the small pictures enlarge")),
    make("div", { class: "presets", role: "group", "aria-label": "presets" }, ...presets),
    charts,
    make("div", { class: "toolbar" },
      segments("optimizer", "Optimizer", choices.optimizer, names, change),
      segments("labels", "Training labels", choices.labels, names, change),
      ...(options.stored ? [here] : []), share.menu, more),
    make("div", { class: "bench" }, bar, status, button));
  controls.addEventListener("submit", (event) => event.preventDefault());
  const rows = make("tbody");
  const table = make("table", { "aria-label": "first and last step of the run" }, make("thead", {}, columns()), rows);
  el.classList.add("htlib-explorer");
  el.append(tour.card, controls, notice, heard, table);
  el.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tour.end();
  });
  // Arrow keys move our sliders, not JupyterLab's cells.
  for (const input of el.querySelectorAll("input, select, button, summary")) input.dataset.lmSuppressShortcuts = "true";

  // Show the present settings in all controls.
  function place(playing = false) {
    for (const name of Object.keys(choices)) controls.elements[name].value = settings[name];
    if (!playing) { // else a reader may be typing
      rail.write(settings.lr);
      seed.value = settings.seed;
    }
    rail.set(settings);
    steps.value = settings.steps;
    count.textContent = settings.steps;
    here.textContent = training ? "Stored runs" : "Train here";
    presets.forEach((button, i) => button.setAttribute("aria-pressed",
      Object.entries(settingsOf(PRESETS[i][1])).every(([name, value]) => settings[name] === value)));
  }

  const say = (state, text) => {
    status.dataset.state = state;
    if (status.textContent !== text) status.textContent = text;
  };

  function changed() {
    if (tour.running()) return; // its end is one change
    hooks.changed?.({ settings: { ...settings }, train: training, panel: view.panel, pinned: view.pinned?.settings ?? ahead });
  }

  // A change by the reader ends the play; a change by the player does not.
  function change(update, playing = false) {
    if (!playing) {
      if (player && !("steps" in update)) settings.steps = target; // show another run with all its steps
      pause();
      awaited?.(null);
      awaited = null;
    }
    Object.assign(settings, update);
    const scrubbed = "steps" in update && Object.keys(update).length === 1;
    reach = Math.max(1, settings.steps, scrubbed ? reach : 0);
    place(playing);
    if (!playing) changed();
    delete el.dataset.settled;
    // Let a run finish that is nearly done, so that every picture is complete while a slider moves.
    if (run.state === "running" && performance.now() - run.sent < PATIENCE) dirty = true;
    else send();
  }

  function show(state) {
    tour.end();
    pause();
    training = !options.stored || state.train;
    view.panel = state.panel;
    if (JSON.stringify(state.pinned) !== JSON.stringify(view.pinned?.settings ?? null)) {
      view.pinned = null;
      ahead = state.pinned;
    }
    Object.assign(settings, state.settings);
    reach = Math.max(1, settings.steps);
    place();
    changed();
    send();
  }

  function enlarge(name) {
    view.panel = name;
    changed();
    schedule();
  }

  // A place in a chart is a step or a rate; on the spectrum, a way to the right is a larger rate.
  function drag(event) {
    if (!shown || event.button) return;
    const from = settings.lr, start = event.clientX;
    const follow = ({ clientX }) => {
      const update = stage.pick?.(clientX - stage.getBoundingClientRect().left) ?? { lr: rail.moved(from, clientX - start) };
      if (Object.entries(update).some(([name, value]) => settings[name] !== value)) change(update);
    };
    stage.setPointerCapture(event.pointerId);
    if (stage.pick) follow(event);
    stage.onpointermove = follow;
    stage.onpointerup = stage.onpointercancel = () => (stage.onpointermove = null);
  }

  // Playing starts at step 0 and goes step by step to the number of steps that was set.
  function begin() {
    target = reach = Math.max(1, settings.steps);
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
    if (player) schedule(); // who waits for the whole run hears of its end
    player = 0;
    play.textContent = "Play";
  }

  // The reader ends the play; the step that is shown becomes the setting.
  function hold() {
    if (!player) return;
    pause();
    changed();
  }

  // Show a step of the tour.
  function go({ settings: fields, panel, pinned, play: plays }) {
    training = !options.stored;
    view.panel = panel;
    view.pinned = null;
    ahead = pinned ? settingsOf(fields, pinned) : null;
    change(settingsOf(fields));
    if (plays && !matchMedia("(prefers-reduced-motion: reduce)").matches) begin();
    return new Promise((resolve) => (awaited = resolve));
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
    const wanted = { ...(ahead ?? settings) };
    run = { state: "running", settings: wanted, ahead, span: reach, snapshots: [], sent: performance.now(), heard: false };
    run.id = engine.request(wanted, training);
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
    if (run.ahead && run.state !== "running" && run.state !== "cancelled") {
      if (ahead === run.ahead) { // else another A is wanted by now
        ahead = null;
        view.pinned = run.snapshots.length ? run : null;
      }
      send();
    } else if (run.state !== "running" && dirty) send();
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
      const ready = run.snapshots.length && !run.ahead;
      if (ready && (run.state !== "running" || performance.now() - run.sent >= PATIENCE)) shown = run;
      if (shown) draw();
      if (run.state === "running" || dirty) return;
      el.dataset.settled = run.state;
      if (player) return;
      const words = stage.getAttribute("aria-label");
      if (shown === run && (run !== told.run || words !== told.words)) { // else nothing has changed
        if (el.contains(el.getRootNode().activeElement)) heard.textContent = words;
        told = { run, words };
      }
      if (!awaited) return;
      awaited({ run: shown === run ? run : null, pinned: view.pinned });
      awaited = null;
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
    enable(button, running || stopped);
    enable(step, settings.steps < options.max_steps);
    enable(pin, Boolean(view.pinned ?? shown));
    pin.classList.toggle("on", Boolean(view.pinned));
    pin.textContent = view.pinned ? "Remove A" : PIN;
    pin.title = view.pinned ? "Compare with this run no longer" : "Keep this run in grey, and compare the next ones with it";
    el.setAttribute("aria-busy", running);
    for (const part of [charts, table]) part.classList.toggle("stale", state === "error" || state === "absent");
    if (running && !run.heard) status.textContent || say("waiting", options.stored ? "Reading the stored runs." : "Waiting for the kernel.");
    else {
      const words = sentence(run, performance.now() - run.sent >= PATIENCE);
      if (words) say(state, words);
    }
  }

  function draw() {
    const width = Math.floor(stage.parentElement.clientWidth);
    rail.draw(shown.start.prediction, shown.start.config.optimizer === "gd" ? "unstable" : "overshoots", view.pinned?.start.config.lr);
    const picture = [shown.id, shown.state, shown.snapshots.length, width, view.counts, view.visited.length, view.panel, view.pinned?.id].join();
    if (width < 100 || picture === drawn) return; // the page is not laid out, as in a hidden tab, or nothing has changed
    if (!drawn.startsWith(`${shown.id},`)) share.forget();
    drawn = picture;
    const height = Math.round(Math.min(400, Math.max(220, 0.62 * width)));
    const panel = PANELS.find(({ name }) => name === view.panel) ?? PANELS[0];
    stage.replaceChildren();
    stage.setAttribute("width", width);
    stage.setAttribute("height", height);
    stage.pick = null;
    const last = shown.snapshots.at(-1);
    stage.setAttribute("aria-label", panel.draw(stage, boxes(width, height, [58, 14, 8, 42], 18), shown, view));
    figure.dataset.panel = panel.name;
    el.dataset.optimizer = shown.start.config.optimizer; // its colour
    heading.textContent = panel.name === "esd" ? `Spectrum after step ${last.step}` : panel.title;
    key.replaceChildren(...panel.legend.filter(({ when }) => !when || when(shown, view)).map((item) => make("span", {}, sample(item), item.name)));
    for (const { panel: other, svg, value, shows } of thumbs) {
      svg.replaceChildren();
      shows.setAttribute("aria-description", other.draw(svg, boxes(SMALL.width, SMALL.height, [2, 2, 3, 3], 4, true), shown, view));
      shows.setAttribute("aria-pressed", String(other === panel));
      value.textContent = other.value(last);
    }
    rail.note.textContent = instability(shown);
    rows.replaceChildren(...tableRows(shown, view.pinned, names));
    notice.textContent = saturation(shown);
    badge.hidden = notice.hidden = !notice.textContent;
    badge.textContent = "saturated";
  }

  // The whole box of a chart, and its upper and lower half.
  function boxes(width, height, [left, right, top, bottom], gap, small = false) {
    const [end, middle] = [height - bottom, (top + height - bottom) / 2];
    return [[top, end], [top, middle - gap / 2], [middle + gap / 2, end]].map(([from, to]) => ({ left, right: width - right, top: from, bottom: to, small }));
  }

  // What the export takes: the run in the picture, its chart, and their names.
  function current() {
    if (!shown) return null;
    const { optimizer, lr, labels, seed } = shown.start.config, { step: last } = shown.snapshots.at(-1);
    const setting = `${names[optimizer] ?? optimizer}, rate ${format(lr)}, step ${last}, ${wordFor(labels)} labels, seed ${seed}`;
    return { run: shown, svg: stage, title: heading.textContent, setting, file: `${optimizer}-rate${lr}-step${last}-${labels}-seed${seed}` };
  }

  const silence = engine.onMessage(receive);
  const observer = new ResizeObserver(schedule);
  observer.observe(charts);
  place();
  send();
  if (options.tour) void tour.begin();
  else if (options.play) begin();
  const leave = () => {
    pause();
    silence();
    observer.disconnect();
    timers.forEach(clearTimeout);
    cancelAnimationFrame(frame);
    if (run.state === "running") engine.cancel(run.id);
  };
  return { show, tour: () => tour.begin(), leave };
}

export default {
  render: ({ model, el }) => createExplorer(el, model.get("options"), kernelEngine(model)).leave,
};
