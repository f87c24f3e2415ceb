// Tensors of a zip archive as torch.save and TorchScript write it.
// Source: htlib/models/torch_files.py.

import { countOf, type Entry, entriesIn, Opaque, Stored, type Tensor } from "../mirror/entries";
import { decoded, TYPES } from "./numbers";
import { Name, unpickled } from "./pickle";
import { oneLine, type Source, Unreadable } from "./source";
import { beginning, contentOf, type Member } from "./zip";

const STORAGES: Record<string, string> = {
  Double: "float64", Float: "float32", Half: "float16", BFloat16: "bfloat16", Long: "int64", Int: "int32",
  Short: "int16", Char: "int8", Byte: "uint8", Bool: "bool", ComplexFloat: "complex64", ComplexDouble: "complex128",
  Untyped: "uint8",
};
const LONGEST = 2 ** 26; // bytes of a pickle: a million tensors

/** The numbers that tensors share, by their key in the file. */
class Storage {
  constructor(
    readonly dtype: string,
    readonly key: string,
  ) {}
}

/** A dtype of NumPy. */
class NumpyType {
  constructor(
    readonly name: string,
    public bigEndian = false,
  ) {}
}

/** An array of NumPy; its numbers come with its state. */
class NumpyArray extends Stored {
  constructor() {
    super(() => Promise.reject(new Unreadable("an array without numbers")), [0]);
  }

  fill(given: unknown, type: unknown, fortran: unknown, data: unknown): void {
    const shape = sides(given);
    if (!(type instanceof NumpyType)) throw new Unreadable("an array of no type");
    this.shape = shape;
    this.load = async () => {
      if (!(data instanceof Uint8Array)) throw new Unreadable("an array that cannot be read");
      const numbers = decoded(data.slice(), type.name, type.bigEndian);
      if (numbers.length !== countOf(shape)) throw new Unreadable("an array that cannot be read: its shape does not fit its numbers");
      return { ...inOrder(shape, fortran === true), dtype: type.name, data: numbers };
    };
  }
}

/** List the tensors of a file. */
export async function entriesOfTorch(source: Source, archive: Member[]): Promise<Entry[]> {
  const damaged = `${source.name} is damaged, or holds what cannot be read`;
  try {
    const byName = new Map(archive.map((member) => [member.name, member]));
    const roots = archive.filter(({ name }) => name.endsWith("data.pkl"));
    if (roots.length !== 1) throw new Unreadable("a zip archive without a data.pkl is not of torch");
    const root = roots[0].name.slice(0, -"data.pkl".length);
    const program = await contentOf(source, roots[0], LONGEST);
    const order = byName.get(`${root}byteorder`);
    const bigEndian = order !== undefined && new TextDecoder().decode(await contentOf(source, order, 100)) === "big";
    const content = read(program, (storage, offset, shape, strides) =>
      load(source, byName.get(`${root}data/${storage.key}`), bigEndian, storage, offset, shape, strides),
    );
    if (content instanceof Stored) return entriesIn(new Map([[source.stem, content]]));
    if (!(content instanceof Map || content instanceof Opaque))
      throw new Unreadable(`it holds ${what(content)}, not a mapping of names to tensors`);
    return entriesIn(content);
  } catch (error) {
    throw new Unreadable(`${damaged}: ${oneLine(error)}`);
  }
}

type Load = (storage: Storage, offset: number, shape: number[], strides: number[]) => Promise<Tensor>;

