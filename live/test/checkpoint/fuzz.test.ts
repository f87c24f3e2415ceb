// Files that are damaged or lie.  The promise: their tensors, or one line; and soon, without room for what is not there.
//
// More cases:  FUZZ_CASES=200000 FUZZ_SEED=1 npx vitest run test/checkpoint/fuzz.test.ts
// Last longer run: seed 7, 60,000 cases, no broken promise.

import { deflateRawSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { Model } from "../../src/checkpoint/analysis";
import { crcOf } from "../../src/checkpoint/zip";
import { Source, Unreadable } from "../../src/checkpoint/source";
import { Generator } from "../../src/random";
import { NPZ, SAFETENSORS, TORCH } from "./good_files";

const CASES = Number(process.env["FUZZ_CASES"] ?? 600);
const SEED = Number(process.env["FUZZ_SEED"] ?? 0);
const LIMITS = { size: 4096, bytes: 2 ** 22 };
const GOOD = { "m.pt": TORCH, "m.npz": NPZ, "m.safetensors": SAFETENSORS };
const latin = (text: string): number[] => Array.from(text, (character) => character.charCodeAt(0));
const WORDS = [
  ...["\xff".repeat(8), "\0".repeat(4), "..", "-1", "1e999", "[".repeat(50), "{", '"', "\n", "\x80\x05", "}q\x00", "((((", "tR.", "\x8e" + "\xff".repeat(8)],
].map(latin);

/** Return the names that can be loaded, or the line that says why the file cannot be read. */
async function read(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<string[] | string> {
  try {
    const model = await Model.open([new Source(new Blob([bytes]), name)], LIMITS);
    const loaded: string[] = [];
    for (const [i, listed] of model.listed().entries()) {
      if (!listed.open) continue;
      await model.entries[i].load().then(
        () => loaded.push(listed.name),
        (error: unknown) => expectLine(error),
      );
    }
    return loaded;
  } catch (error) {
    return expectLine(error);
  }
}

function expectLine(error: unknown): string {
  if (!(error instanceof Unreadable)) throw error;
  expect(error.message).not.toMatch(/\n/);
  expect(error.message.length).toBeLessThan(700);
  return error.message;
}

function damaged(bytes: Uint8Array<ArrayBuffer>, random: (below: number) => number): Uint8Array<ArrayBuffer> {
  let result = [...bytes];
  for (let turn = 1 + random(4); turn > 0; turn--) {
    const place = random(result.length + 1);
    const way = random(6);
    if (way === 0 && place < result.length) result[place] = random(256);
    else if (way === 1 && random(3) === 0) result = result.slice(0, place);
    else if (way === 2) result.splice(place, 0, ...WORDS[random(WORDS.length)]);
    else if (way === 3) result.splice(place, WORDS[0].length, ...WORDS[random(WORDS.length)]);
    else if (way === 4) result.splice(place, random(40));
    else result.splice(place, 0, ...result.slice(place, place + random(60)));
  }
  return Uint8Array.from(result);
}

describe("damaged files", () => {
  it("good ones are read whole", async () => {
    expect(await read(TORCH, "m.pt")).toEqual(["model.w", "model.b", "array"].filter((name) => name === "model.w"));
    expect(await read(NPZ, "m.npz")).toEqual(["w", "f"]);
    expect(await read(SAFETENSORS, "m.safetensors")).toEqual(["w"]);
  });

  it(`${CASES} of them give tensors or one line`, { timeout: 0 }, async () => {
    const draws = new Generator(SEED, 1);
    const random = (below: number): number => Math.min(below - 1, Math.floor(Math.exp(-draws.chiSquared(2) / 2) * below)); // uniform
    const names = Object.keys(GOOD) as (keyof typeof GOOD)[];
    let refused = 0;
    for (let i = 0; i < CASES; i++) {
      const name = names[i % names.length];
      const bytes = damaged(GOOD[name], random);
      try {
        if (typeof (await read(bytes, name)) === "string") refused++;
      } catch (error) {
        throw new Error(`case ${i}, ${name}: ${Buffer.from(bytes).toString("base64")}`, { cause: error });
      }
    }
    expect(refused).toBeGreaterThan(CASES / 10); // the damage does reach the readers
  });
});

/** A zip archive of members that are stored, or deflated, with the sizes that the members claim. */
function zipped(members: { name: string; bytes: Uint8Array; method?: number; size?: number }[]): Uint8Array<ArrayBuffer> {
  const parts: number[] = [];
  const directory: number[] = [];
  const le = (value: number, width: number): number[] => Array.from({ length: width }, (_, i) => Math.floor(value / 256 ** i) % 256);
  for (const { name, bytes, method = 0, size = bytes.length } of members) {
    const packed = method === 8 ? deflateRawSync(bytes) : bytes;
    const common = [...le(20, 2), ...le(0, 2), ...le(method, 2), ...le(0, 4), ...le(crcOf(bytes), 4), ...le(packed.length, 4), ...le(size, 4), ...le(name.length, 2), ...le(0, 2)];
    directory.push(...latin("PK\x01\x02"), ...le(20, 2), ...common, ...le(0, 2), ...le(0, 2), ...le(0, 2), ...le(0, 4), ...le(parts.length, 4), ...latin(name));
    parts.push(...latin("PK\x03\x04"), ...common, ...latin(name));
    for (const byte of packed) parts.push(byte);
  }
  const end = [...latin("PK\x05\x06"), ...le(0, 4), ...le(members.length, 2), ...le(members.length, 2), ...le(directory.length, 4), ...le(parts.length, 4), ...le(0, 2)];
  return Uint8Array.from([...parts, ...directory, ...end]);
}

const torch = (program: string): Uint8Array<ArrayBuffer> => zipped([{ name: "x/data.pkl", bytes: Uint8Array.from(latin(program)) }]);
const npy = (header: string, length = 0): Uint8Array => Uint8Array.from([...latin("\x93NUMPY\x01\x00"), header.length % 256, header.length >> 8, ...latin(header), ...new Array<number>(length).fill(0)]);
const safetensors = (header: string, length = 0): Uint8Array<ArrayBuffer> => {
  const size = new Uint8Array(8);
  new DataView(size.buffer).setBigUint64(0, BigInt(header.length), true);
  return Uint8Array.from([...size, ...latin(header), ...new Array<number>(length).fill(0)]);
};

describe("files that lie", { timeout: 60_000 }, () => {
  it.each([
    ["a bomb", "m.npz", zipped([{ name: "w.npy", bytes: new Uint8Array(3_000_000), method: 8, size: 1000 }]), /no array of NumPy|more bytes/],
    ["a size that nothing unpacks to", "m.npz", zipped([{ name: "w.npy", bytes: npy("{'descr': '<f4', 'fortran_order': False, 'shape': (900, 900), }"), method: 8, size: 4e9 }]), /more than the|unpack/],
    ["a shape of more numbers than there are", "m.npz", zipped([{ name: "w.npy", bytes: npy("{'descr': '<f4', 'fortran_order': False, 'shape': (900, 900), }", 64) }]), /cut off/],
    ["an array of objects", "m.npz", zipped([{ name: "w.npy", bytes: npy("{'descr': '|O', 'fortran_order': False, 'shape': (90, 90), }", 64) }]), /Object/],
    ["a header of a hundred gigabytes", "m.safetensors", Uint8Array.from([0, 0, 0, 0, 25, 0, 0, 0, ...latin("{}")]), /header claims/],
    ["offsets outside", "m.safetensors", safetensors('{"w":{"dtype":"F32","shape":[20,20],"data_offsets":[0,1600]}}', 10), /describes/],
    ["offsets that overlap", "m.safetensors", safetensors('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"v":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', 12), /ends/],
    ["a shape that is too large to count", "m.safetensors", safetensors('{"w":{"dtype":"F32","shape":[9007199254740991,9007199254740991],"data_offsets":[0,8]}}', 8), /shape/],
    ["a header nested a hundred thousand deep", "m.safetensors", safetensors("[".repeat(100_000)), /damaged/],
    ["a pickle nested a hundred thousand deep", "m.pt", torch(`\x80\x02${"(".repeat(100_000)}${"l".repeat(100_000)}.`), /list/],
    ["a mapping in itself", "m.pt", torch("\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."), /^$/],
    ["values that double thirty times", "m.pt", torch(`\x80\x02]q\x000${"(h\x00h\x00lq\x000".repeat(30)}}X\x01\x00\x00\x00ah\x00s.`), /million/],
    ["a text of four gigabytes", "m.pt", torch("\x80\x02X\xff\xff\xff\xff."), /cut off/],
    ["a number of two gigabytes", "m.pt", torch("\x80\x02\x8b\xff\xff\xff\x7f."), /cut off/],
    ["an empty stack", "m.pt", torch("\x80\x02R."), /stack/],
    ["a call of what runs", "m.pt", torch("cos\nsystem\n(S'echo'\ntR."), /^$/],
    ["members that are not there", "m.pt", Uint8Array.from([...TORCH.slice(0, 100), ...TORCH.slice(-22)]), /damaged|cut off/],
  ])("%s", async (_, name, bytes, message) => {
    const result = await read(bytes as Uint8Array<ArrayBuffer>, name);
    const listed = async (): Promise<string> => {
      const model = await Model.open([new Source(new Blob([bytes as Uint8Array<ArrayBuffer>]), name)], LIMITS);
      const reasons = await Promise.all(model.entries.map((entry) => entry.load().then(() => "", expectLine)));
      return reasons.join("");
    };
    expect(typeof result === "string" ? result : await listed()).toMatch(message);
  });
});
