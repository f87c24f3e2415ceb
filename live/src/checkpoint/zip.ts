// The directory of a zip archive, and its members, with the extension for large files.

import { type Source, Unreadable } from "./source";

export interface Member {
  name: string;
  /** 0: as it is, 8: deflated. */
  method: number;
  packed: number;
  size: number;
  crc: number;
  header: number;
}

const MOST_MEMBERS = 200_000;
const LONGEST = 2 ** 26; // bytes of the directory
const EXPANSION = 1100; // deflate cannot do better

/** List the members of an archive. */
export async function members(source: Source): Promise<Member[]> {
  const tail = await source.bytes(Math.max(0, source.size - 65_557), source.size);
  const view = new DataView(tail.buffer);
  let at = tail.length - 22;
  while (at >= 0 && view.getUint32(at, true) !== 0x06054b50) at--;
  if (at < 0) throw new Unreadable(`${source.name} is cut off or damaged: it has no directory`);
  let count = view.getUint16(at + 10, true);
  let size = view.getUint32(at + 12, true);
  let begin = view.getUint32(at + 16, true);
  if (at >= 20 && view.getUint32(at - 20, true) === 0x07064b50) {
    const place = Number(view.getBigUint64(at - 12, true));
    const end = new DataView((await source.bytes(place, place + 56)).buffer);
    if (end.getUint32(0, true) !== 0x06064b50) throw new Unreadable(`${source.name} is damaged: its directory is lost`);
    [count, size, begin] = [32, 40, 48].map((offset) => Number(end.getBigUint64(offset, true)));
  }
  if (count > MOST_MEMBERS || size > LONGEST)
    throw new Unreadable(`${source.name} is damaged: it claims ${count} members in a directory of ${size} bytes`);
  return listed(await source.bytes(begin, begin + size), count, source);
}

function listed(directory: Uint8Array<ArrayBuffer>, count: number, source: Source): Member[] {
  const view = new DataView(directory.buffer);
  const result: Member[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > directory.length || view.getUint32(at, true) !== 0x02014b50)
      throw new Unreadable(`${source.name} is damaged: its directory ends early`);
    const u16 = (offset: number): number => view.getUint16(at + offset, true);
    const u32 = (offset: number): number => view.getUint32(at + offset, true);
    const [length, extra, comment] = [u16(28), u16(30), u16(32)];
    const next = at + 46 + length + extra + comment;
    if (next > directory.length) throw new Unreadable(`${source.name} is damaged: its directory ends early`);
    const name = new TextDecoder().decode(directory.subarray(at + 46, at + 46 + length));
    const member: Member = { name, method: u16(10), crc: u32(16), packed: u32(20), size: u32(24), header: u32(42) };
    if (u16(8) & 1) throw new Unreadable(`${source.name} is encrypted`);
    enlarge(member, view, at + 46 + length, at + 46 + length + extra);
    if (member.header + member.packed > source.size) throw new Unreadable(`${source.name} is cut off or damaged: ${name} is not in it`);
    result.push(member);
    at = next;
  }
  return result;
}

/** Take sizes of more than four bytes from the field for them. */
function enlarge(member: Member, view: DataView, from: number, to: number): void {
  for (let at = from; at + 4 <= to; ) {
    const [kind, length] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
    const end = Math.min(at + 4 + length, to);
    let place = at + 4;
    if (kind === 1)
      for (const field of ["size", "packed", "header"] as const)
        if (member[field] === 0xffffffff && place + 8 <= end) {
          member[field] = Number(view.getBigUint64(place, true));
          place += 8;
        }
    at = at + 4 + length;
  }
}

/** Return where the bytes of a member begin. */
export async function beginning(source: Source, member: Member): Promise<number> {
  const header = new DataView((await source.bytes(member.header, member.header + 30)).buffer);
  if (header.getUint32(0, true) !== 0x04034b50) throw new Unreadable(`${source.name} is damaged: ${member.name} is not in its place`);
  const begin = member.header + 30 + header.getUint16(26, true) + header.getUint16(28, true);
  if (begin + member.packed > source.size) throw new Unreadable(`${source.name} is cut off`);
  return begin;
}

/** Return the bytes of a member, unpacked, whose checksum is right. */
export async function contentOf(source: Source, member: Member, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const { name, size, packed, method } = member;
  if (size > most) throw new Unreadable(`${name} has ${size} bytes, more than the ${most} that this page takes`);
  if (size > EXPANSION * packed + 1000) throw new Unreadable(`${name} says that ${packed} bytes unpack to ${size}`);
  const begin = await beginning(source, member);
  let bytes: Uint8Array<ArrayBuffer>;
  if (method === 0 && size === packed) bytes = await source.bytes(begin, begin + size);
  else if (method === 8) bytes = await source.inflated(begin, begin + packed, size);
  else throw new Unreadable(`${name} is packed in a way that this page cannot unpack (${method})`);
  if (crcOf(bytes) !== member.crc) throw new Unreadable(`${name} is damaged: its checksum is wrong`);
  return bytes;
}

// Four tables: four bytes per turn of the loop.
const CRC = new Int32Array(4 * 256);
for (let i = 0; i < 256; i++) {
  let c = i;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  CRC[i] = c;
}
for (let i = 256; i < CRC.length; i++) CRC[i] = CRC[CRC[i - 256] & 255] ^ (CRC[i - 256] >>> 8);

export function crcOf(bytes: Uint8Array): number {
  let c = -1;
  let i = 0;
  for (; i + 4 <= bytes.length; i += 4) {
    c ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    c = CRC[768 + (c & 255)] ^ CRC[512 + ((c >>> 8) & 255)] ^ CRC[256 + ((c >>> 16) & 255)] ^ CRC[c >>> 24];
  }
  for (; i < bytes.length; i++) c = CRC[(c ^ bytes[i]) & 255] ^ (c >>> 8);
  return ~c >>> 0;
}
