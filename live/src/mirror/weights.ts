// Puts together the weights in use from what checkpoints store of them.
// Source: htlib/models/weights.py.

import { rounded } from "../checkpoint/numbers";
import { oneLine, Unreadable } from "../checkpoint/source";
import { countOf, dense, type Entry, flattened, type Tensor } from "./entries";

const UPDATE = /^(?<stem>.*?)[._]lora(_embedding|_linear_layer)?[._](?<down>A|down|a)(?<tail>(\.\w+)?(\.weight)?)$/d;
const UP: Record<string, string> = { A: "B", down: "up", a: "b" };
const PACKED =
  /\.(qweight|qzeros|weight_packed|weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*))$|_(blocks|packed)$/;
const SCALE =
  /(^|[._])(scales?|scale_inv|scale_2|scb|absmax|quant_map|zeros|zero_points?|g_idx|amax|act_scales|smooth_scale|weight_scales?|input_scales?|output_scales?|global_scale|scale_weight|scale_input|lora_magnitude_vector)(_\d+|\.weight|\.default)?$/i;
const EIGHT_BITS = new Set(["int8", "float8_e4m3fn", "float8_e5m2"]);

type Made = [weights: Entry[], used: string[]];
type Known = ReadonlyMap<string, Entry>;

/** Replace the ingredients of weights by the weights; ingredients stay as entries with a reason. */
export function weightsInUse(entries: Entry[]): Entry[] {
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  const made = new Map<string, Entry[]>(); // name of an ingredient -> what stands in its place
  const stems = new Map<string, number>();
  for (const { name } of entries) {
    const stem = UPDATE.exec(name)?.groups!["stem"];
    if (stem !== undefined) stems.set(stem, (stems.get(stem) ?? 0) + 1);
  }
  const magnitudes = entries.map(({ name }) => name).filter((name) => name.includes(".lora_magnitude_vector"));
  const lowRank = (entry: Entry, known: Known): Made | null => updated(entry, known, stems, magnitudes);
  for (const entry of entries) {
    for (const recipe of [lowRank, normalised, spectrallyNormalised, masked, scaled]) {
      const result = recipe(entry, byName);
      if (result === null) continue;
      const [weights, used] = result;
      made.set(entry.name, [...weights, ...(made.get(entry.name) ?? [])]);
      for (const name of used) {
        const part = byName.get(name);
        if (!part) continue;
        const whole = weights[0].name;
        made.set(name, [...(made.get(name) ?? []), { ...part, reason: `a part of ${whole}`, partOf: whole }]);
      }
      break;
    }
  }
  const result = entries.flatMap((entry) => made.get(entry.name) ?? [entry]);
  const taken = new Set(result.filter(({ reason }) => reason === null).map(({ name }) => name));
  const seen = new Set<string>();
  return result.filter(({ name, reason }) => {
    const key = JSON.stringify([name, reason]);
    if (seen.has(key) || (reason !== null && taken.has(name))) return false;
    seen.add(key);
    return true;
  });
}

/** Return what a name says of a quantised weight, or null. */
export function partOfQuantised(name: string): string | null {
  if (PACKED.test(name)) return "packed integers of a quantised weight: dequantise the model first";
  return SCALE.test(name) ? "a scale, not a weight" : null;
}

/** g v / |v|, of torch's weight normalisation in both of its forms (Salimans & Kingma 2016). */
function normalised(entry: Entry, known: Known): Made | null {
  const match = /^(.*)parametrizations\.(\w+)\.original1$/.exec(entry.name);
  let [name, length] = ["", ""];
  if (match) [name, length] = [match[1] + match[2], `${match[1]}parametrizations.${match[2]}.original0`];
  else if (entry.name.endsWith("_v") && (entry.shape === null || entry.shape.length > 1)) {
    name = entry.name.slice(0, -2);
    length = `${name}_g`;
  } else return null;
  const other = known.get(length);
  if (!other) return null;
  const load = async (): Promise<Tensor> => {
    const [v, g] = [flat(await entry.load()), flat(await other.load())];
    if (g.shape.length && (g.shape.length !== v.shape.length || g.shape.some((side, i) => side !== 1 && side !== v.shape[i])))
      throw new Unreadable(`shapes (${v.shape}) and (${g.shape})`);
    const group = groupsOf(v.shape, g.shape);
    const squares = new Float64Array(g.values.length);
    v.values.forEach((x, i) => (squares[group[i]] += x * x));
    return tensor(v, v.values.map((x, i) => (g.values[group[i]] * x) / Math.sqrt(squares[group[i]])));
  };
  return [[{ ...entry, name, load: checked(load, name) }], [entry.name, length]];
}

