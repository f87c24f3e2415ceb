// Arrays of NumPy in a zip archive.

import { countOf, dense, type Entry, entry, type Layout, refusal } from "../mirror/entries";
import { decoded, TYPES } from "./numbers";
import { characters, oneLine, type Source, Unreadable } from "./source";
import { beginning, contentOf, type Member } from "./zip";

const TYPE_NAMES: Record<string, string> = {
  f8: "float64", f4: "float32", f2: "float16", i8: "int64", i4: "int32", i2: "int16", i1: "int8",
  u8: "uint64", u4: "uint32", u2: "uint16", u1: "uint8", b1: "bool", c8: "complex64", c16: "complex128",
};
const HEADER = 65_536; // bytes that a header may have; npy's own limit without warnings is 10,000

interface Header extends Layout {
  dtype: string;
  bigEndian: boolean;
  /** Where the numbers begin. */
  begin: number;
}

/** List the arrays of an archive whose members all end in .npy; `most` is the largest number of bytes of one. */
export async function entriesOfNpz(source: Source, archive: Member[], most: number): Promise<Entry[]> {
  const result: Entry[] = [];
  for (const member of archive) {
    const name = member.name.replace(/\.npy$/, "");
    const reason = (error: unknown): string => `${source.name}: '${name}' cannot be read: ${oneLine(error)}`;
    try {
      const { shape, dtype } = headerOf(await headOf(source, member));
      const load = async () => {
        try {
          const bytes = await contentOf(source, member, most);
          const { begin, bigEndian, ...layout } = headerOf(bytes);
          const size = countOf(shape) * TYPES[dtype].width;
          if (begin + size > bytes.length) throw new Unreadable("it is cut off");
          return { ...layout, data: decoded(bytes.subarray(begin, begin + size), dtype, bigEndian) };
        } catch (error) {
          throw error instanceof Unreadable ? new Unreadable(reason(error)) : error;
        }
      };
      result.push(entry(name, load, { header: shape, made: dtype }));
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      result.push(entry(name, refusal(reason(error))));
    }
  }
  return result;
}

/** Return the first bytes of a member. */
async function headOf(source: Source, member: Member): Promise<Uint8Array<ArrayBuffer>> {
  const begin = await beginning(source, member);
  if (member.method === 0) return source.bytes(begin, begin + Math.min(HEADER, member.packed));
  if (member.method !== 8) throw new Unreadable(`packed in a way that this page cannot unpack (${member.method})`);
  return source.beginningOfInflated(begin, begin + member.packed, HEADER);
}

/** Read the header of an .npy file: a dictionary as Python writes it. */
export function headerOf(bytes: Uint8Array<ArrayBuffer>): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 12 || characters(bytes.subarray(0, 6)) !== "\x93NUMPY")
    throw new Unreadable("it is no array of NumPy");
  const first = bytes[6] === 1;
  const begin = (first ? 10 + view.getUint16(8, true) : 12 + view.getUint32(8, true));
  if (begin > Math.min(bytes.length, HEADER)) throw new Unreadable("its header is cut off");
  const text = characters(bytes.subarray(first ? 10 : 12, begin));
  const descr = /'descr':\s*'([<>|=])([a-zA-Z]\d*)'/.exec(text);
  const order = /'fortran_order':\s*(True|False)/.exec(text);
  const sides = /'shape':\s*\(([\d\s,]*)\)/.exec(text);
  if (!order || !sides) throw new Unreadable("its header is damaged");
  if (!descr) throw new Unreadable(/'descr':\s*'([^']*)'/.test(text) || text.includes("'descr': [") ? "an array of records is no tensor" : "its header is damaged");
  const dtype = TYPE_NAMES[descr[2]];
  if (descr[2].startsWith("O")) throw new Unreadable("Object arrays cannot be loaded when allow_pickle=False");
  if (dtype === undefined) throw new Unreadable(`an array of ${descr[1]}${descr[2]} is no tensor`);
  const shape = sides[1].split(",").filter((side) => side.trim()).map(Number);
  if (shape.length > 64 || !Number.isSafeInteger(countOf(shape) * 16)) throw new Unreadable("its shape is absurd");
  const layout = dense(shape);
  if (order[1] === "True") layout.strides = [...dense([...shape].reverse()).strides].reverse();
  return { ...layout, dtype, bigEndian: descr[1] === ">", begin };
}
