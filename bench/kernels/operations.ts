// The operations that `npm run bench:kernels` knows, by name.
import { attention } from './attention.ts';
import { layer } from './layer.ts';
import { matmul } from './matmul.ts';
import type { Operation } from './operation.ts';
import { sample } from './sample.ts';

export const OPERATIONS: readonly Operation[] = [layer, matmul, attention, sample];
