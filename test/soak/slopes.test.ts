// A soak finds a leak that is there, in a process that it watches as it watches the real ones, and none in one that has none.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type Sample, slopeOf } from './slopes.ts';
import { Watch } from './watch.ts';

const LEAKY = fileURLToPath(new URL('./leakyProcess.ts', import.meta.url));
const ROUNDS = 24;
/** Before that code is compiled and connections are opened. */
const SETTLED_ROUND = 8;

async function watched(bytesPerRequest: number): Promise<{ samples: Sample[]; sinceMs: number }> {
  const watch = new Watch();
  const child = spawn(process.execPath, [LEAKY, String(bytesPerRequest)], {
    env: { ...process.env, ...watch.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [port] = await once(child.stdout, 'data');
    const samples: Sample[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      for (let i = 0; i < 20; i++) await (await fetch(`http://127.0.0.1:${Number(port)}`)).arrayBuffer();
      const vitals = await watch.of(child.pid ?? 0);
      // As if a round took a minute: the line is judged, not the clock.
      if (vitals) samples.push({ atMs: round * 60_000, vitals });
    }
    return { samples, sinceMs: SETTLED_ROUND * 60_000 };
  } finally {
    child.kill('SIGKILL');
    watch.close();
  }
}

describe('a soak', () => {
  it('finds that a process keeps 32 KiB of each request', async () => {
    const { samples, sinceMs } = await watched(32 * 1024);
    const live = slopeOf(samples, 'liveBytes', sinceMs);
    expect(live).toMatchObject({ leaks: true });
    expect(live!.perHour / (20 * 60 * 32 * 1024), 'as much as it keeps').toBeCloseTo(1, 0);
    expect(slopeOf(samples, 'fds', sinceMs)).toMatchObject({ leaks: false });
  });

  it('finds nothing where nothing is kept', async () => {
    const { samples, sinceMs } = await watched(0);
    expect(samples).toHaveLength(ROUNDS);
    for (const figure of ['liveBytes', 'fds', 'resources'] as const)
      expect(slopeOf(samples, figure, sinceMs), figure).toMatchObject({ leaks: false });
  });

  it('says nothing of too few samples', () => {
    const vitals = { anonBytes: 1, liveBytes: 1, fds: 1, resources: 1, lagMs: 0 };
    expect(slopeOf([{ atMs: 0, vitals }], 'fds', 0)).toBeNull();
  });
});
