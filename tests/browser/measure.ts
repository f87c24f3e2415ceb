// For tests: measure the models in files as the page does, in Node.  Arguments: files; "a,b" are the shards
// of one model, and "a..b" compares.

import { openAsBlob } from "node:fs";
import { basename } from "node:path";
import { Model, once, type Outcome } from "../../live/src/checkpoint/analysis";
import kernels from "../../live/src/checkpoint/kernels.wat";
import { Solver } from "../../live/src/checkpoint/solver";
import { oneLine, Source } from "../../live/src/checkpoint/source";
import { tasksOf } from "../../live/src/checkpoint/tasks";
import { againstNull } from "../../live/src/mirror/columns";
import { matched } from "../../live/src/mirror/comparison";
import type { Skipped } from "../../live/src/mirror/layers";
import { type Replicates, replicates } from "../../live/src/mirror/nulls";
import type { Change } from "../../live/src/mirror/table";

const files = process.argv.slice(2);
const solver = new Solver(new WebAssembly.Module(kernels));
const noise = new Map<string, Replicates>();
const limits = { size: 2048, bytes: 2 ** 30 };

async function opened(path: string): Promise<Model> {
  const files = path.split(",");
  return Model.open(await Promise.all(files.map(async (file) => new Source(await openAsBlob(file), basename(file)))), limits);
}

function sorted<T extends object>(outcomes: (T | Skipped)[], early: Skipped[]): { rows: T[]; skipped: Record<string, string> } {
  const skipped = [...early, ...outcomes].filter((outcome): outcome is Skipped => "reason" in outcome);
  const rows = outcomes.filter((outcome): outcome is T => !("reason" in outcome));
  return { rows, skipped: Object.fromEntries(skipped.map(({ name, reason }) => [name, reason])) };
}

async function measured(path: string): Promise<unknown> {
  const model = await opened(path);
  const listed = model.listed();
  const outcomes: Outcome[] = [];
  for (const task of tasksOf(listed)) outcomes.push(...(await once(listed, task, (i) => model.measure(i, solver))));
  const { rows, skipped } = sorted(outcomes, listed.flatMap((one) => one.skipped));
  const complete = rows.map(({ row }) => {
    const key = [...[...row.shape].sort((a, b) => a - b), row.n_matrices].join(" ");
    if (!noise.has(key)) noise.set(key, replicates(...row.shape, row.n_matrices));
    return { ...row, ...againstNull(row, row.shape, row.n_matrices, noise.get(key)!) };
  });
  return { rows: complete, skipped };
}

async function compared(before: string, after: string): Promise<unknown> {
  const [first, second] = [await opened(before), await opened(after)];
  const listed = first.listed();
  const { there, others } = matched(first.entries, second.entries);
  const outcomes: (Change | Skipped)[] = [];
  for (const task of tasksOf(listed))
    outcomes.push(...(await once(listed, task, (i) => first.compare(i, there, solver))));
  return sorted(outcomes, [...listed.flatMap((one) => one.skipped), ...others]);
}

const results = await Promise.all(
  files.map((file) => {
    const [before, after] = file.split("..");
    return (after ? compared(before, after) : measured(file)).catch((error: unknown) => ({ error: oneLine(error) }));
  }),
);
// JSON has no NaN
console.log(JSON.stringify(results, (_, value: unknown) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value)));
