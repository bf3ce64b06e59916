// Nesting is counted as JSON.parse would see it, brackets in strings apart.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nestsDeeper } from './jsonBounds.ts';

const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
const bytes = (text: string) => new TextEncoder().encode(text);

test('agrees with the parsed value', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6, stringUnit: 'binary' }), fc.integer({ min: 0, max: 8 }), (text, most) => {
      expect(nestsDeeper(bytes(text), most)).toBe(depthOf(JSON.parse(text)) > most);
    }),
  );
});

test.each([
  ['"[[[["', 0, false],
  ['["\\"[[["]', 1, false],
  ['["\\\\",[]]', 1, true],
  ['{"a":{"b":1}}', 2, false],
  ['{"a":{"b":1}}', 1, true],
  ['[[', 1, true],
])('%s deeper than %i: %s', (text, most, deeper) => {
  expect(nestsDeeper(bytes(text), most)).toBe(deeper);
});
