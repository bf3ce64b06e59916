// The operations that `npm run bench:kernels` knows, by name.
import { attention } from './attention.ts';
import { embed } from './embed.ts';
import { forms } from './forms.ts';
import { layer } from './layer.ts';
import { matmul } from './matmul.ts';
import { normalize } from './normalize.ts';
import type { Operation } from './operation.ts';
import { quantize } from './quantize.ts';
import { rope } from './rope.ts';
import { sample } from './sample.ts';

export const OPERATIONS: readonly Operation[] = [
  ...[layer, matmul, forms, attention, sample],
  ...[embed, normalize, quantize, rope],
];
