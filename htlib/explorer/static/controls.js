// The explorer's controls: buttons, segments, menus, and the rail on which the rate moves under the spectrum.

import { format, GREY, GREEN, logScale, make, BROWN } from "./marks.js";

const RATE_STEP = 0.05; // of the decimal logarithm
const RATES = { gd: [0, 6], other: [-3, 3] }; // decades of the rail; it grows to hold a rate that is set elsewhere
const THUMB = 20; // pixels, as in explorer.css
const RAIL_HEIGHT = 50;
const LETTER = 6; // pixels, about

const WORDS = {
  softplus: "softplus", relu: "relu", identity: "identity (linear)",
  hermite2: "Hermite 2 (even)", hermite3: "Hermite 3 (odd)",
  real: "real", shuffled: "shuffled", noise: "noise", centred: "centred",
  paper: "paper: W x / √d", "released-code": "released code: W x / d",
};

export const wordFor = (value, names = {}) => names[value] ?? WORDS[value] ?? String(value);

// A button that cannot be used keeps the focus: a disabled one would lose it.
export function press(text, action, attributes = {}) {
  const button = make("button", { type: "button", ...attributes }, text);
  button.addEventListener("click", () => isEnabled(button) && action());
  return button;
}
const isEnabled = (button) => button.getAttribute("aria-disabled") !== "true";
export const enable = (button, enabled) => button.setAttribute("aria-disabled", String(!enabled));

export function select(name, title, values, names, change, help) {
  const input = make("select", { name, title: help ?? "" });
  for (const value of values) input.append(make("option", { value }, wordFor(value, names)));
  const read = typeof values[0] === "number" ? Number : String;
  input.addEventListener("change", () => change({ [name]: read(input.value) }));
  const label = make("label", {}, make("span", {}, title), input);
  return make("div", { class: name }, label, ...(help ? [make("small", { "aria-hidden": "true" }, help)] : []));
}

export function segments(name, title, values, names, change) {
  const choice = (value) => {
    const input = make("input", { type: "radio", name, value });
    input.addEventListener("change", () => change({ [name]: value }));
    return make("label", {}, input, make("span", {}, wordFor(value, names)));
  };
  return make("div", { class: "segments", role: "radiogroup", "aria-label": title }, ...values.map(choice));
}

// The rail of learning rates, with the rates at which something happens in the first step.
export function rateRail(change, refuse) {
  const input = make("input", { type: "range", name: "lr", step: RATE_STEP, "aria-label": "Learning rate η" });
  const typed = make("input", { type: "number", name: "lr-value", min: 0, step: "any", "aria-label": "learning rate, typed" });
  const zones = make("svg", { class: "zones", "aria-hidden": "true", height: RAIL_HEIGHT });
  const note = make("small", { class: "unstable" });
  const snapped = (exponent) => Number((10 ** exponent).toPrecision(2));
  input.addEventListener("input", () => change({ lr: snapped(input.valueAsNumber) }));
  typed.addEventListener("change", () => {
    if (Number.isNaN(typed.valueAsNumber)) return refuse("the learning rate must be a number, such as 0.1 or 2e3");
    change({ lr: typed.valueAsNumber });
  });
  const row = make("div", { class: "rail rate" },
    make("div", { class: "head" }, make("span", {}, "Learning rate η"), typed, note), make("div", { class: "track" }, zones, input));
  let ends = RATES.other;

  function set({ lr, optimizer }) {
    const exponent = lr > 0 ? Math.log10(lr) : -Infinity, [low, high] = RATES[optimizer] ?? RATES.other;
    ends = lr > 0 ? [Math.min(low, Math.floor(exponent)), Math.max(high, Math.ceil(exponent))] : [low, high];
    [input.min, input.max] = ends;
    input.value = Math.max(exponent, ends[0]);
    input.setAttribute("aria-valuetext", format(lr));
  }

  function write(lr) {
    const plain = String(lr), short = lr.toExponential().replace("+", "");
    typed.value = short.length < plain.length ? short : plain;
  }

  // `prediction` is that of the run in the picture, and `pinned` the rate of A.
  function draw(prediction, words, pinned) {
    const width = zones.parentElement.clientWidth, [left, right] = [THUMB / 2, width - THUMB / 2];
    if (width < 100) return;
    zones.setAttribute("width", width);
    const x = logScale(ends.map((end) => 10 ** end), [left, right]), inside = (v) => Math.min(right, Math.max(left, x.at(v)));
    const band = (from, to, colour, opacity) =>
      make("rect", { x: from, width: Math.max(0, to - from), y: 20, height: 10, fill: colour, opacity });
    const parts = [band(left - 6, right + 6, "var(--line)", 1)];
    const { critical_lr: critical, unstable_lr: unstable } = prediction ?? {};
    const marks = [];
    if (critical) {
      parts.push(band(inside(critical), unstable > critical ? inside(unstable) : right + 6, GREEN, 0.45));
      marks.push({ at: inside(critical), colour: GREEN, text: ["spike", ` from ${format(critical, 2)}`], class: "critical" });
    }
    if (unstable) {
      parts.push(band(inside(unstable), right + 6, BROWN, 0.45));
      marks.push({ at: inside(unstable), colour: BROWN, text: [words, ` from ${format(unstable, 2)}`], class: "unstable" });
    }
    marks.sort((a, b) => a.at - b.at).forEach(({ at, colour, text, class: name }, i) => {
      const before = i === 0 && marks.length > 1, room = (before ? at : right - at) / LETTER;
      // where there is no room, less is said
      const words = [text.join(""), text[0], ""].find((some) => some.length < room || !some);
      parts.push(
        make("line", { x1: at, x2: at, y1: 2, y2: 32, stroke: colour, "stroke-width": 2, class: name }),
        make("text", { x: at + (before ? -5 : 5), y: 12, "text-anchor": before ? "end" : "start" }, words),
      );
    });
    if (pinned > 0) parts.push(make("text", { x: inside(pinned), y: 30, "text-anchor": "middle", class: "pinned", fill: GREY, "font-weight": 700 }, "A"));
    for (const tick of x.ticks) // the first and the last number stay inside
      parts.push(make("text", { x: Math.min(width - 14, Math.max(14, x.at(tick))), y: 48, "text-anchor": "middle" }, x.write(tick)));
    zones.replaceChildren(...parts);
  }

  // The rate after the picture was dragged by some pixels.
  const moved = (lr, pixels) => {
    const exponent = Math.log10(lr) + (pixels / (input.clientWidth - THUMB)) * (ends[1] - ends[0]);
    return snapped(Math.min(ends[1], Math.max(ends[0], Math.round(exponent / RATE_STEP) * RATE_STEP)));
  };

  return { row, note, set, write, draw, moved };
}
