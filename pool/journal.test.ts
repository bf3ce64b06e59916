import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Journal, type JournalIo, JournalUnavailable } from './journal.ts';
import { JournalLocked } from './journalLock.ts';
import type { JournalRecord } from './receipts.ts';

let folder = '';
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), 'journal-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

function open(options: { io?: JournalIo; segmentBytes?: number; fsync?: 'none' | 'each'; at?: string } = {}): Journal {
  const { at, ...rest } = options;
  return new Journal({ folder: at ?? folder, fsync: 'none', segmentBytes: 1 << 20, now: () => 5000, ...rest });
}

function start(journal: Journal, requestId: string, choices = 1): number {
  const handle = journal.book.nextHandle;
  const receipt = {
    request_id: requestId,
    pool_id: 'p',
    tenant: 't',
    model: 'm',
    prompt_tokens: 4,
    cached_tokens: 0,
    choices: Array.from({ length: choices }, () => 0),
    outcome: 'running' as const,
    started_at_ms: 1,
    updated_at_ms: 1,
  };
  journal.append([{ kind: 'start', handle, receipt }]);
  return handle;
}

const step = (released: [number, number, number, number][], timeMs = 2): JournalRecord => ({
  kind: 'step',
  timeMs,
  released,
});
const end = (handle: number): JournalRecord => ({ kind: 'end', handle, outcome: 'completed', timeMs: 3 });

function segments(): string[] {
  return fs.readdirSync(folder).filter((name) => name.startsWith('journal-'));
}

