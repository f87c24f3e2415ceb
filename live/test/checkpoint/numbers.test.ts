// Oracle: the formats' definitions, by hand, and torch (the calls are in the comments).

import { describe, expect, it } from "vitest";
import { decoded, rounded } from "../../src/checkpoint/numbers";

const bytes = (...values: number[]): Uint8Array<ArrayBuffer> => Uint8Array.from(values);

describe("decoded", () => {
  it("reads floating types of two bytes and of one", () => {
    // 1, -2, the largest, the smallest, infinity
    expect([...decoded(bytes(0, 0x3c, 0, 0xc0, 0xff, 0x7b, 1, 0, 0, 0x7c), "float16")]).toEqual([1, -2, 65504, 2 ** -24, Infinity]);
    expect([...decoded(bytes(0x80, 0x3f, 0, 0xc0), "bfloat16")]).toEqual([1, -2]);
    // torch.tensor([...], dtype=torch.uint8).view(torch.float8_e4m3fn)
    expect([...decoded(bytes(0x38, 0x7e, 0x01, 0xff), "float8_e4m3fn")]).toEqual([1, 448, 2 ** -9, NaN]);
    expect([...decoded(bytes(0x3c, 0x7b, 0x01, 0xfc), "float8_e5m2")]).toEqual([1, 57344, 2 ** -16, -Infinity]);
  });

  it("reads bytes that are not aligned, and those of the other order", () => {
    const all = bytes(9, 0, 0, 0x80, 0x3f);
    expect([...decoded(all.subarray(1), "float32")]).toEqual([1]);
    expect([...decoded(bytes(0x3f, 0x80, 0, 0), "float32", true)]).toEqual([1]);
    expect([...decoded(bytes(255, 255, 255, 255, 255, 255, 255, 255), "int64")]).toEqual([-1]);
  });
});

describe("rounded", () => {
  it("takes the even neighbour of a tie", () => {
    // torch.tensor(x, dtype=torch.float64).to(...)
    expect(rounded(1 + 2 ** -8, "bfloat16")).toBe(1);
    expect(rounded(1 + 3 * 2 ** -8, "bfloat16")).toBe(1 + 2 ** -6);
    expect(rounded(1 + 2 ** -11, "float16")).toBe(1);
    expect(rounded(-1 - 3 * 2 ** -11, "float16")).toBe(-1 - 2 ** -9);
    expect(rounded(1.5 * 2 ** -24, "float16")).toBe(2 ** -23);
    expect(rounded(65519, "float16")).toBe(65504);
    expect(rounded(65520, "float16")).toBe(Infinity);
  });
});
