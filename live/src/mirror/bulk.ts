// The law of the bulk after one step: its density and its edge.
// Source: htlib/spectra/generalized.py (solve and the search for edges) and htlib/theory/bulk.py (StepNoise.bulk).

import type { Bulk } from "../protocol";

/** The noise of a step, in groups: row j and column k have the variance 1 + rows_j (lr^2 columns_k + lr echo_k). */
export interface StepNoise {
  columns: number[];
  echo: number[];
  counts: number[];
  rows: number[];
  row_counts: number[];
}

/** Values and how often each occurs. */
interface Side {
  values: number[];
  counts: number[];
}

/** Entries with the variances 1 + row times column; there are no more columns than rows. */
interface Profile {
  columns: Side;
  rows: Side;
}

type Complex = readonly [number, number];
/** The sums q0 and q1 of htlib/spectra/generalized.py. */
type State = readonly [Complex, Complex];

const HEIGHT = 1e-9; // the real axis is approached up to this share of x
// The height falls by the first factor per step, and faster below NEAR of x; the others are for lost points.
const DESCENTS = [0.35, 0.73, 0.9];
const [NEAR, HASTE] = [0.1, 1.3];
const SETTLED = 1e-9;
const EMPTY = 1e-6; // share of the eigenvalues per unit of ln x, below which x lies outside of the support
const FLOOR = 1e-10;
const [GRID, ZOOM, ROUNDS] = [120, 9, 3]; // points, points added between two around an edge, and how often

/** Return the law after a step; it includes the directions of the spike if that is no outlier. */
export function bulk(noise: StepNoise, lr: number, hasOutlier: boolean): Bulk {
  const values = noise.columns.map((column, k) => Math.max(lr * lr * column + lr * noise.echo[k], 0));
  const columns = { values, counts: [...noise.counts] };
  const rows = { values: [...noise.rows], counts: [...noise.row_counts] };
  const d = total(columns) + 1;
  if (!hasOutlier)
    for (const side of [columns, rows]) {
      side.values.push(0);
      side.counts.push(1);
    }
  return law({ columns, rows }, d);
}

function law(p: Profile, d: number): Bulk {
  const [k, m] = [total(p.columns), total(p.rows)];
  const [outer, inner] = [(Math.sqrt(m) + Math.sqrt(k)) ** 2, (Math.sqrt(m) - Math.sqrt(k)) ** 2];
  const [smallest, largest] = [Math.min, Math.max].map((end) => end(...p.columns.values) * end(...p.rows.values));
  const point = (x: number, guess?: State): Point => {
    const q = solve(p, x, guess);
    const number = -q[0][1] / Math.PI;
    return { x, q, number, inside: x * number > EMPTY * k };
  };
  const from = Math.max(0.99 * (1 + smallest) * inner, FLOOR * outer);
  let points = spaced(from, 1.01 * (1 + largest) * outer, GRID).map((x) => point(x));
  for (let round = 0; round < ROUNDS; round++)
    points = points.flatMap((one, i) => {
      const next = points[i + 1];
      if (!next || one.inside === next.inside) return [one];
      return [one, ...spaced(one.x, next.x, ZOOM + 2).slice(1, -1).map((x) => point(x, one.inside ? one.q : next.q))];
    });
  const kept = points.filter((_, i) => points.slice(Math.max(0, i - 1), i + 2).some(({ inside }) => inside));
  const last = points.findLastIndex(({ inside }) => inside);
  return {
    x: kept.map(({ x }) => x),
    density: kept.map(({ number, inside }) => (inside ? number / d : 0)),
    edge: (points[last].x + points[last + 1].x) / 2,
  };
}

/** Where the equations are solved, and the number of eigenvalues per unit of x there. */
interface Point {
  x: number;
  q: State;
  number: number;
  inside: boolean;
}

/** Solve for (q0, q1) at x (1 + i HEIGHT): from a guess, or where that fails, from far above. */
function solve(p: Profile, x: number, guess?: State): State {
  let q: State = [[NaN, NaN], [NaN, NaN]];
  for (const ratio of guess ? [null, ...DESCENTS] : DESCENTS) {
    const [found, settled] = newton(p, [x, HEIGHT * x], ratio === null ? guess! : descend(p, x, ratio), 6);
    q = found;
    if (settled && q[0][1] < 0) break;
  }
  return q;
}

