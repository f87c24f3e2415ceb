// The header of a safetensors file, checked as its own library checks it.

import { countOf, dense, type Entry, entry, refusal } from "../mirror/entries";
import { decoded, TYPES } from "./numbers";
import { oneLine, type Source, Unreadable } from "./source";

const LONGEST = 100_000_000; // bytes of a header, as the format says
const NAMES: Record<string, string> = {
  F64: "float64", F32: "float32", F16: "float16", BF16: "bfloat16", F8_E4M3: "float8_e4m3fn", F8_E5M2: "float8_e5m2",
  I64: "int64", I32: "int32", I16: "int16", I8: "int8", U64: "uint64", U32: "uint32", U16: "uint16", U8: "uint8",
  BOOL: "bool", C64: "complex64",
};

export async function entriesOfSafetensors(source: Source): Promise<Entry[]> {
  const damaged = (what: string): Unreadable =>
    new Unreadable(`${source.name} is cut off or damaged, or is not a safetensors file: ${what}`);
  const length = Number(new DataView((await source.bytes(0, 8)).buffer).getBigUint64(0, true));
  if (length > LONGEST || 8 + length > source.size) throw damaged(`its header claims ${length} bytes`);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(await source.bytes(8, 8 + length)));
  } catch (error) {
    throw error instanceof Unreadable ? error : damaged(oneLine(error));
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) throw damaged("its header is no object");
  const found: { begin: number; end: number; entry: Entry }[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: place } = (value ?? {}) as Record<string, unknown>;
    if (!whole(shape) || !whole(place) || place.length !== 2 || typeof dtype !== "string")
      throw damaged(`the description of ${JSON.stringify(name).slice(0, 80)} is wrong`);
    const [begin, end] = place;
    const type = NAMES[dtype];
    if (type === undefined) {
      const load = refusal(`of a type that this page does not read (${dtype.slice(0, 20)})`);
      found.push({ begin, end, entry: entry(name, load, { shape }) });
      continue;
    }
    if (end - begin !== countOf(shape) * TYPES[type].width) throw damaged(`${name} has the shape (${shape}) and ${end - begin} bytes`);
    const load = async () => ({ ...dense(shape), dtype: type, data: decoded(await source.bytes(8 + length + begin, 8 + length + end), type) });
    found.push({ begin, end, entry: entry(name, load, { shape, made: type, dtype: TYPES[type].kind === "float" ? type : null }) });
  }
  found.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let last = 0;
  for (const { begin, end, entry } of found) {
    if (begin !== last || end < begin) throw damaged(`${entry.name} is not where the one before it ends`);
    last = end;
  }
  if (8 + length + last !== source.size) throw damaged(`it has ${source.size} bytes, and its header describes ${8 + length + last}`);
  return found.map(({ entry }) => entry);
}

const whole = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length < 100 && value.every((x) => Number.isSafeInteger(x) && x >= 0);
