// Which tensors of two models belong together.
// Source: htlib/models/comparison.py.

import type { Entry } from "./entries";
import type { Skipped } from "./layers";

const WRAPPERS =
  /(^(module|state_dict|model_state_dict|model|net)\.)|((?<=\.)|^)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g;

export interface Matched {
  /** The second model's tensors by the names that they have in the first. */
  there: ReadonlyMap<string, Entry>;
  /** Names that only the second model has, with that reason. */
  others: Skipped[];
}

/** Match entries by name, whatever wrappers the names begin with. */
export function matched(before: readonly Entry[], after: readonly Entry[]): Matched {
  const bare = (name: string): string => name.replace(WRAPPERS, "");
  const here = new Map(before.map(({ name }) => [bare(name), name]));
  const exact = new Set(before.map(({ name }) => name));
  const there = new Map<string, Entry>();
  const others: Skipped[] = [];
  for (const entry of after) {
    const name = exact.has(entry.name) ? entry.name : (here.get(bare(entry.name)) ?? entry.name);
    if (there.has(name)) continue;
    there.set(name, { ...entry, name });
    if (!exact.has(name)) others.push({ name: entry.name, reason: "only in the second model" });
  }
  return { there, others };
}