/** Follow the solution from far above the real axis down to the height. */
function descend(p: Profile, x: number, ratio: number): State {
  const n = total(p.columns);
  const mean = (moment(p.columns) * moment(p.rows)) / n;
  let y = x + 4 * (total(p.rows) + mean);
  const z: Complex = [x, y];
  let q: State = [div([n, 0], z), div([moment(p.columns), 0], z)];
  for (let i = 0; i < 10; i++) q = sums(p, z, q).image; // a contraction, there
  let before = q;
  let trend = 0;
  while (y > HEIGHT * x) {
    const lower = Math.max((y < NEAR * x ? ratio ** HASTE : ratio) * y, HEIGHT * x);
    const step = Math.log(y / lower);
    const ahead = (i: 0 | 1): Complex => extrapolated(before[i], q[i], step * trend);
    [before, q] = [q, newton(p, [x, lower], [ahead(0), ahead(1)], 2)[0]];
    // far above the axis q is nearly a power of the height
    trend = lower > x ? 1 / Math.max(step, 1e-3) : 0;
    y = lower;
  }
  return q;
}

/** Return q after some Newton steps, and whether it has come to rest. */
function newton(p: Profile, z: Complex, q: State, steps: number): [State, boolean] {
  for (let i = 0; i < steps; i++) {
    const { image, D, G } = sums(p, z, q);
    const f = image.map((value, side) => sub(value, q[side]));
    const [d0, d1, d2] = D.squares; // derivatives of e0 and e1
    const [g0, g1, g2] = G.squares; // and of q0 and q1
    const j00 = sub(sub([1, 0], mul(g0, d0)), mul(g1, d1));
    const j01 = add(mul(g0, d1), mul(g1, d2));
    const j10 = add(mul(g1, d0), mul(g2, d1));
    const j11 = sub(sub([1, 0], mul(g1, d1)), mul(g2, d2));
    const determinant = sub(mul(j00, j11), mul(j01, j10));
    const s0 = div(add(mul(j11, f[0]), mul(j01, f[1])), determinant);
    const s1 = div(add(mul(j10, f[0]), mul(j00, f[1])), determinant);
    q = [add(q[0], s0), add(q[1], s1)];
    if (size(s0) <= SETTLED * size(q[0]) && size(s1) <= SETTLED * size(q[1])) return [q, true];
  }
  return [q, false];
}

interface Sums {
  /** Sums of T and of values T. */
  plain: State;
  /** Sums of T^2, values T^2 and values^2 T^2. */
  squares: readonly [Complex, Complex, Complex];
}

/** Return sums over D, then over G, and the (q0, q1) that follow from them. */
function sums(p: Profile, z: Complex, q: State): { D: Sums; G: Sums; image: State } {
  const D = inverses(p.rows, sub([1, 0], q[0]), q[1]);
  const G = inverses(p.columns, sub(z, D.plain[0]), D.plain[1]);
  return { D, G, image: G.plain };
}

/** Return sums over T = 1 / (a - value b), each as often as it occurs. */
function inverses({ values, counts }: Side, a: Complex, b: Complex): Sums {
  let [t0, t1, u0, u1, s0, s1, s2, r0, r1, r2] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    const [re, im] = [a[0] - value * b[0], a[1] - value * b[1]];
    const norm = re * re + im * im;
    const [x, y] = [re / norm, -im / norm];
    const [wx, wy] = [counts[i] * x, counts[i] * y];
    t0 += wx;
    u0 += wy;
    t1 += value * wx;
    u1 += value * wy;
    const [xx, yy] = [wx * x - wy * y, wx * y + wy * x];
    s0 += xx;
    r0 += yy;
    s1 += value * xx;
    r1 += value * yy;
    s2 += value * value * xx;
    r2 += value * value * yy;
  }
  return { plain: [[t0, u0], [t1, u1]], squares: [[s0, r0], [s1, r1], [s2, r2]] };
}

const total = ({ counts }: Side): number => counts.reduce((sum, count) => sum + count, 0);
const moment = ({ values, counts }: Side): number => counts.reduce((sum, count, i) => sum + count * values[i], 0);

function spaced(from: number, to: number, points: number): number[] {
  return Array.from({ length: points }, (_, i) => from * (to / from) ** (i / (points - 1)));
}

const add = (a: Complex, b: Complex): Complex => [a[0] + b[0], a[1] + b[1]];
const sub = (a: Complex, b: Complex): Complex => [a[0] - b[0], a[1] - b[1]];
const mul = (a: Complex, b: Complex): Complex => [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]];
const size = (a: Complex): number => Math.hypot(a[0], a[1]);

function div(a: Complex, b: Complex): Complex {
  const norm = b[0] * b[0] + b[1] * b[1];
  return [(a[0] * b[0] + a[1] * b[1]) / norm, (a[1] * b[0] - a[0] * b[1]) / norm];
}

/** Return b (b / a)^exponent. */
function extrapolated(a: Complex, b: Complex, exponent: number): Complex {
  if (exponent === 0 || size(a) === 0) return b; // q1 is 0 if all columns are
  const ratio = div(b, a);
  const [length, angle] = [size(ratio) ** exponent, Math.atan2(ratio[1], ratio[0]) * exponent];
  return mul(b, [length * Math.cos(angle), length * Math.sin(angle)]);
}
