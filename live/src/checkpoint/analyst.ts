// The worker that reads files and measures what is in them.  It has the content policy of its page: no connection at all.

import type { Entry } from "../mirror/entries";
import { matched } from "../mirror/comparison";
import type { Skipped } from "../mirror/layers";
import { type Replicates, replicates } from "../mirror/nulls";
import type { Change } from "../mirror/table";
import { Model, once, type Outcome } from "./analysis";
import kernels from "./kernels.wat";
import { Solver } from "./solver";
import { oneLine, Source } from "./source";
import type { Limits, Listed } from "./tasks";

export type Order =
  | { type: "open" | "open other"; files: readonly File[]; limits: Limits }
  | { type: "measure"; task: number[] }
  | { type: "compare"; task: number[] }
  | { type: "null"; shape: readonly [number, number]; count: number };

export type Reply =
  | { type: "open"; listed: Listed[]; others: Skipped[] }
  | { type: "measure"; outcomes: Outcome[] }
  | { type: "compare"; outcomes: (Change | Skipped)[] }
  | { type: "null"; replicates: Replicates }
  | { type: "refused"; message: string };

let solver: Solver | null = null;
let model: Model | null = null;
let there: ReadonlyMap<string, Entry> = new Map();

async function obey(order: Order): Promise<Reply> {
  switch (order.type) {
    case "open": {
      model = await opened(order);
      return { type: "open", listed: model.listed(), others: [] };
    }
    case "open other": {
      const found = matched(model!.entries, (await opened(order)).entries);
      there = found.there;
      return { type: "open", listed: model!.listed(), others: found.others };
    }
    case "measure": {
      const own = model!;
      const outcomes = await once(own.listed(), order.task, (index) => own.measure(index, engine()));
      return { type: "measure", outcomes };
    }
    case "compare": {
      const own = model!;
      const outcomes = await once(own.listed(), order.task, (index) => own.compare(index, there, engine()));
      return { type: "compare", outcomes };
    }
    case "null":
      return { type: "null", replicates: replicates(...order.shape, order.count) };
  }
}

function opened({ files, limits }: { files: readonly File[]; limits: Limits }): Promise<Model> {
  return Model.open(files.map((file) => new Source(file, file.name)), limits);
}

function engine(): Solver {
  return (solver ??= new Solver(new WebAssembly.Module(kernels)));
}

onmessage = (event: MessageEvent<Order>) => {
  obey(event.data)
    .catch((error: unknown): Reply => ({ type: "refused", message: oneLine(error) }))
    .then((reply) => postMessage(reply));
};
