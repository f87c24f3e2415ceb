// Run the exported graphs with ONNX Runtime's WebAssembly; all its files are beside this one.

import * as ort from "onnxruntime-web/wasm";
import type { Graphs, Value } from "./mirror/student";

// More threads need headers that static hosts do not send; at the sizes of the pages two gain nothing on an idle machine
// and take several times as long on a busy one (benchmarks/engine.py).
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.logLevel = "error";

const EMPTY = Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0); // a module without anything in it

export class OrtGraphs implements Graphs {
  private readonly sessions = new Map<string, Promise<ort.InferenceSession>>();

  async run(name: string, feed: Record<string, Value>): Promise<Record<string, Float32Array | Float64Array>> {
    const session = await this.session(name);
    const tensors = session.inputMetadata.map((input) => {
      if (!input.isTensor) throw new Error(`${name}: ${input.name} is no tensor`);
      const value = feed[input.name];
      const data =
        typeof value !== "number" ? value : input.type === "float64" ? Float64Array.of(value) : Float32Array.of(value);
      const shape = typeof value === "number" ? [] : input.shape.map((side) => (typeof side === "number" ? side : value.length));
      return [input.name, new ort.Tensor(data, shape)] as const;
    });
    const results = Object.entries(await session.run(Object.fromEntries(tensors)));
    return Object.fromEntries(results.map(([key, tensor]) => [key, tensor.data as Float32Array | Float64Array]));
  }

  private session(name: string): Promise<ort.InferenceSession> {
    let session = this.sessions.get(name);
    if (!session) {
      new WebAssembly.Module(EMPTY); // throws where a content policy forbids it; ONNX Runtime would wait for ever
      session = ort.InferenceSession.create(new URL(`${name}.onnx`, import.meta.url).href, {
        executionProviders: ["wasm"],
        graphOptimizationLevel: "basic", // extended optimisations give wrong numbers, see htlib/explorer/graphs.py
        logSeverityLevel: 3,
      });
      this.sessions.set(name, session);
    }
    return session;
  }
}
