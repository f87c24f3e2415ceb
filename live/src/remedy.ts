// What a reader, or the owner of the site, can do if the engine that trains cannot run.

const OTHERWISE = "The stored runs need none of this.";
const REMEDIES: [RegExp, string][] = [
  [
    /content.security.policy|unsafe-eval|blocked by CSP/i,
    "The content policy of this site forbids it: its owner can add 'wasm-unsafe-eval' to script-src and 'self' to worker-src.",
  ],
  [
    /\bMIME\b|magic word/i,
    "The server sends a wrong file, or a wrong type: the owner of this site can send .wasm as application/wasm and .js as text/javascript.",
  ],
  [
    /worker\.js/,
    "Reload this page; the owner of this site can check that worker.js is there, sent as text/javascript, and allowed by worker-src.",
  ],
  [/memory|allocat/i, "Close other pages, or choose another device, and reload this page."],
];
const UNKNOWN = "Reload this page; if that does not help, the owner of this site can check that all files of static/live are there.";

/** Say why the engine cannot run, and what helps; browsers word the reasons differently. */
export function withRemedy(reason: string): string {
  const known = REMEDIES.find(([pattern]) => pattern.test(reason));
  return `the engine that trains cannot run: ${reason.replace(/\.$/, "")}. ${known ? known[1] : UNKNOWN} ${OTHERWISE}`;
}
