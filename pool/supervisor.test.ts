import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { nextRestart } from './restartPolicy.ts';
import { ProcessFailed, Supervisor, type SupervisorOptions } from './supervisor.ts';

const ODD = fileURLToPath(new URL('../test/support/oddProcess.ts', import.meta.url));
const HEALTH = { scheme: 'http' as const, path: '/', intervalMs: 50, timeoutMs: 200, failures: 2 };
const RESTART = { initialDelayMs: 10, maxDelayMs: 40, maxDeaths: 4, windowMs: 60_000 };

const supervisors: Supervisor[] = [];
afterEach(async () => {
  for (const supervisor of supervisors.splice(0)) await supervisor.stop();
});

function supervise(plan: Record<string, unknown>, more: Partial<SupervisorOptions> = {}) {
  const states: string[] = [];
  const supervisor = new Supervisor({
    name: 'odd',
    command: process.execPath,
    args: [ODD],
    env: { PATH: process.env.PATH },
    host: '127.0.0.1',
    section: (port) => ({ port: port ?? 0, ...plan }),
    stopLimitMs: 5000,
    health: HEALTH,
    restart: RESTART,
    onState: (state) => states.push(state),
    ...more,
  });
  supervisors.push(supervisor);
  return { supervisor, states };
}

function alive(pid: number | undefined): boolean {
  try {
    return pid !== undefined && process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !holds(); i++) await sleep(25);
  expect(holds(), what).toBe(true);
}

describe('the supervisor', () => {
  it('starts a process again on the same port after it died', async () => {
    const { supervisor, states } = supervise({});
    const { port } = await supervisor.start();
    const pid = supervisor.pid ?? 0;
    process.kill(pid, 'SIGKILL');
    await until('ready again', () => states.filter((state) => state === 'ready').length === 2);
    expect(supervisor.pid).not.toBe(pid);
    expect(supervisor.port).toBe(port);
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(200);
  });

  it('gives up a crash loop with the last words of the process', async () => {
    const { supervisor, states } = supervise({ dieAfterMs: 20 });
    await supervisor.start();
    const failed = await supervisor.failed;
    expect(failed).toMatchObject({ code: 'crash_loop', message: expect.stringContaining('odd process gives up') });
    expect(states.filter((state) => state === 'loading')).toHaveLength(RESTART.maxDeaths);
    expect(states.at(-1)).toBe('failed');
  });

  it('kills and replaces a process that lives but no longer answers', async () => {
    const { supervisor, states } = supervise({ answers: 3 });
    await supervisor.start();
    const pid = supervisor.pid;
    await until('replaced', () => supervisor.pid !== pid && states.at(-1) === 'ready');
    expect(alive(pid)).toBe(false);
  });

  it('tells a process that answers but is not ready, and leaves it alone', async () => {
    const { supervisor, states } = supervise({ status: 503 });
    await supervisor.start();
    const pid = supervisor.pid;
    await until('unready', () => states.at(-1) === 'unready');
    await sleep(500);
    expect(supervisor.pid).toBe(pid);
  });

  it('ends a process that ignores SIGTERM, and leaves nothing running', async () => {
    const { supervisor } = supervise({ ignoreTerm: true }, { stopLimitMs: 200 });
    await supervisor.start();
    const pid = supervisor.pid;
    await supervisor.stop();
    expect(alive(pid)).toBe(false);
  });

  it('keeps a signal to its own process group, as Ctrl-C sends it, away from the process', async () => {
    const { supervisor } = supervise({});
    await supervisor.start();
    expect(process.kill(-(supervisor.pid ?? 0), 0)).toBe(true); // it leads a group of its own
  });

  it('stops in the middle of a start and of a restart', async () => {
    const starting = supervise({ mute: true });
    const started = starting.supervisor.start().catch((error: unknown) => error);
    await sleep(100);
    await starting.supervisor.stop();
    expect(await started).toBeInstanceOf(ProcessFailed);
    const restarting = supervise({}, { restart: { ...RESTART, initialDelayMs: 60_000, maxDelayMs: 60_000 } });
    await restarting.supervisor.start();
    process.kill(restarting.supervisor.pid ?? 0, 'SIGKILL');
    await until('the second life', () => restarting.states.filter((state) => state === 'ready').length === 2);
    process.kill(restarting.supervisor.pid ?? 0, 'SIGKILL');
    await until('waiting', () => restarting.states.filter((state) => state === 'restarting').length === 2);
    await restarting.supervisor.stop();
    expect(restarting.states.at(-1)).toBe('stopped');
  });

  it('does not wait for ever on a start that says nothing', async () => {
    const { supervisor } = supervise({ mute: true }, { stallLimitMs: 4000 });
    await expect(supervisor.start()).rejects.toMatchObject({
      code: 'start_failed',
      message: expect.stringContaining('odd process begins'),
    });
  });

  it('names a command that does not exist', async () => {
    const { supervisor } = supervise({}, { command: '/nonexistent/node' });
    await expect(supervisor.start()).rejects.toThrow('/nonexistent/node');
  });
});

describe('the restart policy', () => {
  const policy = { initialDelayMs: 100, maxDelayMs: 1000, maxDeaths: 8, windowMs: 10_000 };
  const delays = Array.from({ length: 8 }, (_, i) => nextRestart(policy, Array(i + 1).fill(500), 500)?.delayMs ?? null);

  it('restarts at once, then ever later up to a bound, then not at all', () => {
    expect(delays).toEqual([0, 100, 200, 400, 800, 1000, 1000, null]);
  });

  it('forgets deaths of long ago', () => {
    expect(nextRestart(policy, [0, 1, 2, 3, 4, 5, 6, 20_000], 20_000)).toEqual({ delayMs: 0 });
  });
});
