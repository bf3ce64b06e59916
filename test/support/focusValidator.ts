// Checks a FOCUS 1.2 file (focus.finops.org) by the rules of its usage rows: which columns there must be, which must not be null, what they
// may hold and how they depend on one another. Returns what is wrong, in words.

const MANDATORY = [
  ...[
    'BilledCost',
    'BillingAccountId',
    'BillingAccountName',
    'BillingCurrency',
    'BillingPeriodEnd',
    'BillingPeriodStart',
  ],
  ...['ChargeCategory', 'ChargeClass', 'ChargeDescription', 'ChargePeriodEnd', 'ChargePeriodStart', 'ContractedCost'],
  ...[
    'EffectiveCost',
    'InvoiceIssuerName',
    'ListCost',
    'PricingQuantity',
    'PricingUnit',
    'ProviderName',
    'PublisherName',
  ],
  ...['ServiceCategory', 'ServiceName'],
];
const CONDITIONAL = [
  ...[
    'BillingAccountType',
    'ConsumedQuantity',
    'ConsumedUnit',
    'ContractedUnitPrice',
    'ListUnitPrice',
    'PricingCategory',
  ],
  ...['RegionId', 'ResourceId', 'SkuId', 'SkuMeter', 'SkuPriceDetails', 'SkuPriceId', 'SubAccountId', 'SubAccountName'],
  ...['SubAccountType', 'Tags'],
];
const NULLABLE = new Set(['ChargeClass', 'InvoiceId', 'RegionId', 'RegionName', 'ResourceId']);
const MONEY = ['BilledCost', 'ContractedCost', 'EffectiveCost', 'ListCost', 'ContractedUnitPrice', 'ListUnitPrice'];
const TIMES = ['BillingPeriodStart', 'BillingPeriodEnd', 'ChargePeriodStart', 'ChargePeriodEnd'];
const DECIMAL = /^-?\d+(\.\d+)?$/;

export type FocusRow = Readonly<Record<string, string>>;

/** Of a file without line breaks in its fields. */
export function parseFocus(csv: string): { columns: string[]; rows: FocusRow[] } {
  const [header = '', ...lines] = csv.split('\r\n').filter((line) => line !== '');
  const columns = fieldsOf(header);
  const rows = lines.map((line) =>
    Object.fromEntries(fieldsOf(line).map((value, i) => [columns[i] ?? `extra ${i}`, value])),
  );
  return { columns, rows };
}

function fieldsOf(line: string): string[] {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(([, quoted, plain]) =>
    quoted === undefined ? (plain ?? '') : quoted.replaceAll('""', '"'),
  );
}

export function focusFaults(csv: string): string[] {
  const { columns, rows } = parseFocus(csv);
  const missing = [...MANDATORY, ...CONDITIONAL].filter((name) => !columns.includes(name));
  const repeated = columns.filter((name, i) => columns.indexOf(name) !== i);
  return [
    ...missing.map((name) => `no column ${name}`),
    ...repeated.map((name) => `column ${name} twice`),
    ...rows.flatMap((row, i) => rowFaults(row, columns).map((fault) => `row ${i + 1}: ${fault}`)),
  ];
}

function rowFaults(row: FocusRow, columns: readonly string[]): string[] {
  const faults: string[] = [];
  const must = (holds: boolean, fault: string) => {
    if (!holds) faults.push(fault);
  };
  const at = (name: string) => Date.parse(row[name] ?? '');
  must(Object.keys(row).length === columns.length, 'another number of fields than the header');
  for (const name of columns) must(NULLABLE.has(name) || (row[name] ?? '') !== '', `${name} is null`);
  for (const name of MONEY) must(DECIMAL.test(row[name] ?? ''), `${name} is no decimal`);
  for (const name of TIMES) must(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(row[name] ?? ''), `${name} is no UTC time`);
  must(row.BillingCurrency === 'USD', 'BillingCurrency is no ISO 4217 code that is billed here');
  must(row.ChargeCategory === 'Usage', 'ChargeCategory is not that of use');
  must(['', 'Correction'].includes(row.ChargeClass ?? 'absent'), 'ChargeClass is neither null nor Correction');
  must(row.ChargeFrequency === 'Usage-Based', 'ChargeFrequency does not fit use');
  must(row.PricingCategory === 'Standard', 'PricingCategory is none of the four');
  must(row.ServiceCategory === 'AI and Machine Learning', 'ServiceCategory is none of the list');
  must(at('ChargePeriodStart') < at('ChargePeriodEnd'), 'a charge period that ends before it starts');
  must(at('BillingPeriodStart') < at('BillingPeriodEnd'), 'a billing period that ends before it starts');
  must(at('BillingPeriodStart') <= at('ChargePeriodStart'), 'a charge before its billing period');
  must(at('ChargePeriodEnd') <= at('BillingPeriodEnd'), 'a charge after its billing period');
  must(
    /^\d+$/.test(row.ConsumedQuantity ?? '') && row.ConsumedQuantity !== '0',
    'ConsumedQuantity is no positive number',
  );
  must(
    row.PricingQuantity === row.ConsumedQuantity && row.PricingUnit === row.ConsumedUnit,
    'two quantities of one use',
  );
  for (const [costName, priceName] of [
    ['ListCost', 'ListUnitPrice'],
    ['ContractedCost', 'ContractedUnitPrice'],
  ])
    must(
      nanoUsd(row[costName ?? ''] ?? '') === nanoUsd(row[priceName ?? ''] ?? '') * BigInt(row.PricingQuantity ?? 0),
      `${costName} is not ${priceName} × PricingQuantity`,
    );
  return faults;
}

/** Exact; of a decimal with at most nine places. */
export function nanoUsd(decimal: string): bigint {
  const [whole = '0', fraction = ''] = decimal.split('.');
  return BigInt(whole) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0') || '0');
}
