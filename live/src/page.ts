// Runs on every page of the book, and replaces a still picture of the explorer by the explorer.

import { createExplorer } from "../../htlib/explorer/static/explorer.js";
import { fromAddress, toAddress } from "./address";
import { BrowserEngine } from "./engine";
import { fetchMeta } from "./meta";
import type { Settings } from "./protocol";

const URL_PAUSE = 300; // ms; browsers limit how often an address may change

async function enliven(still: HTMLElement): Promise<void> {
  const base = new URL(".", import.meta.url);
  const meta = await fetchMeta(base);
  const own = JSON.parse(still.dataset["explorer"] ?? "{}") as Partial<Settings>;
  const home = { ...meta.options.settings, ...own };
  const { settings, train } = fromAddress(location.search, home, meta.options.choices);
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
  // The browser scrolled to the still picture, which is no longer there.
  if (location.hash === `#${place.id}`) place.scrollIntoView();
}

const still = document.querySelector<HTMLElement>(".explorer-still[data-explorer]");
if (still && typeof WebAssembly === "object") void enliven(still);