describe('the journal', () => {
  it('tells after a restart what had been released, and that running requests are lost', () => {
    const first = open();
    const a = start(first, 'a', 2);
    const b = start(first, 'b');
    first.append([
      step([
        [a, 0, 1, 3],
        [a, 1, 1, 3],
        [b, 0, 1, 0],
      ]),
      end(b),
    ]);
    first.append([step([[a, 0, 2, 3]])]);
    first.close();
    const second = open();
    expect(second.lostRequests).toBe(1);
    expect(second.damagedLines).toBe(0);
    expect(second.book.get('a')).toMatchObject({
      outcome: 'lost',
      choices: [2, 1],
      cached_tokens: 3,
      updated_at_ms: 5000,
    });
    expect(second.book.get('b')).toMatchObject({ outcome: 'completed', choices: [1], updated_at_ms: 3 });
    expect(second.book.ended(undefined, 10).receipts.map((r) => r.request_id)).toEqual(['b', 'a']);
    second.close();
  });

  it('recovers from a cut at every byte: exactly the whole appends before it count', () => {
    const journal = open();
    const path = join(folder, segments()[0] ?? '');
    const sizes: number[] = [fs.statSync(path).size];
    const bills: (number | undefined)[] = [undefined];
    const note = () => {
      sizes.push(fs.statSync(path).size);
      bills.push(journal.book.get('a')?.choices[0]);
    };
    const a = start(journal, 'a');
    note();
    for (let released = 1; released <= 4; released++) {
      journal.append([step([[a, 0, released, 0]])]);
      note();
    }
    journal.close();
    const whole = fs.readFileSync(path);
    for (let cut = 0; cut <= whole.length; cut++) {
      const at = fs.mkdtempSync(join(folder, 'cut-'));
      fs.writeFileSync(join(at, segments()[0] ?? ''), whole.subarray(0, cut));
      const recovered = open({ at });
      const appends = sizes.findLastIndex((size) => size <= cut);
      expect(recovered.book.get('a')?.choices[0], `cut at byte ${cut}`).toBe(bills[appends]);
      expect(recovered.damagedLines).toBe(sizes.includes(cut) ? 0 : 1);
      recovered.close();
    }
  });

  it('skips a damaged line in the middle and believes the rest', () => {
    const journal = open();
    const path = join(folder, segments()[0] ?? '');
    const a = start(journal, 'a');
    const before = fs.statSync(path).size;
    journal.append([step([[a, 0, 1, 0]])]);
    journal.append([step([[a, 0, 2, 0]])]);
    journal.close();
    const bytes = fs.readFileSync(path);
    bytes[bytes.indexOf('0,0,1,0', before) + 4] = '9'.charCodeAt(0); // still JSON: only the checksum tells
    fs.writeFileSync(path, bytes);
    const recovered = open();
    expect(recovered.damagedLines).toBe(1);
    expect(recovered.book.get('a')?.choices).toEqual([2]);
    recovered.close();
  });

  it('makes one write per append, whatever the number of sequences', () => {
    let writes = 0;
    const writeSync: JournalIo['writeSync'] = (
      fd: number,
      data: NodeJS.ArrayBufferView | string,
      offset?: number | null | object,
    ) => {
      writes++;
      return fs.writeSync(fd, data as NodeJS.ArrayBufferView, offset as number);
    };
    const journal = open({ io: { ...fs, writeSync } });
    const handles = Array.from({ length: 16 }, (_, i) => start(journal, `r${i}`));
    writes = 0;
    journal.append([step(handles.map((handle) => [handle, 0, 1, 0])), end(handles[3] ?? 0)]);
    expect(writes).toBe(1);
    journal.close();
  });

  it('stays bounded: acknowledged receipts leave the disk, unacknowledged ones survive every compaction', () => {
    const journal = open({ segmentBytes: 4096 });
    start(journal, 'kept');
    for (let i = 0; i < 500; i++) {
      const handle = start(journal, `r${i}`);
      journal.append([step([[handle, 0, 1, 0]]), end(handle)]);
      journal.append([{ kind: 'ack', handles: journal.book.endedHandles([`r${i}`]) }]);
    }
    expect(segments()).toHaveLength(1);
    expect(fs.statSync(join(folder, segments()[0] ?? '')).size).toBeLessThan(4096 + 512);
    expect(journal.book.size).toBe(1);
    journal.close();
    const recovered = open();
    expect(recovered.book.get('kept')?.outcome).toBe('lost');
    expect(recovered.book.size).toBe(1);
    recovered.close();
  });

  it('ignores a compaction that was cut short, before or after its rename', () => {
    const journal = open();
    const a = start(journal, 'a');
    journal.append([step([[a, 0, 7, 0]])]);
    journal.close();
    const [name = ''] = segments();
    const sequence = Number(name.slice(8, 18));
    fs.writeFileSync(join(folder, `journal-${String(sequence + 1).padStart(10, '0')}.log.tmp`), 'half a snap');
    fs.copyFileSync(join(folder, name), join(folder, `journal-${String(sequence - 1).padStart(10, '0')}.log`));
    const recovered = open();
    expect(recovered.book.get('a')?.choices).toEqual([7]);
    expect(segments().filter((segment) => segment.endsWith('.log'))).toHaveLength(1);
    recovered.close();
  });

  it('refuses a second process, and lets the next one in when the first is gone', () => {
    const journal = open();
    expect(() => open()).toThrow(JournalLocked);
    journal.close();
    open().close();
  });

  it('bills nothing that a failing disk did not take, and serves again once it does', () => {
    let failing = false;
    const writeSync: JournalIo['writeSync'] = (
      fd: number,
      data: NodeJS.ArrayBufferView | string,
      offset?: number | null | object,
    ) => {
      const bytes = data as Uint8Array;
      const from = offset as number;
      if (!failing) return fs.writeSync(fd, bytes, from);
      if (from > 0) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      return fs.writeSync(fd, bytes, 0, 5); // a disk that fills up takes a part first
    };
    const journal = open({ io: { ...fs, writeSync } });
    const a = start(journal, 'a');
    journal.append([step([[a, 0, 1, 0]])]);
    const path = join(folder, segments()[0] ?? '');
    const size = fs.statSync(path).size;
    failing = true;
    expect(() => journal.append([step([[a, 0, 2, 0]])])).toThrow(JournalUnavailable);
    expect(journal.healthy).toBe(false);
    expect(journal.book.get('a')?.choices).toEqual([1]);
    expect(fs.statSync(path).size).toBe(size);
    expect(() => journal.append([step([[a, 0, 2, 0]])])).toThrow(JournalUnavailable);
    journal.applyUnrecorded([{ kind: 'end', handle: a, outcome: 'failed', timeMs: 9 }]);
    expect(journal.heal()).toBe(false);
    failing = false;
    expect(journal.heal()).toBe(true);
    journal.append([]);
    journal.close();
    const recovered = open();
    expect(recovered.book.get('a')).toMatchObject({ outcome: 'failed', choices: [1] });
    expect(recovered.damagedLines).toBe(0);
    recovered.close();
  });

  it('flushes each append when asked to', () => {
    let flushes = 0;
    const fsyncSync = (fd: number) => {
      flushes++;
      fs.fsyncSync(fd);
    };
    const journal = open({ io: { ...fs, fsyncSync }, fsync: 'each' });
    flushes = 0;
    start(journal, 'a');
    start(journal, 'b');
    expect(flushes).toBe(2);
    journal.close();
  });

  it('survives kill -9 of a real process: every position that left it is on the bill', async () => {
    const writer = new URL('../test/support/journalWriter.ts', import.meta.url).pathname;
    for (let round = 0; round < 4; round++) {
      // A small segment compacts all the time, so that some kills fall into a compaction.
      const child = spawn(process.execPath, [writer, folder, '4096'], { stdio: ['ignore', 'pipe', 'inherit'] });
      const left = new Map<string, number>();
      const lines = createInterface({ input: child.stdout });
      lines.on('line', (line) => {
        const [request = '', released] = line.split(' ');
        left.set(request, Number(released));
        if (left.size > 30 + 40 * round) child.kill('SIGKILL');
      });
      await new Promise((resolve) => child.once('close', resolve));
      const recovered = open();
      expect(left.size).toBeGreaterThan(30);
      for (const [request, released] of left) {
        const billed = recovered.book.get(request)?.choices[0] ?? 0;
        expect(billed, `${request} of round ${round}`).toBeGreaterThanOrEqual(released);
        expect(billed).toBeLessThanOrEqual(20);
      }
      recovered.close();
    }
  });
});
