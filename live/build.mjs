// Bundle the modules of the pages:  node build.mjs OUTDIR [ENTRY...]

import { readFile } from "node:fs/promises";
import { build } from "esbuild";
import wabt from "wabt";

const MODULES = ["src/page.ts", "src/worker.ts"];
const SCRIPTS = ["src/checkpoint/checkpoint.ts", "src/checkpoint/laboratory.ts"];
const options = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  external: ["node:*"],
  nodePaths: [`${import.meta.dirname}/node_modules`], // for tests and benchmarks, which lie elsewhere
  legalComments: "linked",
  logLevel: "warning",
};

/** Compile WebAssembly text to bytes. */
const text = {
  name: "wat",
  setup({ onLoad }) {
    onLoad({ filter: /\.wat$/ }, async ({ path }) => {
      const module = (await wabt()).parseWat(path, await readFile(path, "utf8"), { simd: true });
      return { contents: module.toBinary({}).buffer, loader: "binary" };
    });
  },
};

/** Bundle a module into a string: a worker made from it has the content policy of its page. */
const source = {
  name: "source",
  setup({ onResolve, onLoad, resolve }) {
    onResolve({ filter: /\?source$/ }, async ({ path, resolveDir }) => {
      const found = await resolve(path.replace("?source", ".ts"), { resolveDir, kind: "import-statement" });
      return { path: found.path, namespace: "source" };
    });
    onLoad({ filter: /.*/, namespace: "source" }, async ({ path }) => {
      const { outputFiles } = await build({
        ...options,
        entryPoints: [path],
        format: "iife",
        legalComments: "none",
        write: false,
        plugins: [text],
      });
      return { contents: outputFiles[0].contents, loader: "text" };
    });
  },
};

const [outdir, ...entries] = process.argv.slice(2);
const common = { ...options, entryNames: "[name]", outdir, plugins: [text, source] };
await build({ ...common, entryPoints: entries.length ? entries : MODULES });
if (!entries.length) await build({ ...common, entryPoints: SCRIPTS, format: "iife" });
