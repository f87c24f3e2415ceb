// What the header of a file says of its tensors, and the tasks that follow from it.

import type { Skipped } from "../mirror/layers";

export interface Limits {
  /** The longest shorter side of a matrix. */
  size: number;
  /** The most bytes of a tensor. */
  bytes: number;
}

export interface Listed {
  name: string;
  /** Rows that the tensor will give, if no number in it forbids it; empty if they are known only when it is read. */
  parts: { name: string; kind: string; shape: readonly [number, number]; count: number }[];
  skipped: Skipped[];
  /** Whether reading it can give a row. */
  open: boolean;
  /** Entries with the same key are one tensor under several names. */
  identity: string | null;
  /** Roughly, the operations that its spectra take. */
  work: number;
}

/** Group the places of open tensors: one tensor under several names is one task. */
export function tasksOf(listed: readonly Listed[]): number[][] {
  const groups = new Map<string, number[]>();
  listed.forEach(({ open, identity }, i) => {
    if (!open) return;
    const key = identity ?? `#${i}`;
    groups.set(key, [...(groups.get(key) ?? []), i]);
  });
  return [...groups.values()];
}
