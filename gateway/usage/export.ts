// The bill as a file: one line per request, oldest settlement first, in CSV or JSON lines. Rows never change and the end is fixed
// when the export begins, so repeating it gives the same bytes, and a cursor (any row's own) goes on exactly behind that row.
import type { LedgerEntry } from '../ledger/port.ts';
import { decimalUsd } from '../prices/price.ts';
import type { UsageFilter, UsageRange, UsageStore } from './port.ts';

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
  ['price_id', (e) => e.price?.version ?? ''],
  ['cost_usd', (e) => decimalUsd(BigInt(e.costNanoUsd))],
  ['reserved_at', (e) => new Date(e.reservedAtMs).toISOString()],
  ['settled_at', (e) => new Date(e.settledAtMs).toISOString()],
] as const satisfies readonly (readonly [string, (entry: LedgerEntry) => string | number])[];

export const CSV_HEADER = `${COLUMNS.map(([name]) => name).join(',')}\r\n`;

/** One field of RFC 4180; a leading =, +, - or @ is quoted off, so that no spreadsheet takes a model's name for a formula. */
export function csvField(value: string | number): string {
  if (typeof value === 'number') return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function exportLine(entry: LedgerEntry, format: ExportFormat): string {
  if (format === 'csv') return `${COLUMNS.map(([, read]) => csvField(read(entry))).join(',')}\r\n`;
  return `${JSON.stringify(Object.fromEntries(COLUMNS.map(([name, read]) => [name, read(entry)])))}\n`;
}

/** Streams the range, page by page as it is read. */
export function exportUsage(
  usage: UsageStore,
  filter: UsageFilter,
  format: ExportFormat,
  { after, upTo }: UsageRange,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let position = after;
  let head = format === 'csv' ? CSV_HEADER : '';
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const entries = await usage.page(filter, position, upTo, PAGE_ROWS);
        const text = head + entries.map((entry) => exportLine(entry, format)).join('');
        head = '';
        if (text !== '') controller.enqueue(encoder.encode(text));
        position = entries.at(-1)?.sequence ?? upTo;
        if (entries.length < PAGE_ROWS) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
}
