// Reads a pickle without running anything.  A pickle is a program for a small machine with a stack; here every class and
// function that it names is only a name, and the few that make tensors and containers are imitated by the caller.

import { Opaque } from "../mirror/entries";
import { Unreadable } from "./source";

/** A class or function that a pickle names. */
export class Name {
  constructor(
    readonly module: string,
    readonly name: string,
  ) {}
}

export interface Builders {
  /** What the calls of known functions give, by "module name". */
  calls: ReadonlyMap<string, (...given: any[]) => unknown>;
  /** What an object outside of the pickle is. */
  persistent(id: unknown): unknown;
  /** Give an object that a call has built its state; return false for an object that takes none. */
  build(object: unknown, state: unknown): boolean;
}

const MOST_STEPS = 20_000_000;
const LONGEST_NUMBER = 256; // bytes of an integer

/** Return what the pickle makes.  The caller turns other errors than Unreadable into one line. */
export function unpickled(bytes: Uint8Array<ArrayBuffer>, builders: Builders): unknown {
  return new Machine(bytes, builders).run();
}

class Machine {
  private at = 0;
  private stack: unknown[] = [];
  private readonly marks: unknown[][] = [];
  private readonly memo = new Map<number, unknown>();
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array<ArrayBuffer>,
    private readonly builders: Builders,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  run(): unknown {
    for (let steps = 0; steps < MOST_STEPS; steps++) {
      const code = this.u8();
      if (code === 0x2e) return this.pop(); // STOP
      this.step(code);
    }
    throw new Unreadable("its pickle has too many instructions");
  }

  private step(code: number): void {
    switch (code) {
      case 0x80: this.at += 1; return; // PROTO
      case 0x95: this.at += 8; return; // FRAME
      case 0x28: this.marks.push(this.stack); this.stack = []; return; // MARK
      case 0x30: if (this.stack.length) this.pop(); else this.popMark(); return; // POP
      case 0x31: this.popMark(); return; // POP_MARK
      case 0x32: this.push(this.top()); return; // DUP
      case 0x4e: return this.push(null); // NONE
      case 0x88: return this.push(true); // NEWTRUE
      case 0x89: return this.push(false); // NEWFALSE
      case 0x49: return this.push(this.decimal()); // INT
      case 0x4c: return this.push(integer(this.line().replace(/L$/, ""))); // LONG
      case 0x4a: return this.push(this.number(4, (at) => this.view.getInt32(at, true))); // BININT
      case 0x4b: return this.push(this.u8()); // BININT1
      case 0x4d: return this.push(this.number(2, (at) => this.view.getUint16(at, true))); // BININT2
      case 0x8a: return this.push(long(this.take(this.u8()))); // LONG1
      case 0x8b: return this.push(long(this.take(this.number(4, (at) => this.view.getInt32(at, true))))); // LONG4
      case 0x46: return this.push(Number(this.line())); // FLOAT
      case 0x47: return this.push(this.number(8, (at) => this.view.getFloat64(at, false))); // BINFLOAT
      case 0x53: return this.push(this.line().slice(1, -1)); // STRING
      case 0x56: return this.push(this.line()); // UNICODE
      case 0x54: return this.push(text(this.take(this.number(4, (at) => this.view.getInt32(at, true))))); // BINSTRING
      case 0x55: return this.push(text(this.take(this.u8()))); // SHORT_BINSTRING
      case 0x58: return this.push(text(this.take(this.u32()))); // BINUNICODE
      case 0x8c: return this.push(text(this.take(this.u8()))); // SHORT_BINUNICODE
      case 0x8d: return this.push(text(this.take(this.u64()))); // BINUNICODE8
      case 0x42: return this.push(this.take(this.u32())); // BINBYTES
      case 0x43: return this.push(this.take(this.u8())); // SHORT_BINBYTES
      case 0x8e: case 0x96: return this.push(this.take(this.u64())); // BINBYTES8, BYTEARRAY8
      case 0x5d: case 0x29: return this.push([]); // EMPTY_LIST, EMPTY_TUPLE
      case 0x7d: return this.push(new Map()); // EMPTY_DICT
      case 0x8f: return this.push(new Set()); // EMPTY_SET
      case 0x6c: case 0x74: return this.push(this.popMark()); // LIST, TUPLE
      case 0x85: return this.push(this.last(1)); // TUPLE1
      case 0x86: return this.push(this.last(2)); // TUPLE2
      case 0x87: return this.push(this.last(3)); // TUPLE3
      case 0x64: return this.push(paired(this.popMark(), new Map())); // DICT
      case 0x91: return this.push(new Set(this.popMark())); // FROZENSET
      case 0x61: return this.append([this.pop()]); // APPEND
      case 0x65: return this.append(this.popMark()); // APPENDS
      case 0x73: return this.put(this.last(2)); // SETITEM
      case 0x75: return this.put(this.popMark()); // SETITEMS
      case 0x90: { // ADDITEMS
        const values = this.popMark();
        const set = this.top();
        if (!(set instanceof Set)) throw new Unreadable("it adds items to what is no set");
        for (const value of values) set.add(value);
        return;
      }
      case 0x70: return void this.memo.set(Number(this.line()), this.top()); // PUT
      case 0x71: return void this.memo.set(this.u8(), this.top()); // BINPUT
      case 0x72: return void this.memo.set(this.u32(), this.top()); // LONG_BINPUT
      case 0x94: return void this.memo.set(this.memo.size, this.top()); // MEMOIZE
      case 0x67: return this.recall(Number(this.line())); // GET
      case 0x68: return this.recall(this.u8()); // BINGET
      case 0x6a: return this.recall(this.u32()); // LONG_BINGET
      case 0x63: return this.push(new Name(this.line(), this.line())); // GLOBAL
      case 0x93: { // STACK_GLOBAL
        const [module, name] = this.last(2);
        if (typeof module !== "string" || typeof name !== "string") throw new Unreadable("a name in it is no text");
        return this.push(new Name(module, name));
      }
      case 0x52: case 0x81: { // REDUCE, NEWOBJ
        const [called, given] = this.last(2);
        return this.push(this.call(called, list(given)));
      }
      case 0x92: { // NEWOBJ_EX
        const [called, given, named] = this.last(3);
        const rest = named instanceof Map ? [...named.values()] : [];
        return this.push(this.call(called, [...list(given), ...rest]));
      }
      case 0x69: { // INST
        const called = new Name(this.line(), this.line());
        return this.push(this.call(called, this.popMark()));
      }
      case 0x6f: { // OBJ
        const [called, ...given] = this.popMark();
        return this.push(this.call(called, given));
      }
      case 0x62: { // BUILD
        const state = this.pop();
        const object = this.top();
        if (object instanceof Opaque) object.state = state;
        else this.builders.build(object, state);
        return;
      }
      case 0x50: return this.push(this.builders.persistent(this.line())); // PERSID
      case 0x51: return this.push(this.builders.persistent(this.pop())); // BINPERSID
      default: throw new Unreadable(`its pickle has an instruction that no model needs (${code})`);
    }
  }

