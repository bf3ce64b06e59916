// Pools of the real engine die under streams, and no client notices.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openTinyModel } from '../support/tinyModelFile.ts';
import { streams } from './streams.ts';

const SEED = Number(process.env.HEARTH_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

test('streams whose pools are killed and lose their devices say what they would have said, and are billed for it once', async () => {
  console.log(`streams: seed ${SEED}`);
  const tiny = await openTinyModel();
  try {
    const said: string[] = [];
    const report = await streams({
      ...{ seed: SEED, streams: 16, tokens: 150, kills: 3, losses: 3, say: (line: string) => said.push(line) },
      ...{ path: join(tiny.folder, 'tiny.gguf'), model: { kvBlocks: 512 } },
    });
    expect(report.different, [`seed ${SEED}`, ...said].join('\n')).toEqual([]);
    expect(report.faults, `seed ${SEED}`).toEqual([]);
    expect(report.reroutes).toBeGreaterThan(0);
    expect(report.devicesLost, said.join('\n')).toBeGreaterThan(0);
  } finally {
    await tiny.close();
  }
}, 240_000);
