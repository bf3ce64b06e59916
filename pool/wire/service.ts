// What a pool served lately, how long its device worked for it, and what the pool costs: the ground on which costs per token stand. It comes with
// the pool's status, so a gateway has it of enrolled pools, too.
//
// Time is the device's (engine/deviceShare.ts). `busy_ms` has all steps; a shape has what was worked for sequences that have ended, beside
// exactly their tokens, so that a ratio of the two is one. What is missing to `busy_ms` runs still, or was for nobody.
import { z } from 'zod';

const count = z.int().min(0);
const milliseconds = z.number().min(0);

/** Upper bounds of the shapes, exclusive; null: there is none. Sixteen shapes per model, and no more, whatever traffic there is. */
export const PROMPT_BOUNDS = [256, 2048, 16_384, null] as const;
export const OUTPUT_BOUNDS = [64, 256, 1024, null] as const;

export const NANO = 1_000_000_000;

export const currency = z
  .string()
  .regex(/^[A-Z]{3}$/, 'three capitals, as USD')
  .describe('ISO 4217 code of pricePerHour. Beside what tenants are charged it is set only in USD.');
export const pricePerHour = z
  .string()
  .regex(/^\d{1,6}(\.\d{1,9})?$/, 'a decimal number in quotes, as "2.50"')
  .describe('What an hour of this pool costs, awake or not, as a decimal in quotes: its GPU, host and power.');

export const servicePrice = z.object({ nano_per_hour: count, currency });
export type ServicePrice = z.infer<typeof servicePrice>;

const servedShape = z.object({
  prompt_below: count.nullable(),
  output_below: count.nullable(),
  /** Choices of requests. */
  sequences: count,
  prompt_tokens: count,
  /** Part of them. */
  cached_tokens: count,
  output_tokens: count,
  prefill_ms: milliseconds,
  decode_ms: milliseconds,
});
export type ServedShape = z.infer<typeof servedShape>;

export const serviceReport = z.object({
  /** null: the operator has not said. */
  price: servicePrice.nullable(),
  /** All figures are of this time before now: an hour, or less after a start. */
  window_ms: milliseconds,
  models: z
    .array(
      z.object({
        model: z.string().max(256),
        busy_ms: milliseconds,
        shapes: z.array(servedShape).max(PROMPT_BOUNDS.length * OUTPUT_BOUNDS.length),
      }),
    )
    .max(16),
});
export type ServiceReport = z.infer<typeof serviceReport>;

/** Whole nano-units of a decimal that the schema accepts: no float comes between. */
export function nanoOf(decimal: string): number {
  const [whole = '', fraction = ''] = decimal.split('.');
  return Number(whole) * NANO + Number(fraction.padEnd(9, '0'));
}
