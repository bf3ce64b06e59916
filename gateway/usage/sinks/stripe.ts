// Stripe's meter events (docs.stripe.com/api/billing/meter-event): one per request and billed meter that has tokens. The identifier is the
// request's, so Stripe takes each once as long as it remembers, which it promises for 24 hours.
import { BILLED_METERS, type BilledMeter, meteredTokens } from '../../prices/price.ts';
import type { Batch, BilledRow, Sink } from './deliver.ts';

const DEDUPE_WINDOW_MS = 24 * 3_600_000;
const STRIPE_URL = 'https://api.stripe.com';

export interface StripeOptions {
  apiKey: string;
  /** Stripe customer of a project; a project without one isn't billed there. */
  customers: Readonly<Record<string, string>>;
  /** Names of Stripe's meters. */
  meters: Readonly<Record<BilledMeter, string>>;
  url?: string;
}

export interface MeterEvent {
  event_name: string;
  identifier: string;
  /** Unix seconds. */
  timestamp: number;
  payload: { stripe_customer_id: string; value: string };
}

export function meterEvents(rows: readonly BilledRow[], { customers, meters }: StripeOptions): MeterEvent[] {
  return rows.flatMap((row) => {
    const customer = customers[row.project_id];
    const { input_tokens: inputTokens, input_cached_tokens: cachedInputTokens, output_tokens: outputTokens } = row;
    const tokens = meteredTokens({ inputTokens, cachedInputTokens, outputTokens });
    if (customer === undefined) return [];
    return BILLED_METERS.filter((meter) => tokens[meter] > 0).map((meter) => ({
      event_name: meters[meter],
      identifier: `${row.request_id}-${meter}`,
      timestamp: Math.floor(Date.parse(row.reserved_at) / 1000),
      payload: { stripe_customer_id: customer, value: String(tokens[meter]) },
    }));
  });
}

export function stripeSink(options: StripeOptions, send: typeof fetch): Sink {
  const url = `${options.url ?? STRIPE_URL}/v1/billing/meter_events`;
  return {
    dedupeWindowMs: DEDUPE_WINDOW_MS,
    async deliver({ rows }: Batch) {
      for (const { event_name, identifier, timestamp, payload } of meterEvents(rows, options)) {
        const body = new URLSearchParams({
          ...{ event_name, identifier, timestamp: String(timestamp) },
          ...{ 'payload[stripe_customer_id]': payload.stripe_customer_id, 'payload[value]': payload.value },
        });
        const headers = { authorization: `Bearer ${options.apiKey}`, 'idempotency-key': identifier };
        const response = await send(url, { method: 'POST', headers, body });
        const answer = await response.text();
        // A batch that is sent again meets its own events.
        if (!response.ok && !/identifier.*(already|exists|duplicate)/i.test(answer))
          throw new Error(`Stripe answered ${response.status} to ${identifier}.`);
      }
    },
  };
}