/** W / (u^T W v), of torch's spectral normalisation in both of its forms. */
function spectrallyNormalised(entry: Entry, known: Known): Made | null {
  const match = /^(.*)parametrizations\.(\w+)\.original$/.exec(entry.name);
  let name: string;
  let vectors: string[];
  if (match) {
    name = match[1] + match[2];
    vectors = ["u", "v"].map((x) => `${match[1]}parametrizations.${match[2]}.0._${x}`);
  } else if (entry.name.endsWith("_orig")) {
    name = entry.name.slice(0, -"_orig".length);
    vectors = [`${name}_u`, `${name}_v`];
  } else return null;
  const [left, right] = vectors.map((vector) => known.get(vector));
  if (!left || !right) return null;
  const load = async (): Promise<Tensor> => {
    const W = flat(await entry.load());
    const [u, v] = [flat(await left.load()).values, flat(await right.load()).values];
    const count = countOf(W.shape);
    const axis = u.length === W.shape[0] && u.length * v.length === count ? 0 : 1;
    if (axis >= W.shape.length || u.length !== W.shape[axis] || u.length * v.length !== count)
      throw new Unreadable(`shapes (${W.shape}), ${u.length} and ${v.length}`);
    const inner = countOf(W.shape.slice(axis + 1));
    let norm = 0;
    W.values.forEach((x, i) => {
      const row = Math.floor(i / inner) % u.length;
      const column = Math.floor(i / (inner * u.length)) * inner + (i % inner);
      norm += u[row] * x * v[column];
    });
    return tensor(W, W.values.map((x) => x / norm));
  };
  return [[{ ...entry, name, load: checked(load, name) }], [entry.name, ...vectors]];
}

/** The product with its mask, of torch's pruning. */
function masked(entry: Entry, known: Known): Made | null {
  if (!entry.name.endsWith("_orig")) return null;
  const name = entry.name.slice(0, -"_orig".length);
  const mask = known.get(`${name}_mask`);
  if (!mask) return null;
  const load = async (): Promise<Tensor> => {
    const [W, m] = [flat(await entry.load()), flat(await mask.load())];
    if (m.values.length !== W.values.length) throw new Unreadable(`shapes (${W.shape}) and (${m.shape})`);
    return tensor(W, W.values.map((x, i) => x * m.values[i]));
  };
  return [[{ ...entry, name, load: checked(load, name) }], [entry.name, mask.name]];
}

/** Numbers of eight bits, times their scales: one, one per row, or one per block. */
function scaled(entry: Entry, known: Known): Made | null {
  const { name } = entry;
  const dot = name.lastIndexOf(".");
  const [prefix, last] = [name.slice(0, dot + 1), name.slice(dot + 1)];
  let candidates = [`${name}_scale_inv`, `${name}_scale`, `${prefix}scale_${last}`, `${prefix}SCB`];
  const whole = name.replace(/\._data$/, "");
  if (whole !== name) candidates = [`${whole}._scale`];
  const scaleName = candidates.find((candidate) => known.has(candidate));
  if (scaleName === undefined || (entry.shape !== null && entry.shape.length < 2)) return null;
  const scale = known.get(scaleName)!;
  const zeros = known.get(`${name}_zero_point`) ?? known.get(`${prefix}zero_point`);
  const load = async (): Promise<Tensor> => {
    const stored = flat(await entry.load());
    if (!EIGHT_BITS.has(stored.dtype))
      throw new Unreadable(`packed numbers (${stored.dtype}) with scales: dequantise the model first`);
    const divisor = scaleName.endsWith("SCB") ? 127 : 1;
    const factor = grown(flat(await scale.load()), stored.shape);
    const shift = zeros ? grown(flat(await zeros.load()), stored.shape) : () => 0;
    const values = stored.values.map((x, i) => Math.fround(Math.fround(x - Math.fround(shift(i))) * Math.fround(Math.fround(factor(i)) / divisor)));
    return tensor({ ...stored, dtype: "float32" }, values);
  };
  const used = [scaleName, ...(known.has(`${name}_zero_point`) ? [`${name}_zero_point`] : []), ...(whole !== name ? [name] : [])];
  return [[{ ...entry, name: whole, load: checked(load, whole), made: "float32", identity: null }], used];
}

/** Return the scale at each place of an array in which every scale covers a block; the last blocks may be smaller. */
function grown(scale: Flat, shape: readonly number[]): (place: number) => number {
  if (scale.values.length === 1) return () => scale.values[0];
  let sides = [...scale.shape];
  if (sides.length === 1) sides = sides[0] === shape[0] ? [sides[0], 1] : [1, sides[0]];
  while (sides.length < shape.length) sides.push(1);
  const misfit = new Unreadable(`its scales have the shape (${sides.join(", ")}), its numbers (${shape.join(", ")})`);
  if (sides.length !== shape.length) throw misfit;
  const blocks = sides.map((count, axis) => {
    const size = shape[axis];
    if (count === size) return 1;
    if (count === 1) return size;
    const block = 2 ** Math.ceil(Math.log2(size / count));
    if (Math.ceil(size / block) === count) return block;
    if (size % count) throw misfit;
    return size / count;
  });
  const { strides } = dense(sides);
  return (place) => {
    let at = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += Math.floor((place % shape[axis]) / blocks[axis]) * strides[axis];
      place = Math.floor(place / shape[axis]);
    }
    return scale.values[at];
  };
}

