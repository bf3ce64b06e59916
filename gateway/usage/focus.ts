// The bill in the FinOps Open Cost and Usage Specification, version 1.2 (focus.finops.org): one row per project, UTC hour, model, price and
// billed meter. Money and quantities are exact decimals, never floats, and add up to the ledger to the nano-dollar. Rows are made from a
// range of entries that no longer changes, so the same range always gives the same bytes; what is settled later is in a later range, as
// rows of its own, marked as corrections where the month of the use had ended.
import { BILLED_METERS, type BilledMeter, decimalUsd, meteredTokens, unitPrices } from '../prices/price.ts';
import { csvField } from './export.ts';
import type { PricedUse, UsageFilter, UsageRange, UsageStore } from './port.ts';

const HOUR_MS = 3_600_000;
/** Sums per read: what is in memory at once, three rows each at most. */
const PAGE_SUMS = 500;

/** Who bills whom. */
export interface FocusParties {
  accountId: string;
  accountName: string;
  issuerName: string;
}

interface FocusCharge {
  use: PricedUse;
  meter: BilledMeter;
  tokens: number;
  costNanoUsd: bigint;
  projectName: string;
  parties: FocusParties;
}

const METER_NAMES: Readonly<Record<BilledMeter, string>> = {
  input: 'Input Tokens',
  cached_input: 'Cached Input Tokens',
  output: 'Output Tokens',
};

const cost = ({ costNanoUsd }: FocusCharge) => decimalUsd(costNanoUsd);
const unitPrice = ({ use, meter }: FocusCharge) => decimalUsd(BigInt(unitPrices(use.price)[meter]));
const tokens = ({ tokens }: FocusCharge) => String(tokens);
const skuId = ({ use, meter }: FocusCharge) => `${use.model}/${meter}`;

/** In the order of their names; '' is null. */
const COLUMNS: readonly (readonly [string, (charge: FocusCharge) => string])[] = [
  ['BilledCost', cost],
  ['BillingAccountId', ({ parties }) => parties.accountId],
  ['BillingAccountName', ({ parties }) => parties.accountName],
  ['BillingAccountType', () => 'Organization'],
  ['BillingCurrency', () => 'USD'],
  ['BillingPeriodEnd', ({ use }) => monthAt(use.bucketMs, 1)],
  ['BillingPeriodStart', ({ use }) => monthAt(use.bucketMs, 0)],
  ['ChargeCategory', () => 'Usage'],
  ['ChargeClass', ({ use }) => (use.late ? 'Correction' : '')],
  ['ChargeDescription', ({ use, meter }) => `${METER_NAMES[meter]} of ${use.model}`],
  ['ChargeFrequency', () => 'Usage-Based'],
  ['ChargePeriodEnd', ({ use }) => instant(use.bucketMs + HOUR_MS)],
  ['ChargePeriodStart', ({ use }) => instant(use.bucketMs)],
  ['ConsumedQuantity', tokens],
  ['ConsumedUnit', () => 'Tokens'],
  ['ContractedCost', cost],
  ['ContractedUnitPrice', unitPrice],
  ['EffectiveCost', cost],
  ['InvoiceId', () => ''],
  ['InvoiceIssuerName', ({ parties }) => parties.issuerName],
  ['ListCost', cost],
  ['ListUnitPrice', unitPrice],
  ['PricingCategory', () => 'Standard'],
  ['PricingQuantity', tokens],
  ['PricingUnit', () => 'Tokens'],
  ['ProviderName', ({ parties }) => parties.issuerName],
  ['PublisherName', ({ parties }) => parties.issuerName],
  ['RegionId', () => ''],
  ['RegionName', () => ''],
  ['ResourceId', () => ''],
  ['ServiceCategory', () => 'AI and Machine Learning'],
  ['ServiceName', () => 'Hearth'],
  ['ServiceSubcategory', () => 'Generative AI'],
  ['SkuId', skuId],
  ['SkuMeter', ({ meter }) => METER_NAMES[meter]],
  ['SkuPriceDetails', ({ use }) => JSON.stringify({ x_Model: use.model })],
  ['SkuPriceId', ({ use, meter }) => (use.price ? `${use.price.version}/${meter}` : `${use.model}/${meter}/unpriced`)],
  ['SubAccountId', ({ use }) => use.project],
  ['SubAccountName', ({ projectName }) => projectName],
  ['SubAccountType', () => 'Project'],
  ['Tags', () => '{}'],
];

export const FOCUS_HEADER = `${COLUMNS.map(([name]) => name).join(',')}\r\n`;

/** One line per meter that has tokens. */
export function focusLines(use: PricedUse, projectName: string, parties: FocusParties): string {
  const metered = meteredTokens(use);
  const prices = unitPrices(use.price);
  return BILLED_METERS.filter((meter) => metered[meter] > 0)
    .map((meter) => {
      const costNanoUsd = BigInt(metered[meter]) * BigInt(prices[meter]);
      const charge = { use, meter, tokens: metered[meter], costNanoUsd, projectName, parties };
      return `${COLUMNS.map(([, read]) => csvField(read(charge))).join(',')}\r\n`;
    })
    .join('');
}

/** Streams the range hour by hour, each read in pages. */
export function exportFocus(
  usage: UsageStore,
  filter: UsageFilter,
  range: UsageRange,
  parties: FocusParties,
  nameOf: (project: string) => Promise<string>,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  async function* lines(): AsyncGenerator<string> {
    yield FOCUS_HEADER;
    for (let fromMs = filter.startMs; ; ) {
      const first = await usage.firstUse({ ...filter, startMs: fromMs }, range);
      if (first === null) return;
      const hourMs = Math.floor(first / HOUR_MS) * HOUR_MS;
      for await (const page of hour(usage, filter, range, hourMs)) {
        const names = new Map<string, string>();
        for (const { project } of page) if (!names.has(project)) names.set(project, await nameOf(project));
        yield page.map((use) => focusLines(use, names.get(use.project) ?? '', parties)).join('');
      }
      fromMs = hourMs + HOUR_MS;
    }
  }
  const source = lines();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await source.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      },
    },
    { highWaterMark: 0 },
  );
}

async function* hour(
  usage: UsageStore,
  filter: UsageFilter,
  range: UsageRange,
  hourMs: number,
): AsyncGenerator<PricedUse[]> {
  const startMs = Math.max(filter.startMs, hourMs);
  const endMs = Math.min(filter.endMs, hourMs + HOUR_MS);
  const within = { ...filter, startMs, endMs };
  const query = { filter: within, range, originMs: hourMs, widthMs: HOUR_MS, byKey: false, limit: PAGE_SUMS };
  let page = await usage.priced(query);
  while (page.length > 0) {
    yield page;
    const behind = page.at(-1);
    if (!behind || page.length < PAGE_SUMS) return;
    page = await usage.priced({ ...query, behind });
  }
}

/** ISO 8601 in UTC, in whole seconds. */
function instant(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
}

/** Start of the UTC month that holds `ms`, or of a later one. */
function monthAt(ms: number, later: number): string {
  const at = new Date(ms);
  return instant(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + later, 1));
}
