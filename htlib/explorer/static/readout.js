// What the explorer says in words and numbers.

import { format, make } from "./marks.js";
import { wordFor } from "./controls.js";

const SATURATED = 0.9;

const READOUT = [
  ["spectral_norm", "spectral norm"], ["n_outliers", "outliers"], ["alignment", "align­ment"],
  ["alpha_hill", "Hill α"], ["test_loss", "test loss"],
];

// How a request stands, or undefined if there is nothing new to say; `late` means that it takes longer than a moment.
export function sentence({ state, snapshots, progress, start, settings, took, message, stoppedAt }, late) {
  const last = snapshots.at(-1)?.step ?? 0, asked = settings?.steps;
  const sizes = start && `n = ${start.config.n}, d = ${start.config.d}, h = ${start.config.h}`;
  if (state === "running" && progress?.phase === "load") return "Loading the engine: once, 4 MB.";
  if (state === "running" && late)
    return snapshots.length ? `Training at ${sizes}: ${asked} steps.` : `Preparing data and first measures at ${sizes}.`;
  if (state === "done") return start.note ?? `${asked} step${asked === 1 ? "" : "s"} done in ${format(took / 1000, 2)} s (${sizes}).`;
  if (state === "absent") return `${message} Train here computes it.`;
  if (state === "cancelled")
    return snapshots.length ? `Stopped after step ${last} of ${asked}. Run goes on from there.` : "Stopped before the first step. Run begins again.";
  if (state === "diverged")
    return `Diverged: at step ${stoppedAt} a number stopped being finite. ${snapshots.length ? `What was measured up to step ${last} is shown.` : "Nothing could be measured."}`;
  if (state === "error") return `This does not run: ${message}.`;
}

// Say that the units are saturated, if they are.
export function saturation({ snapshots, start }) {
  const { saturation: share, step } = snapshots.at(-1);
  if (!(share > SATURATED)) return "";
  const estimated = start.source === "stored" ? "by the size of the weights about " : "";
  return `Saturated: ${estimated}${Math.floor(100 * share)} % of the hidden activations are within 1 % of their bound after step ${step}. ` +
    `${start.config.activation} cannot overflow, but its slope is nearly zero there: little gradient is left.`;
}

export const columns = () =>
  make("tr", {}, make("th", { scope: "col" }, "step"), ...READOUT.map(([, name]) => make("th", { scope: "col" }, name)));

// The rows of the first and the last step, of the seeds, of A, and of the difference from A.
export function tableRows({ snapshots, settings }, pinned, names) {
  const [first, last] = [snapshots[0], snapshots.at(-1)];
  const row = (name, cell, attributes = {}) =>
    make("tr", attributes, make("th", { scope: "row" }, name), ...READOUT.map(([key]) => cell(key)));
  const rows = [...new Set([first, last])].map(({ step, metrics }) =>
    row(String(step), (key) => make("td", { "data-metric": key }, format(metrics[key]))));
  if (last.spread)
    rows.push(row("seeds", (key) => make("td", { "data-spread": key }, last.spread[key].map((v) => format(v, 3)).join(" – ")), { class: "spread" }));
  if (!pinned) return rows;
  const { metrics } = pinned.snapshots.at(-1);
  const difference = (key) => (last.metrics[key] === null || metrics[key] === null ? null : last.metrics[key] - metrics[key]);
  const words = Object.keys(settings).filter((name) => pinned.settings[name] !== settings[name])
    .map((name) => `${name === "lr" ? "rate" : name.replace("_", " ")} ${wordFor(pinned.settings[name], names)}`);
  return [
    ...rows,
    row(`A: ${words.join(", ") || "the same"}`, (key) => make("td", { "data-pinned": key }, format(metrics[key])), { class: "pinned" }),
    row("this − A", (key) => make("td", { "data-difference": key }, format(difference(key), 3)), { class: "difference" }),
  ];
}
