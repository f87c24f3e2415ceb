// One model in a file: what is in it, and the measures of its tensors, one at a time.

import { countOf, dense, type Entry } from "../mirror/entries";
import { cut, type Part, type Skipped, tidied, unfit, unfitNumbers, unfitShape } from "../mirror/layers";
import { type Change, changeOf, isZero, type Row, rowOf } from "../mirror/table";
import { entriesOf } from "./files";
import { TYPES } from "./numbers";
import type { Solver } from "./solver";
import { quoted } from "./shell";
import { oneLine, type Source, Unreadable } from "./source";
import type { Limits, Listed } from "./tasks";

/** Take the first name of a tensor that gives a row, and say of the others that it is theirs. */
export async function once<T>(
  listed: readonly Listed[],
  task: readonly number[],
  take: (index: number) => Promise<(T | Skipped)[]>,
): Promise<(T | Skipped)[]> {
  const outcomes: (T | Skipped)[] = [];
  let first: string | null = null;
  for (const index of task) {
    const { name } = listed[index];
    const own = first === null ? await take(index) : [{ name, reason: `the same tensor as ${first}` }];
    if (first === null && own.some((outcome) => !("reason" in (outcome as object)))) first = name;
    outcomes.push(...own);
  }
  return outcomes;
}

export type Outcome = { row: Row; eigenvalues: Float64Array } | Skipped;

export class Model {
  private readonly known: ReadonlyMap<string, Entry>;

  private constructor(
    readonly entries: readonly Entry[],
    private readonly limits: Limits,
  ) {
    this.known = new Map(entries.map((entry) => [entry.name, entry]));
  }

  static async open(sources: readonly Source[], limits: Limits): Promise<Model> {
    return new Model(await entriesOf(sources, limits.bytes), limits);
  }

  listed(): Listed[] {
    return this.entries.map((entry) => {
      const { name, identity } = entry;
      const shape = entry.shape ?? entry.header;
      const reason = unfit(entry);
      const nothing = { name, parts: [], identity, work: 0 };
      if (reason !== null) return { ...nothing, skipped: [{ name, reason }], open: false };
      if (shape === null) return { ...nothing, skipped: [], open: true };
      const all = cut(entry, dense(shape), this.known).map((part) => this.tooLarge(part, entry) ?? part);
      const parts = all.filter((part): part is Part => "kind" in part);
      const skipped = all.filter((part): part is Skipped => "reason" in part);
      const work = parts.reduce((total, { count, shape: [h, d] }) => total + count * h * d * Math.min(h, d), 0);
      return { name, identity, parts, skipped, open: parts.length > 0, work };
    });
  }

  /** Measure one tensor. */
  async measure(index: number, solver: Solver): Promise<Outcome[]> {
    const entry = this.entries[index];
    const { name } = entry;
    try {
      const [tensor, parts] = await this.cutOf(entry);
      return parts.map((part) => {
        if ("reason" in part) return part;
        try {
          return rowOf(part, tensor, entry, solver);
        } catch (error) {
          return { name: part.name, reason: oneLine(error) };
        }
      });
    } catch (error) {
      return [{ name, reason: oneLine(error) }];
    }
  }

  /** Compare one tensor with that of another model; `there` are its entries by their names here. */
  async compare(index: number, there: ReadonlyMap<string, Entry>, solver: Solver): Promise<(Change | Skipped)[]> {
    const entry = this.entries[index];
    const after = there.get(entry.name);
    if (!after) return this.listed()[index].parts.map(({ name }) => ({ name, reason: "only in the first model" }));
    let first: [Awaited<ReturnType<Entry["load"]>>, (Part | Skipped)[]];
    try {
      first = await this.cutOf(entry);
    } catch (error) {
      return [{ name: entry.name, reason: oneLine(error) }];
    }
    let second: typeof first | string;
    try {
      second = await this.cutOf(after, there);
    } catch (error) {
      second = oneLine(error);
    }
    const [tensor, parts] = first;
    return parts.map((part) => {
      const { name } = part;
      if ("reason" in part) return part;
      if (typeof second === "string") return { name, reason: `in the second model: ${second}` };
      const match = second[1].find((one) => one.name === name);
      if (!match || "reason" in match) return { name, reason: `in the second model: ${match ? match.reason : "cut differently"}` };
      const shapes = [part, match].map(({ count, shape: [h, d] }) => `(${count}, ${h}, ${d})`);
      if (shapes[0] !== shapes[1]) return { name, reason: `shapes differ: ${shapes.join(" and ")}` };
      try {
        return changeOf([part, tensor], [match, second[0]], solver);
      } catch (error) {
        return { name, reason: oneLine(error) };
      }
    });
  }

  /** Read a tensor and cut it; throws Unreadable with the reason if it has no matrices. */
  private async cutOf(entry: Entry, known = this.known): Promise<[Awaited<ReturnType<Entry["load"]>>, (Part | Skipped)[]]> {
    const early = unfit(entry);
    if (early !== null) throw new Unreadable(early);
    const tensor = tidied(await entry.load());
    const reason = unfitShape(tensor.shape, tensor.dtype) ?? unfitNumbers(tensor);
    if (reason !== null) throw new Unreadable(reason);
    const parts = cut(entry, tensor, known).map((part) => {
      if ("reason" in part) return part;
      const { name } = part;
      return this.tooLarge(part, entry) ?? (isZero(part, tensor.data) ? { name, reason: "all entries are zero" } : part);
    });
    return [tensor, parts];
  }

  private tooLarge(part: Part | Skipped, entry: Entry): Skipped | null {
    if ("reason" in part) return null;
    const { name, shape: [h, d] } = part;
    const type = TYPES[entry.made ?? entry.dtype ?? "float32"];
    const bytes = countOf(entry.shape ?? entry.header ?? part.shape) * type.width;
    if (Math.min(h, d) <= this.limits.size && bytes <= this.limits.bytes) return null;
    const command = `htlib analyze ${quoted(entry.file)} --include ${quoted(entry.name)}`;
    return { name, reason: `${h} x ${d} is too large for this page: ${command}` };
  }
}
