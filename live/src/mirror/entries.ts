// Tensors with names, not loaded yet, and the walk that finds them in nested values.
// Source: htlib/models/entries.py.

import type { Numbers } from "../checkpoint/numbers";
import { Unreadable } from "../checkpoint/source";

/** How numbers lie in an array: entry (i, j, ...) is at offset + i strides[0] + j strides[1] + ... */
export interface Layout {
  shape: readonly number[];
  strides: readonly number[];
  offset: number;
}

export interface Tensor extends Layout {
  data: Numbers;
  dtype: string;
}

export interface Entry {
  name: string;
  shape: readonly number[] | null;
  /** The shape in the file's header, where htlib has no `shape` before it loads the tensor. */
  header: readonly number[] | null;
  /** As stored; null where htlib does not know it before it loads the tensor. */
  dtype: string | null;
  /** The type that `load` gives, if that is not `dtype`. */
  made: string | null;
  /** Throws Unreadable if the tensor cannot be read. */
  load: () => Promise<Tensor>;
  kind: "update" | null;
  reason: string | null;
  partOf: string | null;
  /** The same for all names of one tensor. */
  identity: string | null;
  file: string;
}

/** A tensor of a file, as the readers of files describe it. */
export class Stored {
  constructor(
    public load: () => Promise<Tensor>,
    public shape: readonly number[] | null,
    public dtype: string | null = null,
    readonly identity: string | null = null,
    readonly reason: string | null = null,
  ) {}
}

/** An object of a pickle whose class is only a name; what was put into it can be walked through. */
export class Opaque {
  state: unknown = null;
  readonly items = new Map<unknown, unknown>();

  constructor(
    readonly what: string,
    given: readonly unknown[] = [],
  ) {
    given.forEach((value, i) => this.items.set(i, value));
  }

  push(value: unknown): void {
    this.items.set(this.items.size, value);
  }
}

const MOST = 1_000_000; // values of a file; a pickle that refers to itself has more
const DEEPEST = 100;
const WRAPPED = new Set<unknown>(["_parameters", "_buffers", "_modules"]);

export function entry(name: string, load: Entry["load"], more: Partial<Entry> = {}): Entry {
  const rest = { shape: null, header: null, dtype: null, made: null, kind: null, reason: null, partOf: null, identity: null, file: "" };
  return { ...rest, ...more, name, load };
}

export function refusal(reason: string): () => Promise<Tensor> {
  return () => Promise.reject(new Unreadable(reason));
}

/** List the tensors in nested mappings, lists and objects; ignore all else. */
export function entriesIn(content: unknown): Entry[] {
  const found: Entry[] = [];
  const walk: Walk = { visited: 0, objects: new Set(), path: new Set(), found };
  visit(content, "", null, walk);
  return withNamesOfTheirOwn(found);
}

/** Make names unique: where a nested name equals a flat one, the later entry gets a number. */
export function withNamesOfTheirOwn(entries: Entry[]): Entry[] {
  const seen = new Map<string, number>();
  return entries.map((e) => {
    const count = (seen.get(e.name) ?? 0) + 1;
    seen.set(e.name, count);
    return count === 1 ? e : { ...e, name: `${e.name} (${count})` };
  });
}

interface Walk {
  visited: number;
  objects: Set<unknown>;
  path: Set<unknown>;
  found: Entry[];
}

function visit(value: unknown, name: string, reason: string | null, walk: Walk): void {
  walk.visited++;
  if (walk.visited > MOST || walk.path.size > DEEPEST)
    throw new Unreadable("more than a million values, or a hundred levels of them");
  if (value instanceof Stored) {
    const { load, shape, dtype, identity } = value;
    walk.found.push(entry(name, load, { shape, dtype, identity, reason: value.reason ?? reason }));
    return;
  }
  if (typeof value !== "object" || value === null || walk.objects.has(value) || walk.path.has(value)) return;
  if (value instanceof Opaque) walk.objects.add(value);
  walk.path.add(value);
  if (value instanceof Map && value.has("state") && value.has("param_groups")) reason = "state of an optimizer";
  for (const [key, child] of children(value)) {
    const own = value instanceof Opaque;
    const text = named(key);
    const inner = WRAPPED.has(key) && own ? name : name === "" ? text.replace(/^\.+/, "") : `${name}.${text}`;
    visit(child, inner, reason ?? (key === "_buffers" && own ? "a buffer" : null), walk);
  }
  walk.path.delete(value);
}

function* children(value: unknown): Generator<[unknown, unknown]> {
  if (value instanceof Map) yield* value;
  else if (Array.isArray(value)) yield* value.entries();
  else if (value instanceof Opaque) {
    yield* value.items;
    yield* children(value.state);
  }
}

/** Write a key as Python does. */
function named(key: unknown): string {
  if (key === null) return "None";
  if (typeof key === "boolean") return key ? "True" : "False";
  return typeof key === "object" ? "?" : String(key);
}

/** Return the layout of numbers in the order of their axes, the last first. */
export function dense(shape: readonly number[]): Layout {
  const strides = shape.map(() => 1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1] * shape[i + 1];
  return { shape, strides, offset: 0 };
}

export const countOf = (shape: readonly number[]): number => shape.reduce((product, side) => product * side, 1);

/** Return the numbers of a tensor in the order of its axes. */
export function flattened({ data, shape, strides, offset }: Tensor): Float64Array<ArrayBuffer> {
  const values = new Float64Array(countOf(shape));
  const index = shape.map(() => 0);
  for (let place = 0, at = offset; place < values.length; place++) {
    values[place] = data[at];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis];
      if (++index[axis] < shape[axis]) break;
      at -= index[axis] * strides[axis];
      index[axis] = 0;
    }
  }
  return values;
}
