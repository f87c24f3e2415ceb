// The random numbers of NumPy's default_rng, draw for draw.
// Source: numpy/random, SeedSequence, PCG64 (O'Neill 2014, XSL-RR) and the 256-level ziggurat.

const { imul } = Math;

export class Generator {
  // 128-bit numbers as four 32-bit limbs, the lowest first; typed arrays keep them unboxed
  private readonly state = new Uint32Array(4);
  private readonly increment = new Uint32Array(4);
  private low = 0;
  private high = 0;
  private spare: number | null = null; // upper half of a 64-bit draw whose lower half is used

  /** As default_rng(SeedSequence(seed, spawn_key=(key,))). */
  constructor(seed: number, key: number);
  /** As default_rng(seed) with a list of numbers below 2^32, at least four. */
  constructor(seed: readonly number[]);
  constructor(seed: number | readonly number[], key = 0) {
    if (typeof seed === "number" && !(Number.isSafeInteger(seed) && seed >= 0)) {
      throw new RangeError(`seed must be a non-negative safe integer; got ${seed}`);
    }
    const words = seedWords(typeof seed === "number" ? [seed >>> 0, Math.floor(seed / 2 ** 32), 0, 0, key] : seed);
    const start = [words[2], words[3], words[0], words[1]];
    const stream = [words[6], words[7], words[4], words[5]];
    this.increment.set(stream.map((limb, i) => (limb << 1) | (i === 0 ? 1 : stream[i - 1] >>> 31)));
    this.step();
    add(this.state, start);
    this.step();
  }

  /** Draw standard normals, as Generator.standard_normal(size). */
  normals(size: number): Float64Array {
    return new Float64Array(size).map(() => this.normal());
  }

