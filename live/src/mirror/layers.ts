// Finds the weight matrices among the tensors of a model, and cuts them out.
// Source: htlib/models/layers.py.

import { TYPES } from "../checkpoint/numbers";
import { countOf, dense, type Entry, flattened, type Layout, type Tensor } from "./entries";
import { partOfQuantised } from "./weights";

export type Kind = "linear" | "conv" | "stack" | "query" | "key" | "value" | "gate" | "update";

/** The matrices of a weight: entry (i, j) of matrix b is at offset + b strides[0] + i strides[1] + j strides[2]. */
export interface Part {
  name: string;
  kind: Kind;
  /** How many matrices, and their shape (h, d). */
  count: number;
  shape: readonly [number, number];
  strides: readonly [number, number, number];
  offset: number;
}

export interface Skipped {
  name: string;
  reason: string;
}

const EMBEDDING = /(^|[._])(embeds?|embed_tokens|wte|wpe|tok_emb|pos_emb)([._]|$)|embedding/i;
const FUSED = /(^|[._])(in_proj_weight|(c_attn|qkv|qkv_proj|Wqkv|in_proj_qkv)\.weight)$/;
const RECURRENT = /^(.*)weight_(ih|hh)(_l\d+(_reverse)?)?$/;
const GATES: Record<number, string[]> = { 3: ["reset", "update", "new"], 4: ["input", "forget", "cell", "output"] };
const THIRDS = ["query", "key", "value"] as const;
const NO_WEIGHT: [RegExp, string][] = [
  [
    /(^|[./])optim(izer)?s?(_\w+)?\.|(^|[./])opt_states?\.|(^|[._])exp_avg(_sq)?(_\w+)?([._]|$)|(^|[._])(momentum_buffer|max_exp_avg_sq|exp_inf|square_avg)([._]|$)/,
    "state of an optimizer",
  ],
  [/(^|[._])mask(_bias)?$/, "a mask"],
  [
    /(^|[._])(pos_embed|pos_encoding|positional_encoding|position_bias|pe|relative_position_bias_table|relative_attention_bias\.weight|position_ids|relative_position_index|inv_freq|freqs_cis|freqs_(cos|sin)|(cos|sin)_cached|rope_cache)$/,
    "a table of positions",
  ],
  [/(_buffer|\.running_mean|\.running_var|\.num_batches_tracked)$/, "a buffer"],
  [/(^|\.)parametrizations\./, "a part of a parametrised weight, which the file does not put together"],
];
const FEWEST = 10; // singular values, over all matrices of a layer

/** Return why a tensor is no weight, as far as that is known without its numbers, or null. */
export function unfit(entry: Entry): string | null {
  const said = entry.reason ?? NO_WEIGHT.find(([pattern]) => pattern.test(entry.name))?.[1] ?? partOfQuantised(entry.name);
  const shape = entry.shape ?? entry.header;
  return said ?? (shape ? unfitShape(shape, entry.made ?? entry.dtype) : null);
}

/** Return why a tensor of this shape and type cannot be analysed, or null. */
export function unfitShape(shape: readonly number[], dtype: string | null): string | null {
  if (dtype !== null && TYPES[dtype].kind !== "float") {
    const what = TYPES[dtype].kind === "complex" ? "complex" : "integers, quantised weights or a buffer";
    return `${what} (${dtype})`;
  }
  if (shape.length < 2) return shape.length ? "a vector (bias or normalisation)" : "a single number";
  if (countOf(shape) === 0) return `empty: its shape is ${tuple(shape)}`;
  return shape.length > 5 ? `${shape.length} axes` : null;
}

