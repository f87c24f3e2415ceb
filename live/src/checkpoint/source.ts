// Reads ranges of a file, which is never in memory as a whole.

/** A file from which no model can be read, or a tensor that cannot; the message is one line. */
export class Unreadable extends Error {}

const SLICE = 2 ** 24;

export class Source {
  constructor(
    private readonly blob: Blob,
    readonly name: string,
  ) {}

  get size(): number {
    return this.blob.size;
  }

  /** The name without its last suffix. */
  get stem(): string {
    return this.name.replace(/(.)\.[^.]*$/, "$1");
  }

  /** Return the bytes from `begin` to before `end`, which must lie within the file. */
  async bytes(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    if (!(begin >= 0 && end >= begin && end <= this.size)) throw new Unreadable(`${this.name} is cut off`);
    const result = allocated(end - begin);
    for (let at = begin; at < end; at += SLICE) {
      const part = this.blob.slice(at, Math.min(at + SLICE, end));
      result.set(new Uint8Array(await arrived(part.arrayBuffer(), this.name)), at - begin);
    }
    return result;
  }

  /** Unpack `size` bytes of a deflated range; more or fewer are an error. */
  async inflated(begin: number, end: number, size: number): Promise<Uint8Array<ArrayBuffer>> {
    const result = allocated(size);
    let at = 0;
    const stream = this.blob.slice(begin, end).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const reader = stream.getReader();
    for (;;) {
      const { done, value } = await arrived(reader.read(), this.name);
      if (done) break;
      if (at + value.length > size) {
        void reader.cancel();
        throw new Unreadable("it unpacks to more bytes than it says");
      }
      result.set(value, at);
      at += value.length;
    }
    if (at !== size) throw new Unreadable("it unpacks to fewer bytes than it says");
    return result;
  }

  /** Unpack the first bytes of a deflated range, at most `most`. */
  async beginningOfInflated(begin: number, end: number, most: number): Promise<Uint8Array<ArrayBuffer>> {
    const result = new Uint8Array(most);
    let at = 0;
    const stream = this.blob.slice(begin, Math.min(end, begin + most)).stream();
    const reader = stream.pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    while (at < most) {
      // an end that is missing because the range was cut short is no error here
      const { done, value } = await arrived(reader.read(), this.name).catch((error: unknown) => {
        if (at > 0 && error instanceof Unreadable) return { done: true, value: undefined };
        throw error;
      });
      if (done || !value) break;
      const part = value.subarray(0, most - at);
      result.set(part, at);
      at += part.length;
    }
    reader.cancel().catch(() => {}); // there is nothing left that could fail
    return result.subarray(0, at);
  }
}

async function arrived<T>(promise: Promise<T>, name: string): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw new Unreadable(`${name} cannot be read: ${oneLine(error)}`);
  }
}

function allocated(size: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(size);
  } catch {
    throw new Unreadable(`the browser has no room for ${size} bytes at once`);
  }
}

/** Return one character per byte.  (The decoder that is called latin1 is that of Windows.) */
export const characters = (bytes: Uint8Array): string => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");

/** Return the first line of an error. */
export function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0].slice(0, 300);
}
