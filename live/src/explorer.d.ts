// Types of the part of htlib/explorer/static/explorer.js that is used here.

declare module "*/explorer.js" {
  import type { Engine, Settings } from "./protocol";

  export function createExplorer(
    el: HTMLElement,
    options: {
      settings: Settings;
      home: Settings;
      choices: Record<string, (string | number)[]>;
      names: Record<string, string>;
      max_steps: number;
      stored: boolean;
      train: boolean;
      play: boolean;
    },
    engine: Engine,
    hooks?: { changed?: (settings: Settings, train: boolean) => void },
  ): () => void;
}