/** Return what a pickle holds, each tensor as Stored. */
function read(program: Uint8Array<ArrayBuffer>, load: Load): unknown {
  const tensor = (storage: unknown, offset: unknown, shape: unknown, strides: unknown): Stored => {
    const [size, steps] = [sides(shape), sides(strides)];
    if (!(storage instanceof Storage) || !Number.isSafeInteger(offset) || size.length !== steps.length)
      throw new Unreadable("a tensor in it has no place");
    const identity = [storage.dtype, storage.key, offset, size, steps].join(" ");
    return new Stored(() => load(storage, offset as number, size, steps), size, storage.dtype, identity);
  };
  const first = (value: unknown): unknown => value;
  const unread = (reason: string) => (): Stored => new Stored(() => Promise.reject(new Unreadable(reason)), null, null, null, reason);
  const calls: Map<string, (...given: any[]) => unknown> = new Map<string, (...given: any[]) => unknown>([
    ["torch._utils _rebuild_tensor", tensor],
    ["torch._utils _rebuild_tensor_v2", tensor],
    ["torch._utils _rebuild_tensor_v3", (storage, offset, shape, strides, _grad, _hooks, type) =>
      tensor(storage instanceof Storage ? new Storage(typeOf(type), storage.key) : storage, offset, shape, strides)],
    ["torch._utils _rebuild_parameter", first],
    ["torch._utils _rebuild_parameter_with_state", first],
    ["torch._tensor _rebuild_from_type_v2", (called, _type, given): unknown => {
      const build = called instanceof Name ? calls.get(`${called.module} ${called.name}`) : undefined;
      return build && Array.isArray(given) ? build(...given) : new Opaque("a subclass of Tensor");
    }],
    ["torch._utils _rebuild_qtensor", unread("quantised: dequantise the model first")],
    ["torch._utils _rebuild_sparse_tensor", unread("not dense")],
    ["torch._utils _rebuild_meta_tensor_no_storage", unread("without values")],
    ["torch.jit._pickle restore_type_tag", first],
    ["torch.jit._pickle build_tensorlist", first],
    ["torch Size", first],
    ["collections OrderedDict", (pairs: unknown = []) => new Map(pairs instanceof Map ? pairs : (pairs as [unknown, unknown][]))],
    ["collections defaultdict", () => new Map()],
    ["_codecs encode", (text) => Uint8Array.from(String(text), (c) => c.charCodeAt(0))],
    ["numpy dtype", (text) => new NumpyType(numpyName(String(text)))],
  ]);
  for (const module of ["numpy.core", "numpy._core"]) {
    calls.set(`${module}.multiarray _reconstruct`, () => new NumpyArray());
    calls.set(`${module}.numeric _frombuffer`, (data: unknown, type: unknown, shape: unknown, order: unknown) => {
      const array = new NumpyArray();
      array.fill(shape, type, order === "F", data);
      return array;
    });
  }
  return unpickled(program, {
    calls,
    persistent(id) {
      if (!Array.isArray(id) || id.length < 3 || id[0] !== "storage") throw new Unreadable("it refers to something outside");
      return new Storage(typeOf(id[1]), String(id[2]));
    },
    build(object, state) {
      if (object instanceof NumpyArray && Array.isArray(state)) object.fill(state[1], state[2], state[3], state[4]);
      else if (object instanceof NumpyType && Array.isArray(state)) object.bigEndian = state[1] === ">";
      else return false;
      return true;
    },
  });
}

/** Return the type of a storage class or of a dtype. */
function typeOf(name: unknown): string {
  if (name instanceof Name) {
    const known = name.name.endsWith("Storage") ? STORAGES[name.name.slice(0, -"Storage".length)] : undefined;
    if (known) return known;
    if (name.module === "torch" && name.name in TYPES) return name.name;
    throw new Unreadable(`${name.module}.${name.name} is no type of numbers that this page knows`);
  }
  throw new Unreadable("a type in it is none");
}

function numpyName(text: string): string {
  const [kind, width] = [text.replace(/^[<>|=]/, "")[0], Number(/\d+$/.exec(text)?.[0])];
  const family = { f: "float", i: "int", u: "uint", c: "complex" }[kind];
  const name = kind === "b" ? "bool" : `${family}${8 * width}`;
  if (!(name in TYPES)) throw new Unreadable(`an array of ${text} is no tensor`);
  return name;
}

async function load(
  source: Source,
  member: Member | undefined,
  bigEndian: boolean,
  storage: Storage,
  offset: number,
  shape: number[],
  strides: number[],
): Promise<Tensor> {
  if (!member) throw new Unreadable(`${source.name} has no data '${storage.key}'`);
  if (member.method !== 0) throw new Unreadable(`${source.name}: data '${storage.key}' is compressed, which torch does not do`);
  const { width } = TYPES[storage.dtype];
  const held = Math.floor(member.size / width);
  const count = countOf(shape);
  const last = count ? shape.reduce((place, side, i) => place + (side - 1) * strides[i], offset) : offset;
  if (count > held || (count && last >= held)) throw new Unreadable(`its shape (${shape.join(", ")}) needs more numbers than the file has`);
  const begin = await beginning(source, member);
  // only the part of the storage that this tensor uses
  const bytes = await source.bytes(begin + offset * width, begin + (count ? last + 1 : offset) * width);
  return { shape, strides, offset: 0, dtype: storage.dtype, data: decoded(bytes, storage.dtype, bigEndian) };
}

function sides(value: unknown): number[] {
  if (!Array.isArray(value) || value.length > 64 || !value.every((x) => Number.isSafeInteger(x) && x >= 0))
    throw new Unreadable("a shape in it is none");
  if (!Number.isSafeInteger(countOf(value as number[]))) throw new Unreadable("a shape in it is absurd");
  return value as number[];
}

function inOrder(shape: number[], fortran: boolean): { shape: number[]; strides: number[]; offset: number } {
  const strides = shape.map(() => 1);
  const order = shape.map((_, i) => (fortran ? i : shape.length - 1 - i));
  for (let k = 1; k < order.length; k++) strides[order[k]] = strides[order[k - 1]] * shape[order[k - 1]];
  return { shape, strides, offset: 0 };
}

function what(value: unknown): string {
  if (value === null) return "None";
  return Array.isArray(value) ? "a list" : `a ${typeof value}`;
}
