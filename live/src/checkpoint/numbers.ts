// Types of numbers as files store them, and their decoding.

export interface NumberType {
  /** Bytes. */
  width: number;
  kind: "float" | "integer" | "complex" | "other";
  /** Relative distance of neighbours, of floating types. */
  eps: number;
}

const float = (width: number, digits: number): NumberType => ({ width, kind: "float", eps: 2 ** -digits });
const integer = (width: number): NumberType => ({ width, kind: "integer", eps: 0 });

/** By torch's names. */
export const TYPES: Record<string, NumberType> = {
  float64: float(8, 52), float32: float(4, 23), float16: float(2, 10), bfloat16: float(2, 7),
  float8_e4m3fn: float(1, 3), float8_e5m2: float(1, 2),
  int64: integer(8), int32: integer(4), int16: integer(2), int8: integer(1),
  uint64: integer(8), uint32: integer(4), uint16: integer(2), uint8: integer(1), bool: integer(1),
  complex64: { width: 8, kind: "complex", eps: 0 }, complex128: { width: 16, kind: "complex", eps: 0 },
};

export type Numbers = Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

/** Decode little-endian bytes of a type that is not complex; they may be used as they are. */
export function decoded(bytes: Uint8Array<ArrayBuffer>, type: string, bigEndian = false): Numbers {
  const { width } = TYPES[type];
  const count = Math.floor(bytes.length / width);
  let raw = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  if (bigEndian && width > 1) raw = swapped(raw.slice(0, count * width), width);
  const view = <T>(Kind: new (buffer: ArrayBuffer, offset: number, length: number) => T): T =>
    new Kind(raw.buffer, raw.byteOffset, count);
  switch (type) {
    case "float32": return view(Float32Array);
    case "float64": return view(Float64Array);
    case "float16": return Float32Array.from(view(Uint16Array), (x) => HALF[x]);
    case "bfloat16": {
      const result = new Uint32Array(count);
      const short = view(Uint16Array);
      for (let i = 0; i < count; i++) result[i] = short[i] << 16;
      return new Float32Array(result.buffer);
    }
    case "float8_e4m3fn": return Float32Array.from(raw, (x) => E4M3[x]);
    case "float8_e5m2": return Float32Array.from(raw, (x) => half(x << 8));
    case "int8": return Float32Array.from(view(Int8Array));
    case "uint8": case "bool": return Float32Array.from(raw);
    case "int16": return Float32Array.from(view(Int16Array));
    case "uint16": return Float32Array.from(view(Uint16Array));
    case "int32": return Float64Array.from(view(Int32Array));
    case "uint32": return Float64Array.from(view(Uint32Array));
    case "int64": return Float64Array.from(view(BigInt64Array), Number);
    default: return Float64Array.from(view(BigUint64Array), Number);
  }
}

function swapped(bytes: Uint8Array<ArrayBuffer>, width: number): Uint8Array<ArrayBuffer> {
  for (let at = 0; at < bytes.length; at += width) bytes.subarray(at, at + width).reverse();
  return bytes;
}

/** Round to the nearest number of a floating type, as torch converts from float64: by way of float32. */
export function rounded(x: number, type: string): number {
  if (type === "float64") return x;
  const near = Math.fround(x);
  if (type === "bfloat16") {
    WORD[0] = near;
    if (Number.isNaN(near)) return near;
    BITS[0] += 0x7fff + ((BITS[0] >>> 16) & 1);
    BITS[0] &= 0xffff0000;
    return WORD[0];
  }
  if (type !== "float16" || !Number.isFinite(near) || near === 0) return near;
  const unit = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(near)))) - 10);
  const steps = near / unit;
  let whole = Math.round(steps);
  if (Math.abs(steps - Math.trunc(steps)) === 0.5) whole = 2 * Math.round(steps / 2);
  const result = whole * unit;
  return Math.abs(result) > 65504 ? Math.sign(near) * Infinity : result;
}

const WORD = new Float32Array(1);
const BITS = new Uint32Array(WORD.buffer);

function half(x: number): number {
  const [sign, exponent, fraction] = [x & 0x8000 ? -1 : 1, (x >> 10) & 31, x & 0x3ff];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

const HALF = Float32Array.from({ length: 2 ** 16 }, (_, x) => half(x));
const E4M3 = Float32Array.from({ length: 256 }, (_, x) => {
  const [sign, exponent, fraction] = [x & 0x80 ? -1 : 1, (x >> 3) & 15, x & 7];
  if (exponent === 15 && fraction === 7) return NaN;
  return sign * (exponent ? 2 ** (exponent - 7) * (1 + fraction / 8) : 2 ** -6 * (fraction / 8));
});
