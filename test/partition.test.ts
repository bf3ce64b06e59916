// A pool that can't be reached any more and doesn't say so: its requests go on at the other, new ones go there, nobody waits past a deadline,
// nothing is billed twice, and it works for nobody for long. Real links between network namespaces, cut without a reset; where this process
// may not make any, there is nothing to test with.
import { expect, test } from 'vitest';
import { LEASE_MS } from '../gateway/relay/vigil.ts';
import { partition } from './chaos/partition.ts';
import type { PartitionClient } from './chaos/partitionClients.ts';
import { Network } from './support/network.ts';

/** Until the gateway knows, and what it then takes to go on. */
const KNOWN_WITHIN_MS = 8000;
const RECOVERS_WITHIN_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;

const reason = ((): string | null => {
  try {
    Network.open(1).close();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
})();

test(reason === null ? 'a pool behind a dead link' : `no network of its own here: ${reason}`, async () => {
  if (reason !== null) return expect(reason).not.toBe('');
  const { lived, clients, receipts, faults, moved } = await partition({
    phases: [
      { phase: 'cut', lastsMs: LEASE_MS + 5000 },
      { phase: 'nothing reaches the pool', lastsMs: 12_000 },
      { phase: 'nothing comes from the pool', lastsMs: 12_000 },
      { phase: 'slow', lastsMs: 8000 },
    ],
    requestTimeoutMs: REQUEST_TIMEOUT_MS,
    say: console.log,
  });
  const tookMs = ({ fromMs, toMs }: PartitionClient) => toMs - fromMs;
  const short = clients.filter(({ kind }) => kind !== 'long');
  const usualMs = short.map(tookMs).sort((a, b) => a - b)[Math.floor(short.length / 2)] ?? 0;
  console.log(`${clients.length} requests, ${moved} of them at both pools; a short one takes ${usualMs} ms`);

  expect(
    clients.flatMap(({ wrong }) => wrong ?? []),
    'clients notice nothing but a pause',
  ).toEqual([]);
  expect(faults, 'no double bill, no hold left').toEqual([]);
  expect(moved, 'some were under way').toBeGreaterThan(0);
  for (const { phase, fromMs, healedMs } of lived) {
    const during = short.filter((one) => one.fromMs >= fromMs && one.fromMs < healedMs);
    const early = during.filter((one) => one.fromMs < fromMs + KNOWN_WITHIN_MS);
    const late = during.filter((one) => one.fromMs >= fromMs + KNOWN_WITHIN_MS);
    const longest = (some: readonly PartitionClient[]) => Math.max(0, ...some.map(tookMs));
    const served = receipts.filter((one) => one.outcome === 'completed' && one.started_at_ms >= healedMs);
    const recoveredMs = Math.min(...served.map((one) => one.started_at_ms)) - healedMs;
    console.log(
      `${phase}: short requests took at most ${longest(early)} ms in the first ${KNOWN_WITHIN_MS / 1000} s, ${longest(late)} ms after; ` +
        `served again ${recoveredMs} ms after it was healed`,
    );
    expect(recoveredMs, `${phase}: served again`).toBeLessThan(RECOVERS_WITHIN_MS);
    if (phase === 'slow') continue;
    expect(late.length, `${phase}: there were some`).toBeGreaterThan(10);
    expect(longest(late), `${phase}: new requests go to the other pool`).toBeLessThan(3000 + 3 * usualMs);
    expect(longest(early), `${phase}: a silent leg is given up`).toBeLessThan(KNOWN_WITHIN_MS + 3000 + 3 * usualMs);
  }

  // The first cut lasts longer than a lease, and long streams were under way.
  const [{ fromMs: cutMs, healedMs } = { fromMs: 0, healedMs: 0 }] = lived;
  const inIt = receipts.filter((one) => one.started_at_ms < cutMs && one.updated_at_ms > cutMs + 1000);
  const endedMs = inIt.map((one) => one.updated_at_ms - cutMs);
  console.log(`the far pool ended what was under way ${endedMs.join(', ')} ms after the cut`);
  expect(endedMs.length, 'long streams were under way there').toBeGreaterThan(0);
  expect(healedMs - cutMs).toBeGreaterThan(LEASE_MS + 3000);
  for (const ms of endedMs) expect(ms, 'a pool works for nobody no longer than a lease').toBeLessThan(LEASE_MS + 3000);
});
