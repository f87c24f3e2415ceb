// Types of the part of htlib/explorer/static/explorer.js that is used here.

declare module "*/explorer.js" {
  import type { Engine, Options, State } from "./protocol";

  export function createExplorer(
    el: HTMLElement,
    options: Options & Omit<State, "train"> & { home: State["settings"]; stored: boolean; train: boolean; play: boolean; tour: boolean },
    engine: Engine,
    hooks?: { changed?: (state: State) => void },
  ): { show: (state: State) => void; tour: () => void; leave: () => void };
}