  /** Return the values in random order, as Generator.permutation(values). */
  permutation(values: Float64Array): Float64Array {
    const result = values.slice();
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.upTo(i);
      [result[i], result[j]] = [result[j], result[i]];
    }
    return result;
  }

  /** Draw from chi-squared, as Generator.chisquare(freedom) (Marsaglia & Tsang 2000). */
  chiSquared(freedom: number): number {
    const shape = freedom / 2;
    if (shape === 1) return 2 * this.exponential();
    if (shape < 1) return 2 * this.smallGamma(shape);
    const b = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * b);
    for (;;) {
      let x: number;
      let v: number;
      do {
        x = this.normal();
        v = 1 + c * x;
      } while (v <= 0);
      v = v * v * v;
      const u = this.uniform();
      if (u < 1 - 0.0331 * (x * x) * (x * x)) return 2 * b * v;
      if (Math.log(u) < 0.5 * x * x + b * (1 - v + Math.log(v))) return 2 * b * v;
    }
  }

  private smallGamma(shape: number): number {
    for (;;) {
      const u = this.uniform();
      const v = this.exponential();
      const low = u <= 1 - shape;
      const y = low ? 0 : -Math.log((1 - u) / shape);
      const x = low ? u ** (1 / shape) : (1 - shape + shape * y) ** (1 / shape);
      if (x <= v + y) return x;
    }
  }

  private exponential(): number {
    for (;;) {
      this.next64();
      const level = (this.low >>> 3) & 0xff;
      const magnitude = this.high * 2 ** 21 + (this.low >>> 11);
      const [end, inner] = [EXPONENTIAL[level], level === 0 ? EXPONENTIAL_R : level === 1 ? 0 : EXPONENTIAL[level - 1]];
      const x = magnitude * (end / 2 ** 53);
      if (magnitude < (inner / end) * 2 ** 53) return x;
      if (level === 0) return EXPONENTIAL_R - Math.log1p(-this.uniform());
      const below = level === 1 ? 1 : Math.exp(-inner);
      if ((below - Math.exp(-end)) * this.uniform() + Math.exp(-end) < Math.exp(-x)) return x;
    }
  }

  private normal(): number {
    for (;;) {
      this.next64();
      const { low, high } = this;
      const level = low & 0xff;
      const magnitude = (high & 0x1fffffff) * 2 ** 23 + (low >>> 9);
      const x = (low & 0x100 ? -magnitude : magnitude) * WIDTH[level];
      if (magnitude < INNER[level]) return x;
      if (level === 0) return (low >>> 17) & 1 ? -this.tail() : this.tail();
      const height = HEIGHT[level] + (HEIGHT[level - 1] - HEIGHT[level]) * this.uniform();
      if (height < Math.exp(-0.5 * x * x)) return x;
    }
  }

  /** Draw a normal above R (Marsaglia 1964). */
  private tail(): number {
    for (;;) {
      const x = -(1 / R) * Math.log1p(-this.uniform());
      const y = -Math.log1p(-this.uniform());
      if (2 * y > x * x) return R + x;
    }
  }

  private uniform(): number {
    this.next64();
    return (this.high * 2 ** 21 + (this.low >>> 11)) * 2 ** -53;
  }

  /** Draw an integer from 0 to n, n below 2^32, by rejection. */
  private upTo(n: number): number {
    const mask = 0xffffffff >>> Math.clz32(n);
    for (;;) {
      const draw = (this.next32() & mask) >>> 0;
      if (draw <= n) return draw;
    }
  }

  private next32(): number {
    const { spare } = this;
    if (spare !== null) {
      this.spare = null;
      return spare;
    }
    this.next64();
    this.spare = this.high;
    return this.low;
  }

  /** Put 64 new bits into low and high. */
  private next64(): void {
    this.step();
    const [s0, s1, s2, s3] = this.state;
    const turn = s3 >>> 26;
    let low = s0 ^ s2;
    let high = s1 ^ s3;
    if (turn & 32) [low, high] = [high, low];
    const shift = turn & 31;
    // two shifts, because a shift by 32 does nothing in JavaScript
    this.low = ((low >>> shift) | ((high << 1) << (31 - shift))) >>> 0;
    this.high = ((high >>> shift) | ((low << 1) << (31 - shift))) >>> 0;
  }

  /** Set state = state * MULTIPLIER + increment, modulo 2^128. */
  private step(): void {
    const { state } = this;
    const [s0, s1, s2, s3] = state;
    state[0] = imul(s0, M0);
    const limb1 = (imul(s0, M1) >>> 0) + (imul(s1, M0) >>> 0) + multiplyHigh(s0, M0);
    state[1] = limb1;
    const limb2 =
      (imul(s0, M2) >>> 0) + (imul(s1, M1) >>> 0) + (imul(s2, M0) >>> 0) +
      multiplyHigh(s0, M1) + multiplyHigh(s1, M0) + Math.floor(limb1 / 2 ** 32);
    state[2] = limb2;
    state[3] =
      imul(s0, M3) + imul(s1, M2) + imul(s2, M1) + imul(s3, M0) +
      multiplyHigh(s0, M2) + multiplyHigh(s1, M1) + multiplyHigh(s2, M0) + Math.floor(limb2 / 2 ** 32);
    add(state, this.increment);
  }
}

/** Return the eight words with which a SeedSequence seeds PCG64. */
function seedWords(entropy: readonly number[]): Uint32Array {
  let factor = 0x43b0d7e5;
  const hashed = (word: number): number => {
    const mixed = word ^ factor;
    factor = imul(factor, 0x931e8875);
    return folded(imul(mixed, factor));
  };
  const merged = (x: number, y: number): number => folded(imul(0xca01f9dd, x) - imul(0x4973f715, y));
  const pool = entropy.slice(0, 4).map(hashed);
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) {
      if (from !== to) pool[to] = merged(pool[to], hashed(pool[from]));
    }
  }
  for (const word of entropy.slice(4)) for (let to = 0; to < 4; to++) pool[to] = merged(pool[to], hashed(word));
  factor = 0x8b51f9dd;
  return new Uint32Array(8).map((_, i) => {
    const mixed = pool[i % 4] ^ factor;
    factor = imul(factor, 0x58f38ded);
    return folded(imul(mixed, factor));
  });
}

function folded(word: number): number {
  return word ^ (word >>> 16);
}

/** Add to a 128-bit number in place. */
function add(sum: Uint32Array, other: ArrayLike<number>): void {
  let carry = 0;
  for (let i = 0; i < 4; i++) {
    const limb = sum[i] + other[i] + carry;
    sum[i] = limb;
    carry = limb >= 2 ** 32 ? 1 : 0;
  }
}

