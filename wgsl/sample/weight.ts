// How a logit becomes a weight: in integers, so that every adapter and the CPU reference agree to the last bit, and sums do not depend on
// their order. Two steps, each here once in TypeScript and once in WGSL:
//
//   canonical  bits of a logit → bits: subnormals and -0 are 0, from 2^100 on (and NaN) INVALID, from -2^100 down IMPOSSIBLE
//   distance   how far a logit lies below the best of its row, over the temperature, in 2^-16 octaves; DISTANCE_CAP and beyond weigh 0
//   weight     2^31 · 2^(-distance / 2^16), rounded: 2^31 for the best, at least 1 below the cap, never rising with the distance
//
// f32 subtraction and multiplication round to nearest on every adapter; `opaque` keeps a driver from fusing or reassociating them.
// A token's share is off by at most 2^-32 of the best's, and by 8e-6 of itself.

/** 32 octaves: what lies below is less likely than 2^-32 of the best. */
export const DISTANCE_CAP = 2 ** 21;
/** Weight of the best token. */
export const WEIGHT_ONE = 2 ** 31;
/** NaN, +Infinity, or as good as it: the row can't be drawn from. */
export const INVALID = 0x7fffffff;
/** -Infinity, or as good as it: -2^100. */
export const IMPOSSIBLE = 0xf1800000;
const HUGE = 0x71800000;
const OCTAVE = 2 ** 16;

/** 2^31 · 2^-x for x in [0, 1] as an alternating polynomial, exact at both ends; relative error 1e-7 (Remez). */
const POLYNOMIAL = [2147483648, 1488514207, 515776670, 118729907, 19743523, 2017903] as const;

/** Distances per unit of logit at a temperature, a float32. */
export function distanceScale(temperature: number): number {
  return Math.fround(Math.max(1, (OCTAVE * Math.LOG2E) / temperature));
}

/** The greatest distance at which a token has at least `minP` of the best one's weight. */
export function distanceLimit(minP: number): number {
  return minP > 0 ? Math.min(DISTANCE_CAP - 1, Math.floor(-Math.log2(Math.min(1, minP)) * OCTAVE)) : DISTANCE_CAP - 1;
}

export function canonicalBits(bits: number): number {
  const magnitude = bits & 0x7fffffff;
  if (magnitude < 0x00800000) return 0;
  if (magnitude < HUGE) return bits >>> 0;
  return bits >>> 31 === 1 && magnitude <= 0x7f800000 ? IMPOSSIBLE : INVALID;
}

/** Canonical bits as a number of the same order as the floats. */
export function orderedKey(canonical: number): number {
  return (canonical & 0x80000000 ? ~canonical : canonical | 0x80000000) >>> 0;
}

export function distanceOf(best: number, logit: number, scale: number): number {
  const below = Math.min(Math.fround(best - logit), DISTANCE_CAP);
  const scaled = Math.min(Math.fround(below * scale), DISTANCE_CAP);
  return Math.min(Math.trunc(Math.fround(scaled + 0.5)), DISTANCE_CAP);
}

export function weightOf(distance: number): number {
  if (distance >= DISTANCE_CAP) return 0;
  const fraction = distance % OCTAVE;
  const octaves = 2 ** Math.floor(distance / OCTAVE);
  const mantissa = POLYNOMIAL.reduceRight<number>((sum, term) => term - Math.floor((sum * fraction) / OCTAVE), 0);
  return Math.floor((mantissa + Math.floor(octaves / 2)) / octaves);
}

/** Needs `constants.x`, a zero that the compiler does not know. */
export const WEIGHT_WGSL = `
const DISTANCE_CAP = ${DISTANCE_CAP}u;
const INVALID_KEY = 0xffffffffu;
const IMPOSSIBLE = ${IMPOSSIBLE}u;
const IMPOSSIBLE_KEY = ${(~IMPOSSIBLE >>> 0).toString()}u;

fn opaque(v: f32) -> f32 { return bitcast<f32>(bitcast<u32>(v) ^ constants.x); }
fn opaque4(v: vec4f) -> vec4f { return bitcast<vec4f>(bitcast<vec4u>(v) ^ constants.xxxx); }

fn canonical(bits: vec4u) -> vec4u {
  let magnitude = bits & vec4u(0x7fffffffu);
  let finite = select(bits, vec4u(0u), magnitude < vec4u(0x00800000u));
  let never = (bits != magnitude) & (magnitude <= vec4u(0x7f800000u));
  return select(finite, select(vec4u(${INVALID}u), vec4u(IMPOSSIBLE), never), magnitude >= vec4u(${HUGE}u));
}
fn ordered(bits: vec4u) -> vec4u {
  return bits ^ select(vec4u(0x80000000u), vec4u(0xffffffffu), bits >= vec4u(0x80000000u));
}
fn valueOf(key: u32) -> f32 { return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, key >= 0x80000000u)); }

fn distances(best: f32, bits: vec4u, scale: f32) -> vec4u {
  let below = min(opaque4(best - bitcast<vec4f>(bits)), vec4f(${DISTANCE_CAP}.0));
  let scaled = min(opaque4(below * scale), vec4f(${DISTANCE_CAP}.0));
  return min(vec4u(scaled + 0.5), vec4u(DISTANCE_CAP));
}
fn scaleDown(a: vec4u, fraction: vec4u) -> vec4u {
  return (a >> vec4u(16u)) * fraction + (((a & vec4u(0xffffu)) * fraction) >> vec4u(16u));
}
fn weights(distance: vec4u) -> vec4u {
  let fraction = distance & vec4u(0xffffu);
  let octaves = min(distance >> vec4u(16u), vec4u(31u));
  var mantissa = vec4u(${POLYNOMIAL.at(-1)}u);
${POLYNOMIAL.slice(0, -1)
  .reverse()
  .map((term) => `  mantissa = ${term}u - scaleDown(mantissa, fraction);`)
  .join('\n')}
  let rounded = (mantissa + ((vec4u(1u) << octaves) >> vec4u(1u))) >> octaves;
  return select(rounded, vec4u(0u), distance >= vec4u(DISTANCE_CAP));
}
fn weight(distance: u32) -> u32 { return weights(vec4u(distance)).x; }
`;
