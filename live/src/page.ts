// On every page of the book: a still picture of the explorer becomes the explorer.

import { createExplorer } from "../../htlib/static/explorer.js";
import { BrowserEngine } from "./engine";
import { fetchMeta } from "./meta";
import type { Settings } from "./protocol";

const URL_PAUSE = 300; // ms: browsers limit how often an address may change

/** The settings that a page's address names, as far as the explorer has them; links to an experiment are made so. */
export function fromAddress(search: string, home: Settings): { settings: Settings; train: boolean } {
  const given = new URLSearchParams(search);
  const settings: Record<string, string | number> = { ...home };
  for (const [name, value] of Object.entries(home)) {
    const text = given.get(name);
    if (text === null) continue;
    if (typeof value === "string") settings[name] = text;
    else if (text.trim() !== "" && Number.isFinite(Number(text))) settings[name] = Number(text);
  }
  return { settings: settings as unknown as Settings, train: given.get("train") === "1" };
}

export function toAddress(search: string, home: Settings, settings: Settings, train: boolean): string {
  const query = new URLSearchParams(search);
  for (const [name, value] of Object.entries(settings))
    if (value === home[name as keyof Settings]) query.delete(name);
    else query.set(name, String(value));
  if (train) query.set("train", "1");
  else query.delete("train");
  return query.size ? `?${query}` : "";
}

async function enliven(still: HTMLElement): Promise<void> {
  const base = new URL(".", import.meta.url);
  const meta = await fetchMeta(base);
  const own = JSON.parse(still.dataset["explorer"] ?? "{}") as Partial<Settings>;
  const home = { ...meta.options.settings, ...own };
  const { settings, train } = fromAddress(location.search, home);
  for (const [name, allowed] of Object.entries(meta.options.choices))
    if (!allowed.includes(settings[name as keyof Settings])) Object.assign(settings, { [name]: home[name as keyof Settings] });
  let timer = 0;
  const changed = (now: Settings, training: boolean): void => {
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      const query = toAddress(location.search, home, now, training);
      history.replaceState(history.state, "", `${location.pathname}${query}${location.hash}`);
    }, URL_PAUSE);
  };
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const play = "play" in still.dataset && !calm && !location.search;
  const place = document.createElement("div");
  place.id = still.id;
  still.replaceWith(place);
  const options = { ...meta.options, settings, home, stored: true, train, play };
  createExplorer(place, options, new BrowserEngine(base, meta), { changed });
}

const still = document.querySelector<HTMLElement>(".explorer-still[data-explorer]");
if (still && typeof WebAssembly === "object") void enliven(still);