/** Return the upper half of the product of two 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = (imul(a1, b0) >>> 0) + (imul(a0, b0) >>> 16);
  const cross = (imul(a0, b1) >>> 0) + (middle & 0xffff);
  return (imul(a1, b1) + (middle >>> 16) + (cross >>> 16)) >>> 0;
}

// MULTIPLIER of PCG64, 0x2360ed051fc65da44385df649fccf645
const M0 = 0x9fccf645;
const M1 = 0x4385df64;
const M2 = 0x1fc65da4;
const M3 = 0x2360ed05;

// The ziggurat: 256 levels of equal area under exp(-x^2/2); the lowest includes the tail beyond R.  The right ends are
// those of NumPy, because no formula gives their last digits; that of the lowest level is its area over its height.
const R = 3.654152885361009;
const ENDS = new Float64Array([
  3.910757959524912, 0.21524189598488003, 0.2861745917920715, 0.33573751921442435, 0.3751213328783798,
  0.40838913461199033, 0.4375184022078708, 0.4636343367908815, 0.4874439661392353, 0.509423329602091,
  0.5299097206615574, 0.5491517023271645, 0.5673382570538182, 0.5846167661063788, 0.6011046177559921,
  0.6168969900077509, 0.6320722363860606, 0.6466957148949931, 0.6608225742444191, 0.6744998228372932,
  0.6877678927957878, 0.7006618411068143, 0.7132122851909752, 0.7254461409099988, 0.7373872114342949,
  0.7490566620178146, 0.7604734064301074, 0.7716544242245675, 0.7826150233072324, 0.7933690588406226,
  0.8039291169899705, 0.8143066701352146, 0.8245122087522915, 0.8345553540863815, 0.8444449549091533,
  0.8541891710081632, 0.8637955455533082, 0.87327106808886, 0.882622229585165, 0.891855070732941, 0.9009752244612214,
  0.9099879534967181, 0.9188981836495902, 0.9277105334019996, 0.9364293402865748, 0.945058684468165,
  0.9536024098810856, 0.9620641432230401, 0.970447311064224, 0.9787551552942242, 0.986990747099062,
  0.9951569996350904, 1.0032566795446725, 1.011292417439995, 1.0192667174654835, 1.027181966035645, 1.03504043983344,
  1.0428443131441483, 1.0505956645909291, 1.0582964833306743, 1.0659486747621219, 1.0735540657924356,
  1.0811144097034033, 1.0886313906539793, 1.0961066278520208, 1.103541679424639, 1.110938046013575,
  1.1182971741193444, 1.1256204592155326, 1.1329092486525332, 1.1401648443681507, 1.1473885054208484,
  1.1545814503599272, 1.161744859445611, 1.1688798767308328, 1.1759876120154515, 1.1830691426826863,
  1.1901255154266914, 1.1971577478794408, 1.2041668301443809, 1.2111537262436987, 1.218119375485481,
  1.2250646937565302, 1.2319905747461355, 1.2388978911056867, 1.2457874955486268, 1.2526602218948968,
  1.2595168860637138, 1.266358287018229, 1.273185207665356, 1.2799984157138176, 1.2867986644932434,
  1.2935866937369476, 1.300363230330837, 1.307128989030731, 1.3138846731502203, 1.3206309752210559,
  1.3273685776279256, 1.3340981532193599, 1.3408203658964037, 1.347535871180587, 1.3542453167626347,
  1.3609493430332826, 1.3676485835974759, 1.374343665773166, 1.381035211075855, 1.3877238356899757,
  1.3944101509281406, 1.4010947636792506, 1.4077782768463984, 1.4144612897754707, 1.4211443986753085,
  1.4278281970302555, 1.4345132760058918, 1.4412002248487237, 1.4478896312805758, 1.45458208188841,
  1.4612781625102753, 1.4679784586180793, 1.4746835556978553, 1.481394039628187, 1.4881104970574472,
  1.4948335157804935, 1.5015636851154637, 1.5083015962813113, 1.5150478427767144, 1.5218030207609978,
  1.528567729437712, 1.5353425714415139, 1.5421281532290017, 1.5489250854741732, 1.5557339834691761,
  1.5625554675310445, 1.5693901634151233, 1.576238702735906, 1.583101723396029, 1.5899798700241905,
  1.5968737944227878, 1.6037841560260941, 1.6107116223698297, 1.617656869573015, 1.624620582833034,
  1.6316034569348727, 1.638606196775547, 1.6456295179047817, 1.6526741470830553, 1.659740822858182, 1.666830296161665,
  1.6739433309261247, 1.6810807047251735, 1.688243209437195, 1.6954316519345614, 1.702646854799923,
  1.7098896570713016, 1.7171609150178229, 1.7244615029480448, 1.7317923140529632, 1.7391542612859117,
  1.7465482782817225, 1.7539753203176716, 1.7614363653189102, 1.7689324149112684, 1.7764644955245228,
  1.7840336595494415, 1.7916409865521625, 1.7992875845497203, 1.8069745913508208, 1.8147031759662826,
  1.8224745400938858, 1.830289919682757, 1.8381505865828067, 1.8460578502851857, 1.8540130597602023,
  1.8620176053996746, 1.8700729210712674, 1.8781804862929965, 1.8863418285367834, 1.8945585256707052,
  1.9028322085504297, 1.9111645637712535, 1.9195573365931882, 1.9280123340526658, 1.9365314282756947,
  1.9451165600086784, 1.9537697423846467, 1.962493064944363, 1.9712886979336592, 1.9801588969004766,
  1.989106007617438, 1.9981324713584196, 2.0072408305605287, 2.016433734906204, 2.025713947863854, 2.035084353729619,
  2.0445479652175313, 2.054107931650652, 2.063767547811732, 2.0735302635187427, 2.083399693998304, 2.0933796311387916,
  2.1034740557148766, 2.1136871506866526, 2.1240233156895227, 2.134487182846016, 2.145083634047888,
  2.1558178198767366, 2.1666951803543077, 2.1777214677402923, 2.1889027716263603, 2.200245546611276,
  2.2117566428841604, 2.22344334009251, 2.235313384929921, 2.247375032947389, 2.259637095173787, 2.2721089902283813,
  2.284800802724492, 2.2977233489028634, 2.310888250601372, 2.3243080188711325, 2.3379961487965284,
  2.3519672273791445, 2.366237056717291, 2.3808227951720857, 2.3957431197819274, 2.4110184139011195,
  2.4266709849371466, 2.442725318200364, 2.459208374334705, 2.476149939670523, 2.4935830412710467, 2.511544441626694,
  2.530075232159854, 2.549221550324783, 2.5690354526818435, 2.589575986708286, 2.610910518488823, 2.6331163936315822,
  2.656283037576743, 2.6805146432857447, 2.705933656123062, 2.7326853590440114, 2.7609440052799865,
  2.7909211740019275, 2.8228773968264433, 2.857138730873225, 2.8941210536134125, 2.934366867208888,
  2.9786032798818436, 3.027837791769594, 3.0835261320021434, 3.147889289518001, 3.224575052047802, 3.320244733839826,
  3.4492782985614316, 3.654152885361009,
]);
const HEIGHT = ENDS.map((x, level) => (level === 0 ? 1 : Math.exp(-0.5 * x * x)));
const WIDTH = ENDS.map((x) => x / 2 ** 52);
/** Smaller magnitudes lie below the curve at every height of the level. */
const INNER = ENDS.map((x, level) => Math.floor((innerEnd(level) / x) * 2 ** 52));

function innerEnd(level: number): number {
  if (level === 0) return R;
  return level === 1 ? 0 : ENDS[level - 1];
}

// The ziggurat of the exponential: 256 levels of equal area under exp(-x), whose right ends follow from one another.
const EXPONENTIAL_R = 7.69711747013104972;
const EXPONENTIAL_AREA = 3.9496598225815571993e-3;
const EXPONENTIAL = new Float64Array(256);
EXPONENTIAL[0] = EXPONENTIAL_AREA / Math.exp(-EXPONENTIAL_R);
for (let level = 255, end = EXPONENTIAL_R; level > 0; level--) {
  EXPONENTIAL[level] = end;
  end = -Math.log(EXPONENTIAL_AREA / end + Math.exp(-end));
}
