// Says what a file is by its first bytes, and lists the tensors in it.
// Source: htlib/models/files.py.

import type { Entry } from "../mirror/entries";
import { weightsInUse } from "../mirror/weights";
import { entriesOfNpz } from "./npz";
import { entriesOfSafetensors } from "./safetensors";
import { quoted } from "./shell";
import { characters, type Source, Unreadable } from "./source";
import { entriesOfTorch } from "./torch_zip";
import { members } from "./zip";

const HTML = "an HTML page, not a model: the download failed, so repeat it with access to the file";
const BEGINNINGS: [string, string][] = [
  ["version https://git-lfs", "a Git LFS pointer, not the file: run 'git lfs pull' in its repository"],
  ["<!doctype html", HTML],
  ["<html", HTML],
  ["gguf", "a GGUF file, whose weights are packed: take the model that it was made from"],
  ["\x1f\x8b", "compressed by gzip: unpack it first"],
  ["\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"],
  ["\xfd7zxz", "compressed by xz: unpack it first"],
  ["bzh", "compressed by bzip2: unpack it first"],
  ["rar!", "a RAR archive: unpack it first"],
  ["7z\xbc\xaf", "a 7z archive: unpack it first"],
];

/**
 * List the tensors of a model in one file or in several, and put together the weights that are in use.  Names that two
 * files share begin with that of their file.  `most` limits the bytes of a packed array.
 */
export async function entriesOf(sources: readonly Source[], most: number): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const source of sources)
    entries.push(...(await stored(source, most)).map((entry) => ({ ...entry, file: source.name, identity: entry.identity && `${source.name} ${entry.identity}` })));
  const counts = new Map<string, number>();
  for (const { name } of entries) counts.set(name, (counts.get(name) ?? 0) + 1);
  return weightsInUse(entries.map((entry) => (counts.get(entry.name)! > 1 ? { ...entry, name: `${entry.file}/${entry.name}` } : entry)));
}

async function stored(source: Source, most: number): Promise<Entry[]> {
  const { name } = source;
  if (source.size === 0) throw new Unreadable(`${name} is empty`);
  const head = characters(await source.bytes(0, Math.min(512, source.size)));
  const begin = head.trimStart().toLowerCase();
  const way = BEGINNINGS.find(([sign]) => begin.startsWith(sign) || head.startsWith(sign));
  if (way) throw new Unreadable(`${name} is ${way[1]}`);
  if (head.slice(257, 262) === "ustar") throw new Unreadable(`${name} is a tar archive: unpack it first`);
  if (head.startsWith("PK\x03\x04")) {
    const archive = await members(source);
    if (archive.some((member) => member.name.endsWith("data.pkl"))) return entriesOfTorch(source, archive);
    if (archive.length && archive.every((member) => member.name.endsWith(".npy"))) return entriesOfNpz(source, archive, most);
    if (archive.some((member) => member.name === "model.weights.h5")) throw elsewhere(name, "a Keras file");
    throw new Unreadable(`${name} is a zip archive of other files: unpack it first`);
  }
  if (head.startsWith("\x89HDF")) throw elsewhere(name, "an HDF5 file");
  if (head.startsWith("\x93NUMPY")) throw elsewhere(name, "a single array of NumPy");
  if (head.startsWith("\x80")) throw elsewhere(name, "a plain pickle, or an older file of torch");
  if (head[8] === "{" || name.endsWith(".safetensors")) return entriesOfSafetensors(source);
  if (/\.onnx$/.test(name)) throw elsewhere(name, "an ONNX file");
  throw new Unreadable(`${name} is no model that this page reads: it takes safetensors, .npz, and .pt, .pth or .bin of torch`);
}

function elsewhere(name: string, what: string): Unreadable {
  return new Unreadable(`${name} is ${what}, which this page does not read: htlib analyze ${quoted(name)}`);
}
