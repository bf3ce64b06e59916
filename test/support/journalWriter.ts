// A process that appends to a journal as fast as it can and tells on stdout what it may bill: the victim of the kill -9 test.
import fs from 'node:fs';
import { Journal } from '../../pool/journal.ts';

const [folder = '', segmentBytes = '4096'] = process.argv.slice(2);
const journal = new Journal({ folder, fsync: 'none', segmentBytes: Number(segmentBytes), now: Date.now });
const timeMs = Date.now();
for (let request = 0; ; request++) {
  const handle = journal.book.nextHandle;
  const receipt = {
    request_id: `${process.pid}-${request}`,
    pool_id: 'p',
    tenant: 't',
    model: 'm',
    prompt_tokens: 3,
    cached_tokens: 0,
    choices: [0],
    outcome: 'running' as const,
    started_at_ms: timeMs,
    updated_at_ms: timeMs,
  };
  journal.append([{ kind: 'start', handle, receipt }]);
  for (let released = 1; released <= 20; released++) {
    journal.append([{ kind: 'step', timeMs, released: [[handle, 0, released, 0]] }]);
    // Only now may the token leave. This write blocks, so what the reader has seen was journalled before.
    fs.writeSync(1, `${receipt.request_id} ${released}\n`);
  }
  if (request % 3 !== 0) journal.append([{ kind: 'end', handle, outcome: 'completed', timeMs }]);
}