/** (alpha / r) B A of LoRA (Hu et al. 2022), and W + (alpha / r) B A where W is there too. */
function updated(entry: Entry, known: Known, stems: Map<string, number>, magnitudes: string[]): Made | null {
  const match = UPDATE.exec(entry.name);
  if (match === null) return null;
  const { stem, down, tail } = match.groups as { stem: string; down: string; tail: string };
  const [begin, end] = match.indices!.groups!["down"];
  const up = known.get(entry.name.slice(0, begin) + UP[down] + entry.name.slice(end));
  if (!up) return null;
  const adapter = tail.replace(/\.weight$/, "").replace(/^\.+/, "");
  const alpha = known.get(`${stem}.alpha`) ?? known.get(`${stem}.lora_alpha`);
  const update = `${stem}.lora${adapter === "" || adapter === "default" ? "" : `.${adapter}`}`;
  const product = async (): Promise<Tensor> => {
    const [A, B] = [flat(await entry.load()), flat(await up.load())];
    const [rank, rows] = [A.shape[0], B.shape[0]];
    const columns = A.values.length / rank;
    if (B.values.length !== rows * rank) throw new Unreadable(`shapes (${B.shape}) and (${A.shape})`);
    const scale = alpha ? flat(await alpha.load()).values[0] / rank : 1;
    const values = new Float64Array(rows * columns);
    for (let i = 0; i < rows; i++)
      for (let k = 0; k < rank; k++) {
        const factor = B.values[i * rank + k];
        for (let j = 0; j < columns; j++) values[i * columns + j] += factor * A.values[k * columns + j];
      }
    return tensor({ dtype: A.dtype, shape: [rows, ...A.shape.slice(1)] }, values.map((x) => scale * x));
  };
  const shape = entry.shape && up.shape ? [up.shape[0], ...entry.shape.slice(1)] : null;
  const made: Entry[] = [{ ...entry, name: update, load: checked(product, update), shape, kind: "update", identity: null }];
  const used = [entry.name, up.name, ...(alpha ? [alpha.name] : [])];
  const base = [`${stem}.base_layer.weight`, `${stem}.weight`, `${stem}.linear.weight`].map((name) => known.get(name)).find((e) => e);
  const magnitude = magnitudes.some((name) => name.startsWith(`${stem}.lora_magnitude_vector`));
  if (base && alpha && (stems.get(stem) ?? 0) <= 1 && !magnitude) {
    const whole = `${stem}.weight`;
    const merged = async (): Promise<Tensor> => {
      const [W, change] = [flat(await base.load()), flat(await product())];
      if (change.values.length !== W.values.length) throw new Unreadable(`shapes (${W.shape}) and (${change.shape})`);
      return tensor(W, W.values.map((x, i) => x + change.values[i]));
    };
    made.push({ ...base, name: whole, load: checked(merged, whole), identity: null });
    used.push(base.name);
  }
  return [made, used];
}

function checked(load: () => Promise<Tensor>, name: string): () => Promise<Tensor> {
  return async () => {
    try {
      return await load();
    } catch (error) {
      throw new Unreadable(`the parts of ${name} do not fit together: ${oneLine(error)}`);
    }
  };
}

interface Flat {
  values: Float64Array;
  shape: readonly number[];
  dtype: string;
}

function flat(tensor: Tensor): Flat {
  return { values: flattened(tensor), shape: tensor.shape, dtype: tensor.dtype };
}

/** Make a tensor of a floating type from numbers in the order of its axes. */
function tensor({ dtype, shape }: { dtype: string; shape: readonly number[] }, values: Float64Array): Tensor {
  const data = dtype === "float64" ? (values as Float64Array<ArrayBuffer>) : Float32Array.from(values, (x) => rounded(x, dtype));
  return { ...dense(shape), data, dtype };
}

/** Return for each place of an array the place of its length, in an array with ones for the axes of the norm. */
function groupsOf(shape: readonly number[], kept: readonly number[]): Int32Array {
  const { strides } = dense(kept);
  return new Int32Array(countOf(shape)).map((_, place) => {
    let at = 0;
    for (let axis = kept.length - 1; axis >= 0; axis--) {
      if (kept[axis] !== 1) at += (place % shape[axis]) * strides[axis];
      place = Math.floor(place / shape[axis]);
    }
    return at;
  });
}
