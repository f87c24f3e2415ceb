// What a reader takes along: the picture, the numbers, the lines of Python that repeat them, the address.

import { make } from "./marks.js";
import { press } from "./controls.js";

const SHOWN = ["n", "d", "h", "optimizer", "lr", "steps", "labels", "seed"]; // also where they are the defaults
const STYLES = ["fill", "stroke", "stroke-width", "paint-order", "font-family", "font-size", "font-weight", "opacity"];
const HEAD = 44; // pixels above the chart, for two lines

// Five lines that repeat a run; `defaults` are the values of htlib's ExperimentConfig.
export function pythonFor({ start }, defaults) {
  const literal = (value) =>
    value === null ? "None" : typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
  const { config } = start;
  const fields = Object.keys(defaults).filter((name) =>
    name in config && (SHOWN.includes(name) || JSON.stringify(config[name]) !== JSON.stringify(defaults[name])));
  return [
    "import htlib as ht",
    `config = ht.ExperimentConfig(${fields.map((name) => `${name}=${literal(config[name])}`).join(", ")})`,
    "run = ht.train(config)",
    "print(run.metrics.iloc[-1])",
    'ht.figures.overview(run).savefig("run.png")',
  ].join("\n") + "\n";
}

export function measuresAsCsv({ snapshots }) {
  const names = Object.keys(snapshots[0].metrics);
  const rows = snapshots.map(({ step, metrics, saturation }) => [step, ...names.map((name) => metrics[name]), saturation]);
  return [["step", ...names, "saturation"], ...rows].map((row) => row.map((v) => v ?? "").join(",")).join("\n") + "\n";
}

export const eigenvaluesAsCsv = ({ snapshots }) => ["eigenvalue", ...snapshots.at(-1).eigenvalues].join("\n") + "\n";

// A chart as a file of its own: the styles that the page gives it become attributes, in the colours of a light page.
export function pictureFor(svg, title, setting, root) {
  root.classList.add("light");
  const copy = svg.cloneNode(true), parts = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((part, i) => {
    const style = getComputedStyle(parts[i]);
    for (const name of STYLES) part.setAttribute(name, style.getPropertyValue(name));
  });
  root.classList.remove("light");
  const [width, height] = ["width", "height"].map((name) => Number(svg.getAttribute(name)));
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("viewBox", `0 ${-HEAD} ${width} ${height + HEAD}`);
  copy.setAttribute("height", height + HEAD);
  const line = (text, y, weight) => make("text", { x: 8, y, fill: "#222", "font-family": "sans-serif", "font-size": "13px", "font-weight": weight }, text);
  copy.prepend(make("rect", { x: 0, y: -HEAD, width, height: height + HEAD, fill: "#fff" }), line(title, -26, 600), line(setting, -9, 400));
  return new XMLSerializer().serializeToString(copy);
}

function save(name, text, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// `current()` returns the run in the picture with its title and chart, or null; `linked` says whether the address holds
// it.  Returns the menu, and a function that takes away the text of a run that is no longer shown.
export function exportMenu(current, { defaults, linked, root }) {
  const text = make("pre", { class: "code", tabindex: 0, "aria-label": "to copy", hidden: "" });
  const told = make("span", { role: "status" });
  const copy = async (content, name) => {
    text.textContent = content;
    text.hidden = false;
    try {
      await navigator.clipboard.writeText(content);
      told.textContent = `${name} copied.`;
    } catch {
      told.textContent = "Copy it from here."; // the browser allows no access to the clipboard
    }
  };
  const item = (name, action) =>
    press(name, () => {
      const now = current();
      if (!now) return void (told.textContent = "There is no run yet.");
      told.textContent = "";
      action(now);
    });
  const menu = make("details", { class: "export" }, make("summary", {}, "Export"),
    make("div", { role: "group", "aria-label": "export" },
      item("Picture", ({ file, svg, title, setting }) => save(`${file}.svg`, pictureFor(svg, title, setting, root), "image/svg+xml")),
      item("Measures", ({ file, run }) => save(`${file}.csv`, measuresAsCsv(run), "text/csv")),
      item("Eigenvalues", ({ file, run }) => save(`${file}-eigenvalues.csv`, eigenvaluesAsCsv(run), "text/csv")),
      item("Python", ({ run }) => copy(pythonFor(run, defaults), "Python")),
      ...(linked ? [item("Link", () => copy(location.href, "Link"))] : []),
      told, text));
  const forget = () => {
    text.hidden = true;
    told.textContent = "";
  };
  return { menu, forget };
}
