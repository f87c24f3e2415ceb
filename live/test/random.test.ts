// Oracle: NumPy 2.4.6.  generator(seed, key) of the comments is
// np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,))).

import { describe, expect, it } from "vitest";
import { Generator } from "../src/random";

describe("normals", () => {
  it("are those of the seed and the key", () => {
    // generator(0, 0).standard_normal(3), generator(0, 5).standard_normal(2)
    expect([...new Generator(0, 0).normals(3)]).toEqual([1.4436909546981256, -0.8959459763857414, 0.735955670177038]);
    expect([...new Generator(0, 5).normals(2)]).toEqual([-0.050099287865350145, -1.2877465802620964]);
  });

  it("take seeds of more than 32 bits", () => {
    // generator(2**32, 1).standard_normal(2), generator(2**53 - 1, 9).standard_normal(2)
    expect([...new Generator(2 ** 32, 1).normals(2)]).toEqual([-2.425084013774689, -0.03778634404044401]);
    expect([...new Generator(2 ** 53 - 1, 9).normals(2)]).toEqual([1.372090687840437, 1.7166767624890513]);
  });

  it("beyond the ziggurat are NumPy's, and so is what follows them", () => {
    // x = generator(0, 0).standard_normal(200_000); np.flatnonzero(abs(x) > 3.6541528853610088)[:6]
    const x = new Generator(0, 0).normals(200_000);
    const tail = [...x.keys()].filter((i) => Math.abs(x[i]) > 3.6541528853610088).slice(0, 6);
    expect(tail).toEqual([1336, 2623, 7123, 8561, 11576, 14810]);
    const expected = [
      4.444566064771623, -3.680269230784253, 3.7595144274404864, -4.169749543404153, -3.865415165557114,
      -4.876866611214241,
    ];
    tail.forEach((i, k) => expect(x[i]).toBeCloseTo(expected[k], 14));
    // x[1337], x[-1]: one draw too few or too many anywhere changes the last
    expect(x[1337]).toBe(1.2012273870064154);
    expect(x[199_999]).toBe(1.3073454375382831);
  });

  it("continue the stream from call to call", () => {
    const generator = new Generator(3, 4);
    const parts = [...generator.normals(5), ...generator.normals(0), ...generator.normals(7)];
    expect(parts).toEqual([...new Generator(3, 4).normals(12)]);
  });
});

describe("permutation", () => {
  it("orders as NumPy does", () => {
    // generator(0, 9).permutation(np.arange(7.0)); of np.arange(2.0) for seeds 0 and 1
    expect([...new Generator(0, 9).permutation(Float64Array.of(0, 1, 2, 3, 4, 5, 6))]).toEqual([6, 1, 3, 2, 4, 5, 0]);
    expect([...new Generator(0, 9).permutation(Float64Array.of(0, 1))]).toEqual([1, 0]);
    expect([...new Generator(1, 9).permutation(Float64Array.of(0, 1))]).toEqual([0, 1]);
  });

  it("of more than 2^16 values", () => {
    // p = generator(0, 9).permutation(np.arange(70_000.0)); p[:3], p[-3:], p @ np.arange(70_000)
    const p = new Generator(0, 9).permutation(Float64Array.from({ length: 70_000 }, (_, i) => i));
    expect([...p.slice(0, 3), ...p.slice(-3)]).toEqual([25050, 2959, 41053, 34294, 64572, 27013]);
    expect(p.reduce((sum, x, i) => sum + x * i, 0)).toBe(85763980508750);
  });

  it("keeps the unused half of a draw for the next one, across normals", () => {
    // g = generator(0, 9); g.permutation(np.arange(4.0)); g.standard_normal(1); then permutations of 4 and of 3
    const generator = new Generator(0, 9);
    expect([...generator.permutation(Float64Array.of(0, 1, 2, 3))]).toEqual([2, 3, 1, 0]);
    expect([...generator.normals(1)]).toEqual([-0.383493802867964]);
    expect([...generator.permutation(Float64Array.of(0, 1, 2, 3))]).toEqual([1, 0, 3, 2]);
    expect([...generator.permutation(Float64Array.of(0, 1, 2))]).toEqual([2, 0, 1]);
  });

  it("leaves its argument as it was", () => {
    const values = Float64Array.of(0, 1, 2, 3);
    new Generator(0, 9).permutation(values);
    expect([...values]).toEqual([0, 1, 2, 3]);
  });
});

it("refuses a seed that NumPy would read otherwise", () => {
  for (const seed of [-1, 0.5, 2 ** 53, NaN]) expect(() => new Generator(seed, 0)).toThrow(/seed must be/);
});

describe("chiSquared", () => {
  it("are NumPy's draws for every number of degrees of freedom", () => {
    // r = np.random.default_rng([0, 20, 30, 1]); [r.chisquare(k) for k in (1, 2, 3, 30, 1, 2, 1, 2)]
    const random = new Generator([0, 20, 30, 1]);
    const found = [1, 2, 3, 30, 1, 2, 1, 2].map((k) => random.chiSquared(k));
    const expected = [
      1.97411710481832, 0.24679082909161104, 1.359940610728282, 30.420784083413395,
      0.550652145292688, 3.8327924296665175, 0.0007203376898408024, 0.3958285827275307,
    ];
    expected.forEach((x, i) => expect(found[i]).toBeCloseTo(x, 12));
  });
});
