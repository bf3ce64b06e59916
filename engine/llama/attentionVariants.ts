// Which variants of attention an adapter has, the rule's first: for tiles of query rows, and for single rows.
import type { AttentionVariant } from '../../wgsl/attention/shader.ts';
import { ATTENTION_LANES, type KvShape, queryRows, unitsOf } from '../../wgsl/attention/shape.ts';
import { spreadBytes } from '../../wgsl/attention/spread.ts';
import type { KvFormat } from '../../wgsl/kv/format.ts';

/** What of an adapter decides it. */
export interface AttentionAdapter {
  software: boolean;
  subgroupSize: number | null;
  maxLanes: number;
  workgroupBytes: number;
}

type Exchange = Pick<AttentionVariant, 'exchange' | 'units'>;

/** Through the subgroup where it can hold a unit, filled with units or not; through workgroup memory anywhere. */
function exchangesOf(shape: KvShape, gpu: AttentionAdapter): Exchange[] {
  const units = unitsOf(shape, gpu.subgroupSize);
  const within: Exchange[] = [1, 4].map((count) => ({ exchange: 'workgroup', units: count }));
  if (!units) return within;
  const shared: Exchange[] = [units, 1].map((count) => ({ exchange: 'subgroup', units: count }));
  return units === 1 ? [shared[0]!, ...within] : [...shared, ...within];
}

/** Units of lanes that a row is spread over, the rule's first; none where workgroup memory is too small, or a software adapter's. */
const spreadsOf = (shape: KvShape, gpu: AttentionAdapter): Exchange[] =>
  gpu.software || spreadBytes(shape) > gpu.workgroupBytes
    ? []
    : [24, 32, 16]
        .filter((units) => units * ATTENTION_LANES <= gpu.maxLanes)
        .map((units) => ({ exchange: 'spread', units }));

/** A software adapter compiles each for a second or more, and workgroup memory is slow there: few are worth a look. */
export function tileVariants(shape: KvShape, format: KvFormat, gpu: AttentionAdapter): AttentionVariant[] {
  const [own, ...others] = exchangesOf(shape, gpu);
  const rule = queryRows(shape, gpu);
  const make = (rows: number, exchange: Exchange): AttentionVariant => ({
    format,
    rows,
    ...exchange,
    splits: 'within',
  });
  if (gpu.software)
    return own!.exchange === 'subgroup' && rule > 2
      ? [rule, rule / 2].map((rows) => make(rows, own!))
      : [make(rule, own!)];
  const rows = [rule, ...[2, 4, 8].filter((count) => count !== rule)];
  const spread = spreadsOf(shape, gpu).map((exchange) => make(1, exchange));
  return [...spread, ...rows.map((count) => make(count, own!)), ...others.map((exchange) => make(rule, exchange))];
}

/** `splitsApart`: null where it is the tuner's to choose. */
export function singleVariants(
  shape: KvShape,
  format: KvFormat,
  gpu: AttentionAdapter,
  splitsApart: boolean | null,
): AttentionVariant[] {
  const exchanges = [...spreadsOf(shape, gpu), ...exchangesOf(shape, gpu)];
  const apart = { format, rows: 1, splits: 'apart' as const };
  const within = { format, rows: 1, splits: 'within' as const };
  if (gpu.software) return [{ ...(splitsApart ? apart : within), ...exchanges[0]! }];
  const splits = splitsApart === null ? [apart, within] : [splitsApart ? apart : within];
  return exchanges.flatMap((exchange) => splits.map((each) => ({ ...each, ...exchange })));
}
