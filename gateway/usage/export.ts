// The bill as a file: one line per request, oldest settlement first, in CSV or JSON lines. Rows never change and the end is fixed
// when the export begins, so repeating it gives the same bytes, and a cursor (any row's own) goes on exactly behind that row.
import type { LedgerEntry } from '../ledger/port.ts';
import type { UsageFilter, UsageStore } from './port.ts';

export type ExportFormat = 'csv' | 'jsonl';

/** Rows per read: what is in memory at once. */
const PAGE_ROWS = 1000;

const COLUMNS = [
  ['cursor', (e) => e.sequence],
  ['request_id', (e) => e.requestId],
  ['project_id', (e) => e.tenant],
  ['api_key_id', (e) => e.keyId],
  ['model', (e) => e.model],
  ['pool_id', (e) => e.pool],
  ['input_tokens', (e) => e.inputTokens],
  ['input_cached_tokens', (e) => e.cachedInputTokens],
  ['output_tokens', (e) => e.outputTokens],
  ['outcome', (e) => e.outcome],
  ['reserved_at', (e) => new Date(e.reservedAtMs).toISOString()],
  ['settled_at', (e) => new Date(e.settledAtMs).toISOString()],
] as const satisfies readonly (readonly [string, (entry: LedgerEntry) => string | number])[];

export const CSV_HEADER = `${COLUMNS.map(([name]) => name).join(',')}\r\n`;

/** RFC 4180; a leading =, +, - or @ is quoted off, so that no spreadsheet takes a model's name for a formula. */
function csvField(value: string | number): string {
  if (typeof value === 'number') return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function exportLine(entry: LedgerEntry, format: ExportFormat): string {
  if (format === 'csv') return `${COLUMNS.map(([, read]) => csvField(read(entry))).join(',')}\r\n`;
  return `${JSON.stringify(Object.fromEntries(COLUMNS.map(([name, read]) => [name, read(entry)])))}\n`;
}

/** Streams everything behind `after` up to the watermark of this moment, page by page as it is read. */
export async function exportUsage(
  usage: UsageStore,
  filter: UsageFilter,
  format: ExportFormat,
  after: number,
): Promise<{ watermark: number; body: ReadableStream<Uint8Array> }> {
  const watermark = await usage.watermark();
  const encoder = new TextEncoder();
  let position = after;
  let head = format === 'csv' ? CSV_HEADER : '';
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const entries = await usage.page(filter, position, watermark, PAGE_ROWS);
        const text = head + entries.map((entry) => exportLine(entry, format)).join('');
        head = '';
        if (text !== '') controller.enqueue(encoder.encode(text));
        position = entries.at(-1)?.sequence ?? watermark;
        if (entries.length < PAGE_ROWS) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  return { watermark, body };
}
