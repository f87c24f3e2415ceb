// For tests and benchmarks: a run in the page itself, with a problem of their making, or timed.

import { fetchMeta, type Meta } from "../../live/src/meta";
import type { Problem } from "../../live/src/mirror/problem";
import type { Settings, Snapshot } from "../../live/src/protocol";
import { OrtGraphs } from "../../live/src/runtime";
import { problemFor, Student } from "../../live/src/mirror/student";

async function prepare(settings: Settings): Promise<[Meta, OrtGraphs, Problem]> {
  const [meta, graphs] = [await fetchMeta(new URL(".", import.meta.url)), new OrtGraphs()];
  return [meta, graphs, await problemFor(settings, meta, graphs)];
}

export async function run(
  settings: Settings,
  change: "dead unit" | "huge targets",
): Promise<{ snapshots: Snapshot[]; divergedAt: number | null }> {
  const [meta, graphs, problem] = await prepare(settings);
  if (change === "dead unit") problem.readoutWeights[7] = 0;
  else problem.train.targets.forEach((y, i, all) => (all[i] = y * 1e30));
  const student = new Student(settings, problem, meta, graphs);
  while (student.snapshots.length <= settings.steps && student.divergedAt === null) await student.advance();
  return { snapshots: student.snapshots, divergedAt: student.divergedAt };
}

/** Milliseconds of the updates and of the measures, step by step. */
export async function times(settings: Settings): Promise<{ step: number[]; probe: number[] }> {
  const [meta, graphs, problem] = await prepare(settings);
  const step: number[] = [];
  const probe: number[] = [];
  const timed = {
    async run(...call: Parameters<OrtGraphs["run"]>): ReturnType<OrtGraphs["run"]> {
      const began = performance.now();
      const result = await graphs.run(...call);
      if (call[0].startsWith("step")) step.push(performance.now() - began);
      return result;
    },
  };
  const student = new Student(settings, problem, meta, timed);
  while (student.snapshots.length <= settings.steps) {
    const began = performance.now();
    await student.advance();
    probe.push(performance.now() - began - step[step.length - 1]);
  }
  return { step, probe };
}
