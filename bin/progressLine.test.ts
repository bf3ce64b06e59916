import { describe, expect, it } from 'vitest';
import { ProgressLine } from './progressLine.ts';

function rig(isTTY: boolean) {
  const clock = { now: 0 };
  let text = '';
  const out = { isTTY, columns: 60, write: (more: string) => (text += more) };
  return { clock, progress: new ProgressLine(out, () => clock.now), text: () => text };
}

describe('progress', () => {
  it('in a log: nothing for what is short, a line each three seconds, and how long it took', () => {
    const { clock, progress, text } = rig(false);
    progress.bytes('Fetching', 0, 100e6);
    progress.end();
    expect(text()).toBe('');
    for (clock.now = 0; clock.now <= 7000; clock.now += 100) progress.bytes('Fetching', clock.now * 1e4, 100e6);
    progress.say('Done');
    const lines = text().trimEnd().split('\n');
    expect(lines).toEqual([
      'Fetching 10.0 MB of 100.0 MB (10 %), 10.0 MB/s',
      'Fetching 40.0 MB of 100.0 MB (40 %), 10.0 MB/s',
      'Fetching 70.0 MB of 100.0 MB (70 %), 10.0 MB/s',
      'Fetching: done in 7.1 s',
      'Done',
    ]);
  });

  it('on a terminal: one line that rewrites itself, never wider than the terminal', () => {
    const { clock, progress, text } = rig(true);
    for (; clock.now < 1000; clock.now += 50) progress.share(`Compiling ${'x'.repeat(80)}`, clock.now, 1000);
    expect(text()).not.toContain('\n');
    const shown = text().split('\r').slice(1);
    expect(shown).toHaveLength(10);
    for (const each of shown) expect(each.replace('\x1b[K', '').length).toBeLessThan(60);
  });

  it('a download that goes on counts its rate from where it began', () => {
    const { clock, progress, text } = rig(false);
    progress.bytes('Fetching', 50e6, null);
    clock.now = 2000;
    progress.bytes('Fetching', 60e6, null);
    expect(text()).toBe('Fetching 60.0 MB, 5.0 MB/s\n');
  });
});
