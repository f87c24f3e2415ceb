// For the tests: one run in the page itself, with a problem of the test's making.

import { fetchMeta } from "../../live/src/meta";
import type { Problem } from "../../live/src/problem";
import { makeProblem } from "../../live/src/problem";
import type { Settings, Snapshot } from "../../live/src/protocol";
import { OrtGraphs } from "../../live/src/runtime";
import { Student } from "../../live/src/student";

export async function run(
  settings: Settings,
  change: "dead unit" | "huge targets" | "none",
): Promise<{ snapshots: Snapshot[]; divergedAt: number | null }> {
  const [meta, graphs] = [await fetchMeta(new URL(".", import.meta.url)), new OrtGraphs()];
  const { teacher } = settings;
  const value = async (z: Float64Array): Promise<Float64Array> =>
    (await graphs.run(`link-${teacher}`, { z }))["f"] as Float64Array;
  const problem: Problem = await makeProblem(settings, meta.trained.sizes, { value, ...meta.teachers[teacher] });
  if (change === "dead unit") problem.readoutWeights[7] = 0;
  if (change === "huge targets") problem.train.targets.forEach((y, i, all) => (all[i] = y * 1e30));
  const student = new Student(settings, problem, meta, graphs);
  while (student.snapshots.length <= settings.steps && student.divergedAt === null) await student.advance();
  return { snapshots: student.snapshots, divergedAt: student.divergedAt };
}
