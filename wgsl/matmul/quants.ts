// A block of 32 packed weights as WGSL: how to find it, load it and take it apart. The one place where shaders know the bits of layout.ts;
// matrix kernels and the embedding share it. Emitted names: q{part}, high{word} (upper bits), dm (scale and offset), sub0, sub1 (q6k).
import { KINDS, LANE_GROUP, type WeightKind } from './layout.ts';

export const AXIS = ['x', 'y', 'z', 'w'] as const;

/** vec4u of the matrix at an index. */
export type Load = (index: string) => string;

/** Offset that quants have in their fields, so that they are unsigned there. */
export const BIAS: Record<'q4' | 'q8' | 'q4k' | 'q5k' | 'q6k', number> = { q4: 8, q8: 128, q4k: 8, q5k: 16, q6k: 32 };

/** Words of upper bits of a block. */
const highWords = (kind: WeightKind): number => (kind === 'q5k' ? 1 : kind === 'q6k' ? 2 : 0);

/**
 * Indices of a lane's block, in vec4u: quantAt, scaleAt, highAt and highWord. In scope before: `spanAt` = (lane / 8) · spans + span, `inGroup` =
 * lane % 8, and `inner`, the block's index in its span, where a span has several.
 */
export function blockIndices(kind: WeightKind): string {
  const { span, quantParts, scaleParts } = KINDS[kind];
  const group = LANE_GROUP;
  if (span === 1)
    return `let quantAt = spanAt * ${quantParts * group}u + inGroup;
    ${scaleParts ? `let scaleAt = spanAt * ${group}u + inGroup;` : ''}`;
  const perVec4 = 4 / (highWords(kind) || 4);
  return `let quantAt = (spanAt * ${quantParts}u + inner) * ${group}u + inGroup;
    let scaleAt = (spanAt * 5u + inner / 2u) * ${group}u + inGroup;
    let scaleShift = 16u * (inner % 2u);
    ${
      highWords(kind)
        ? `let highAt = (spanAt * ${quantParts}u + 8u + inner / ${perVec4}u) * ${group}u + inGroup;
    let highWord = inner % ${perVec4}u * ${highWords(kind)}u;`
        : ''
    }`;
}

/** Index of the vec4u with d and dmin of a span; same scope as blockIndices, without `inner`. */
export const superScaleIndex = `(spanAt * 5u + 4u) * ${LANE_GROUP}u + inGroup`;

/** Loads a block's quants. */
export function loadQuants(kind: WeightKind, load: Load): string[] {
  const { span, quantParts } = KINDS[kind];
  const out: string[] = [];
  for (let part = 0; part < (span === 1 ? quantParts : 1); part++)
    out.push(`let q${part} = ${load(`quantAt + ${part * LANE_GROUP}u`)};`);
  for (let word = 0; word < highWords(kind); word++)
    out.push(`let high${word} = ${load('highAt')}[highWord + ${word}u];`);
  return out;
}

/** dm from the row's component of the scale vec4 and, in the k kinds, of the span's d and dmin. Products of two small integers are exact in f32. */
export function loadScale(kind: WeightKind, scale: string, superScale: string): string[] {
  if (KINDS[kind].span === 1) return [`let dm = unpack2x16float(${scale});`];
  const field = `let scales = ${scale} >> scaleShift;`;
  const d = `let d = unpack2x16float(${superScale});`;
  if (kind === 'q6k')
    return [
      field,
      'let sub0 = bitcast<i32>(scales << 24u) >> 24u;',
      'let sub1 = bitcast<i32>(scales << 16u) >> 24u;',
      d,
      'let dm = vec2f(d.x, 0.0);',
    ];
  const bias = `${BIAS[kind as 'q4k' | 'q5k']}.0`;
  return [
    field,
    d,
    'let step = d.x * f32(scales & 255u);',
    `let dm = vec2f(step, ${bias} * step - d.y * f32((scales >> 8u) & 255u));`,
  ];
}

const shifted = (word: string, by: number): string =>
  by === 0 ? word : by > 0 ? `(${word} >> ${by}u)` : `(${word} << ${-by}u)`;

/** Pair i as two biased fields of 16 bits, element 2i in the lower. */
export function pairFields(kind: keyof typeof BIAS, i: number): string {
  if (kind === 'q8') return `${shifted(`q${i >> 3}.${AXIS[(i >> 1) & 3]}`, 8 * (i & 1))} & 0x00FF00FFu`;
  const nibble = `${shifted(`q0.${AXIS[i >> 2]}`, 4 * (i & 3))} & 0x000F000Fu`;
  if (kind === 'q5k') return `(${nibble}) | (${shifted('high0', i - 4)} & 0x00100010u)`;
  if (kind === 'q6k') return `(${nibble}) | (${shifted(`high${i >> 3}`, 2 * (i & 7) - 4)} & 0x00300030u)`;
  return nibble;
}

/** Elements 2i and 2i+1 as vec2f, before scale and offset. `name` holds pairFields in quantised kinds. */
export function pairValues(kind: WeightKind, i: number, name: string): string {
  if (kind === 'f32') return `bitcast<vec2f>(q${i >> 1}.${i & 1 ? 'zw' : 'xy'})`;
  const word = `q${i >> 2}.${AXIS[i & 3]}`;
  if (kind === 'f16') return `unpack2x16float(${word})`;
  if (kind === 'bf16') return `bitcast<vec2f>(vec2u(${word} << 16u, ${word} & 0xFFFF0000u))`;
  return `vec2f(f32(${name} & 0xFFFFu), f32(${name} >> 16u)) - ${BIAS[kind]}.0`;
}
