// Runs on every page of the book, and replaces a still picture of the explorer by the explorer.

import { createExplorer } from "../../htlib/explorer/static/explorer.js";
import { fromAddress, toAddress } from "./address";
import { BrowserEngine } from "./engine";
import { fetchMeta } from "./meta";
import type { Settings, State } from "./protocol";

const URL_PAUSE = 300; // ms; a drag is one entry of the history, and browsers limit how often an address may change
const TOUR = "#tour";

async function enliven(still: HTMLElement): Promise<void> {
  const base = new URL(".", import.meta.url);
  const meta = await fetchMeta(base);
  const own = JSON.parse(still.dataset["explorer"] ?? "{}") as Partial<Settings>;
  const home = { ...meta.options.settings, ...own };
  const read = (): State => fromAddress(location.search, home, meta.options.choices);
  let [timer, at] = [0, location.search];
  const changed = (state: State): void => {
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      const query = toAddress(location.search, home, state);
      if (query === toAddress(location.search, home, read())) return; // as where an address says what is so anyway
      history.pushState(null, "", `${location.pathname}${query}${location.hash}`);
      at = location.search;
    }, URL_PAUSE);
  };
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const tour = location.hash === TOUR;
  const play = "play" in still.dataset && !calm && !location.search;
  const place = document.createElement("div");
  place.id = still.id;
  still.replaceWith(place);
  const options = { ...meta.options, ...read(), home, stored: true, play, tour };
  const explorer = createExplorer(place, options, new BrowserEngine(base, meta), { changed });
  addEventListener("popstate", () => {
    if (location.search === at) return; // only the part after # is another
    clearTimeout(timer);
    at = location.search;
    explorer.show(read());
  });
  addEventListener("hashchange", () => {
    if (location.hash === TOUR) explorer.tour();
  });
  // The browser scrolled to the still picture, which is no longer there.
  if (tour || location.hash === `#${place.id}`) place.scrollIntoView();
}

const still = document.querySelector<HTMLElement>(".explorer-still[data-explorer]");
if (still && typeof WebAssembly === "object") void enliven(still);
