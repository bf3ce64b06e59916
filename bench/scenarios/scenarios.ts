// The scenarios of `npm run bench`, by name, in the order of the table.
import type { Scenario } from '../bench.ts';
import { batch } from './batch.ts';
import { decode } from './decode.ts';
import { longContext } from './longContext.ts';
import { peakShare } from './peakShare.ts';
import { prefill } from './prefill.ts';
import { speculation } from './speculation.ts';
import { start } from './start.ts';

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  ...{ decode, prefill, batch, longContext, peakShare, speculation, start },
};
