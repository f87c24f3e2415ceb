// Oracle: the rules of the page, by hand.

import { expect, it } from "vitest";
import { Model } from "../../src/checkpoint/analysis";
import { quoted } from "../../src/checkpoint/shell";
import { Source } from "../../src/checkpoint/source";
import { tasksOf } from "../../src/checkpoint/tasks";
import { SAFETENSORS } from "./good_files";

const opened = (limits: { size: number; bytes: number }, name = "my model.safetensors"): Promise<Model> =>
  Model.open([new Source(new Blob([SAFETENSORS]), name)], limits);

it("names the command for what is too large, before anything is read", async () => {
  const command = "htlib analyze 'my model.safetensors' --include w";
  const reason = `12 x 10 is too large for this page: ${command}`;
  for (const limits of [{ size: 9, bytes: 1e9 }, { size: 10, bytes: 479 }]) {
    const listed = (await opened(limits)).listed();
    expect(listed.flatMap(({ skipped }) => skipped)).toContainEqual({ name: "w", reason });
    expect(tasksOf(listed)).toEqual([]);
  }
  expect(tasksOf((await opened({ size: 10, bytes: 480 })).listed())).toHaveLength(1);
});

it("quotes what a shell would take apart", () => {
  expect([quoted("a.pt"), quoted("it's.pt"), quoted("$(x)")]).toEqual(["a.pt", `'it'"'"'s.pt'`, "'$(x)'"]);
});
