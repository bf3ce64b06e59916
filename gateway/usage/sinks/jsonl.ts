// The bill as JSON lines, to an HTTP endpoint, or into a folder. A batch is one request, or one file, named by the rows that it holds, so that
// the same batch is recognised: by the endpoint through its Idempotency-Key, in the folder by writing the same file again.
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Batch, BilledRow, Sink } from './deliver.ts';

function linesOf(rows: readonly BilledRow[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('');
}

/** `dedupeWindowMs`: how long the endpoint remembers an Idempotency-Key. */
export function httpSink(url: string, dedupeWindowMs: number, send: typeof fetch): Sink {
  return {
    dedupeWindowMs,
    async deliver({ id, rows }: Batch) {
      const headers = { 'content-type': 'application/jsonl', 'idempotency-key': id };
      const response = await send(url, { method: 'POST', headers, body: linesOf(rows) });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`The sink answered ${response.status} to ${id}.`);
    },
  };
}

export function folderSink(folder: string): Sink {
  return {
    dedupeWindowMs: null,
    async deliver({ id, rows }: Batch) {
      const path = join(folder, `${id}.jsonl`);
      const file = await open(`${path}.tmp`, 'w');
      try {
        await file.writeFile(linesOf(rows));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${path}.tmp`, path);
    },
  };
}
