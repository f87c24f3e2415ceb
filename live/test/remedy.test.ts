import { expect, test } from "vitest";
import { withRemedy } from "../src/remedy";

// The reasons are those of Chromium and Firefox.
test.each([
  [
    "Uncaught Error: no available backend found. ERR: [wasm] RuntimeError: Aborted(CompileError: WebAssembly.instantiate(): " +
      "Refused to compile or instantiate WebAssembly module because neither 'wasm-eval' nor 'unsafe-eval' is an allowed source of " +
      "script in the following Content Security Policy directive: \"script-src 'self'\")",
    "'wasm-unsafe-eval'",
  ],
  ["CompileError: call to WebAssembly.instantiate() blocked by CSP", "'wasm-unsafe-eval'"],
  ["TypeError: Failed to execute 'compile' on 'WebAssembly': Incorrect response MIME type. Expected 'application/wasm'.", "application/wasm"],
  ["CompileError: WebAssembly.instantiate(): expected magic word 00 61 73 6d, found 3c 21 64 6f @+0", "application/wasm"],
  ["RangeError: WebAssembly.Memory(): could not allocate memory", "Close other pages"],
  ["worker.js could not be loaded", "allowed by worker-src"],
  ["probe.onnx is missing", "all files of static/live are there"],
])("%s has its remedy", (reason, remedy) => {
  const message = withRemedy(reason);
  expect(message).toContain(remedy);
  expect(message).toContain(reason.replace(/\.$/, ""));
  expect(message).toMatch(/^the engine that trains cannot run: .*\. .*\. The stored runs need none of this\.$/s);
});