  call(called: unknown, given: unknown[]): unknown {
    if (called instanceof Opaque) return new Opaque(`${called.what}()`, given);
    if (!(called instanceof Name)) throw new Unreadable("it calls what is no function");
    const build = this.builders.calls.get(`${called.module} ${called.name}`);
    return build ? build(...given) : new Opaque(`${called.module}.${called.name}`, given);
  }

  private append(values: unknown[]): void {
    const target = this.top();
    if (!(Array.isArray(target) || target instanceof Opaque)) throw new Unreadable("it appends to what is no list");
    for (const value of values) target.push(value);
  }

  private put(pairs: unknown[]): void {
    const target = this.top();
    if (target instanceof Opaque) paired(pairs, target.items);
    else if (target instanceof Map) paired(pairs, target);
    else throw new Unreadable("it sets items of what is no mapping");
  }

  private recall(key: number): void {
    if (!this.memo.has(key)) throw new Unreadable("it recalls what it never kept");
    this.push(this.memo.get(key));
  }

  private push(value: unknown): void {
    this.stack.push(value);
  }

  private pop(): unknown {
    if (!this.stack.length) throw new Unreadable("its stack is empty");
    return this.stack.pop();
  }

  private top(): unknown {
    if (!this.stack.length) throw new Unreadable("its stack is empty");
    return this.stack[this.stack.length - 1];
  }

  private last(count: number): unknown[] {
    if (this.stack.length < count) throw new Unreadable("its stack is empty");
    return this.stack.splice(-count);
  }

  private popMark(): unknown[] {
    const items = this.stack;
    const below = this.marks.pop();
    if (!below) throw new Unreadable("its stack has no mark");
    this.stack = below;
    return items;
  }

  private take(size: number): Uint8Array<ArrayBuffer> {
    if (!(size >= 0 && this.at + size <= this.bytes.length)) throw new Unreadable("its pickle is cut off");
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }

  private number(size: number, read: (at: number) => number): number {
    this.take(size);
    return read(this.at - size);
  }

  private u8(): number {
    return this.number(1, (at) => this.bytes[at]);
  }

  private u32(): number {
    return this.number(4, (at) => this.view.getUint32(at, true));
  }

  private u64(): number {
    return this.number(8, (at) => Number(this.view.getBigUint64(at, true)));
  }

  private line(): string {
    const end = this.bytes.indexOf(10, this.at);
    if (end < 0) throw new Unreadable("its pickle is cut off");
    const value = text(this.bytes.subarray(this.at, end));
    this.at = end + 1;
    return value;
  }

  private decimal(): unknown {
    const line = this.line();
    return line === "01" ? true : line === "00" ? false : integer(line);
  }
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new Unreadable("it calls a function with what is no list");
  return value as unknown[];
}

function paired<M extends Map<unknown, unknown>>(items: unknown[], target: M): M {
  if (items.length % 2) throw new Unreadable("a mapping in it has a key without a value");
  for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
  return target;
}

function integer(line: string): number | bigint {
  if (!/^\s*[-+]?\d{1,600}\s*$/.test(line)) throw new Unreadable("a number in it is none");
  return small(BigInt(line));
}

/** Read a little-endian integer in two's complement. */
function long(bytes: Uint8Array): number | bigint {
  if (bytes.length > LONGEST_NUMBER) throw new Unreadable("a number in it is absurdly long");
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
  return small(bytes.length && bytes[bytes.length - 1] & 0x80 ? value - (1n << BigInt(8 * bytes.length)) : value);
}

function small(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
