import { describe, expect, it } from 'vitest';
import { NonceMemory } from './nonces.ts';
import { MAX_CLOCK_SKEW_MS } from './wire/signing.ts';

describe('the nonce memory', () => {
  it('takes a nonce once, for as long as its time could still be accepted', () => {
    const nonces = new NonceMemory();
    expect(nonces.admit('k', 'n', 0)).toBe('fresh');
    expect(nonces.admit('k', 'n', 2 * MAX_CLOCK_SKEW_MS)).toBe('replayed');
    expect(nonces.admit('other key', 'n', 2 * MAX_CLOCK_SKEW_MS)).toBe('fresh');
    expect(nonces.admit('k', 'n', 2 * MAX_CLOCK_SKEW_MS + 1)).toBe('fresh');
  });

  it('refuses when it is full instead of forgetting, and has room again later', () => {
    const nonces = new NonceMemory(2);
    expect([nonces.admit('k', 'a', 0), nonces.admit('k', 'b', 10), nonces.admit('k', 'c', 20)]).toEqual([
      'fresh',
      'fresh',
      'full',
    ]);
    expect(nonces.admit('k', 'a', 20)).toBe('replayed');
    expect(nonces.admit('k', 'c', 2 * MAX_CLOCK_SKEW_MS + 1)).toBe('fresh');
    expect(nonces.size).toBe(2);
  });
});
