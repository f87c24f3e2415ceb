// The field of the page "Your checkpoint".  All else is loaded when a reader gives a file or asks for the sample: by
// script elements, because the content policy of the page forbids every connection, and so that it works from a file too.

import type { Laboratory } from "./laboratory";

declare global {
  interface Window {
    htlibLaboratory?: (place: HTMLElement) => Laboratory;
    htlibSample?: string;
  }
}

const SEALED =
  "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:; " +
  "style-src 'unsafe-inline'; img-src data:; form-action 'none'";
const here = new URL(".", (document.currentScript as HTMLScriptElement).src);

function start(root: HTMLElement): void {
  const field = root.querySelector<HTMLElement>(".checkpoint-field")!;
  const input = root.querySelector<HTMLInputElement>("input[type=file]")!;
  const sample = root.querySelector<HTMLButtonElement>(".checkpoint-sample")!;
  const place = root.querySelector<HTMLElement>(".checkpoint-results")!;
  let laboratory: Promise<Laboratory> | null = null;

  const give = async (files: readonly File[] | Promise<File[]>, own: boolean): Promise<void> => {
    laboratory ??= loaded("laboratory.js").then(() => window.htlibLaboratory!(place));
    root.classList.add("given");
    try {
      const ready = await laboratory;
      if (own) seal();
      sample.hidden = own;
      await ready.analyse(await files);
    } catch (error) {
      laboratory = null;
      place.textContent = `This page cannot read checkpoints: ${error instanceof Error ? error.message : String(error)}. Reload it.`;
    }
  };
  root.classList.add("ready");
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    if (files.length) void give(files, true);
    input.value = ""; // so that the same file can be chosen again
  });
  sample.addEventListener("click", () => void give(loaded("sample.js").then(sampleFile), false));
  // A file that is dropped beside the field would otherwise replace the page.
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => event.preventDefault());
  for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]] as const)
    field.addEventListener(name, () => field.classList.toggle("over", over));
  field.addEventListener("drop", (event) => {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) void give(files, true);
  });
}

/** Before a reader's file is read, cut the page off from its own host too: workers made from now on inherit this. */
function seal(): void {
  const meta = document.createElement("meta");
  meta.httpEquiv = "Content-Security-Policy";
  meta.content = SEALED;
  document.head.append(meta);
}

function sampleFile(): File[] {
  const bytes = Uint8Array.from(atob(window.htlibSample!), (character) => character.charCodeAt(0));
  return [new File([bytes], "student.safetensors")];
}

/** Run a script beside this one. */
function loaded(name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(name, here).href;
    script.onload = () => resolve();
    script.onerror = () => reject(new Error(`${name} cannot be loaded`));
    document.head.append(script);
  });
}

const root = document.querySelector<HTMLElement>(".checkpoint");
if (root && typeof WebAssembly === "object" && typeof DecompressionStream === "function") start(root);