/** Cut a tensor into the matrices that it contains; `known` are all entries of the model. */
export function cut(entry: Entry, layout: Layout, known: ReadonlyMap<string, Entry>): (Part | Skipped)[] {
  const { name } = entry;
  const { shape, strides, offset } = layout;
  if (shape.length === 2 && EMBEDDING.test(name))
    return [{ name, reason: "an embedding (embeddings=True takes them)" }];
  return pieces(entry, layout, known).map((part) => tooSmall(part) ?? part);

  function pieces(entry: Entry, layout: Layout, known: ReadonlyMap<string, Entry>): Part[] {
    if (shape.length === 2) {
      const [long, short] = [Math.max(...shape), Math.min(...shape)];
      if (FUSED.test(name) && long === 3 * short)
        return slices(name, layout, shape[0] === long ? 0 : 1, THIRDS, (third) => third as Kind);
      const gates = GATES[countOfGates(name, shape, known)];
      if (gates) return slices(name, layout, 0, gates, () => "gate");
      return [part(name, entry.kind ?? "linear", 1, [shape[0], shape[1]], [0, strides[0], strides[1]], offset)];
    }
    if (shape.length === 3 && !isKernel(name, shape))
      return [part(name, "stack", shape[0], [shape[1], shape[2]], [strides[0], strides[1], strides[2]], offset)];
    // a matrix per position of the kernel; the axes are (out, in, k...), or (k..., in, out)
    const last = shape.length - 1;
    const ends = [Math.max(...shape.slice(0, -2)), Math.max(...shape.slice(-2))];
    const keras = /(^|[./_])kernel(:0)?$/.test(name) && ends[0] <= ends[1];
    const [out, into, first] = keras ? [last, last - 1, 0] : [0, 1, 2];
    const axes = shape.map((_, i) => i).slice(first, first + shape.length - 2);
    const count = countOf(axes.map((axis) => shape[axis]));
    const side: [number, number] = [shape[out], shape[into]];
    const step = axes.length ? strides[axes[axes.length - 1]] : 0;
    return [part(name, "conv", count, side, [step, strides[out], strides[into]], offset)];
  }
}

function part(name: string, kind: Kind, count: number, shape: [number, number], strides: [number, number, number], offset: number): Part {
  return { name, kind, count, shape, strides, offset };
}

/** Cut a matrix into equal parts along one axis. */
function slices(name: string, { shape, strides, offset }: Layout, axis: 0 | 1, names: readonly string[], kind: (name: string) => Kind): Part[] {
  const size = shape[axis] / names.length;
  const side: [number, number] = axis === 0 ? [size, shape[1]] : [shape[0], size];
  return names.map((own, i) =>
    part(`${name}[${own}]`, kind(own), 1, side, [0, strides[0], strides[1]], offset + i * size * strides[axis]),
  );
}

function tooSmall({ name, kind, count, shape: [h, d] }: Part): Skipped | null {
  const size = Math.min(h, d);
  if (size >= 2 && size * count >= FEWEST) return null;
  const pooled = count > 1 ? `${count} x ` : "";
  if (size * count < FEWEST)
    return { name, reason: `${pooled}${h} x ${d} has ${size * count} singular values, fewer than ${FEWEST}` };
  const hint = kind === "conv" && count > 1 ? " (conv='flat' may have one)" : "";
  return { name, reason: `${pooled}${h} x ${d}: a single row or column has no spectrum${hint}` };
}

/** Tell a kernel (out, in, k) from a stack of matrices; kernels are short, and mostly odd. */
function isKernel(name: string, shape: readonly number[]): boolean {
  if (name.includes("expert")) return false;
  const k = shape[shape.length - 1];
  return name.toLowerCase().includes("conv") || k <= 10 || (k % 2 === 1 && k < 64);
}

/** Return how many gates are stacked in the weight of a recurrent layer, by the size of its state. */
function countOfGates(name: string, shape: readonly number[], known: ReadonlyMap<string, Entry>): number {
  const match = RECURRENT.exec(name);
  if (!match) return 0;
  const [stem, end] = [match[1], match[3] ?? ""];
  const projection = known.get(`${stem}weight_hr${end}`)?.shape;
  const own = known.get(`${stem}weight_hh${end}`)?.shape;
  const size = projection?.length ? projection[1] : own?.length ? own[1] : 0;
  return size && shape[0] % size === 0 ? shape[0] / size : 0;
}

/** Return why the numbers of a tensor cannot be analysed, or null. */
export function unfitNumbers({ data }: Tensor): string | null {
  let bad = 0;
  for (let i = 0; i < data.length; i++) if (data[i] - data[i] !== 0) bad++;
  return bad ? `NaN or infinity in ${bad} of ${data.length} entries` : null;
}

/** Return a tensor that holds no other numbers than its own, and whose kernel can be cut at even distances. */
export function tidied(tensor: Tensor): Tensor {
  const { shape, strides, data } = tensor;
  const even = shape.length < 4 || dense(shape).strides.every((step, i) => step === strides[i]);
  if (even && data.length === countOf(shape)) return tensor;
  const values = flattened(tensor);
  return { ...tensor, ...dense(shape), data: data instanceof Float64Array ? values : Float32Array.from(values) };
}

const tuple = (shape: readonly number[]): string => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
