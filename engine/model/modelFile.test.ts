// Hostile, truncated and merely unsupported files: each is refused with a ModelFileError that names what is wrong, before its weights
// are read. All start from a valid tiny model that is changed in one place.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gguf } from '@huggingface/gguf';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ggufBytes, type WrittenValue } from '../../test/support/ggufWriter.ts';
import { testModelPath } from '../../test/support/testModel.ts';
import {
  roomFor,
  type TinyModel,
  type TinyModelOptions,
  tinyModel,
  writeTinyModel,
} from '../../test/support/tinyModel.ts';
import { ModelFileError } from './errors.ts';
import { readGgufHeader } from './gguf.ts';
import { checkHeader, openModelFile, readModelHeader } from './modelFile.ts';
import { TENSOR_TYPES } from './types.ts';

const OPTIONS: TinyModelOptions = {
  ...{ layers: 2, hidden: 64, feedForward: 96, heads: 4, kvHeads: 2, headDim: 16, vocabSize: 320, contextLength: 128 },
  ...{ type: 'Q4_1', tied: true, seed: 1 },
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-model-'));
});
afterAll(() => rm(folder, { recursive: true }));

function check(bytes: Uint8Array) {
  const readAt = (into: Uint8Array, position: number) => {
    const part = bytes.subarray(position, position + into.length);
    into.set(part);
    return part.length;
  };
  return checkHeader(readGgufHeader(readAt, bytes.length), bytes.length);
}

function refusal(bytes: Uint8Array): ModelFileError {
  try {
    check(bytes);
  } catch (error) {
    if (error instanceof ModelFileError) return error;
    throw error;
  }
  throw new Error('the file was accepted');
}

/** The tiny model with one change, as bytes. */
function changed(change: (model: TinyModel) => void, options: Partial<TinyModelOptions> = {}): Uint8Array {
  const model = tinyModel({ ...OPTIONS, ...options });
  change(model);
  return ggufBytes(model.metadata, model.tensors);
}

function withKey(key: string, value: WrittenValue | null): Uint8Array {
  return changed((model) => {
    model.metadata = model.metadata.filter(([name]) => name !== key);
    if (value) model.metadata.push([key, value]);
  });
}

function withTensor(name: string, change: (tensor: TinyModel['tensors'][number]) => void): Uint8Array {
  return changed((model) => {
    const tensor = model.tensors.find((candidate) => candidate.name === name);
    if (!tensor) throw new Error(`no tensor ${name}`);
    change(tensor);
  });
}

describe('a valid file', () => {
  test.each(TENSOR_TYPES.flatMap((type) => [true, false].map((tied) => ({ type, tied }))))(
    'opens: $type, tied $tied',
    async ({ type, tied }) => {
      const path = join(folder, `${type}-${tied}.gguf`);
      const dimensions = { hidden: 64, feedForward: 96, heads: 4, kvHeads: 2, headDim: 16, ...roomFor(type) };
      await writeTinyModel(path, { ...OPTIONS, ...dimensions, type, tied });
      const { file } = await openModelFile(path);
      expect(file.config).toEqual({
        ...{ architecture: 'llama', name: `tiny-${type}-1`, layers: 2, ...dimensions },
        ...{
          vocabSize: 320,
          contextLength: 128,
          ropeTheta: 10_000,
          ropeScale: 1,
          ropeDim: dimensions.headDim,
          tiedHead: tied,
        },
        rmsEpsilon: Math.fround(1e-5),
      });
      expect(file.tensors.size).toBe(20 + (tied ? 0 : 1));
      expect(file.tensors.get('blk.1.ffn_down.weight')).toMatchObject({
        ...{ type, rows: dimensions.hidden, cols: dimensions.feedForward },
      });
      await file.close();
    },
  );

  test('reads a tensor in pieces as it was written, and knows its own digest', async () => {
    const model = tinyModel(OPTIONS);
    const bytes = ggufBytes(model.metadata, model.tensors);
    const path = join(folder, 'pieces.gguf');
    await writeFile(path, bytes);
    const { file } = await openModelFile(path);
    expect(file.sha256).toBe(createHash('sha256').update(bytes).digest('hex'));
    for (const written of model.tensors) {
      const tensor = file.tensors.get(written.name)!;
      const read = new Uint8Array(tensor.byteLength);
      for (let at = 0; at < read.length; at += 1000) await file.read(tensor, at, read.subarray(at, at + 1000));
      expect(read).toEqual(written.bytes);
    }
    await file.close();
  });

  test('of the real model says what @huggingface/gguf says', async () => {
    const path = await testModelPath();
    const { file, metadata } = await openModelFile(path);
    const theirs = await gguf(path, { allowLocalFile: true });
    const { version: _, tensor_count: __, kv_count: ___, ...values } = theirs.metadata;
    expect(Object.fromEntries(metadata)).toEqual(values);
    expect(file.tensors.size).toBe(theirs.tensorInfos.length);
    for (const { name, shape, offset } of theirs.tensorInfos)
      expect(file.tensors.get(name)).toMatchObject({
        cols: Number(shape[0]),
        rows: Number(shape[1] ?? 1),
        offset: Number(theirs.tensorDataOffset + offset),
      });
    await file.close();
  });
});

describe('refused, by name', () => {
  const patched = (position: number, value: number) => {
    const bytes = changed(() => {});
    new DataView(bytes.buffer).setUint32(position, value, true);
    return bytes;
  };
  const shape = (name: string, dimensions: number[]) => withTensor(name, (tensor) => (tensor.dimensions = dimensions));

  const cases: [title: string, bytes: () => Uint8Array, code: string, message: RegExp][] = [
    ['an empty file', () => new Uint8Array(0), 'truncated', /magic number/],
    ['another format', () => patched(0, 0x04034b50), 'malformed', /0x04034b50: not a GGUF file/],
    ['version 1', () => patched(4, 1), 'unsupported', /GGUF version is 1; 2 and 3/],
    ['a big-endian file', () => patched(4, 0x03000000), 'unsupported', /GGUF version is 50331648/],
    ['2^32 tensors', () => patched(12, 1), 'malformed', /number of tensors is \d+; at most 16384/],
    ['2^63 keys', () => patched(20, 0x80000000), 'malformed', /number of metadata keys is \d+; at most 4096/],
    ['a key of 4 GiB', () => patched(28, 1), 'malformed', /length of metadata key 0 is \d+; at most/],
    [
      'another architecture',
      () => withKey('general.architecture', ['string', 'mamba']),
      'unsupported',
      /"mamba"; "llama"/,
    ],
    ['no architecture', () => withKey('general.architecture', null), 'unsupported', /general.architecture is missing/],
    [
      'a key twice',
      () => changed((m) => m.metadata.push(m.metadata[0]!)),
      'malformed',
      /"general.architecture" is there twice/,
    ],
    [
      'no layers',
      () => withKey('llama.block_count', ['u32', 0]),
      'malformed',
      /llama.block_count is 0; a number from 1/,
    ],
    [
      'absurdly many layers',
      () => withKey('llama.block_count', ['u32', 4e9]),
      'malformed',
      /block_count is 4000000000/,
    ],
    [
      'half a layer',
      () => withKey('llama.block_count', ['f32', 1.5]),
      'malformed',
      /block_count is 1.5; a whole number/,
    ],
    ['layers in words', () => withKey('llama.block_count', ['string', 'two']), 'malformed', /block_count is "two"/],
    [
      'an epsilon of NaN',
      () => withKey('llama.attention.layer_norm_rms_epsilon', ['f32', Number.NaN]),
      'malformed',
      /rms_epsilon is NaN/,
    ],
    [
      'an infinite rope base',
      () => withKey('llama.rope.freq_base', ['f32', Number.POSITIVE_INFINITY]),
      'malformed',
      /freq_base is Infinity/,
    ],
    [
      'heads that do not group',
      () => withKey('llama.attention.head_count_kv', ['u32', 3]),
      'malformed',
      /head_count 4 is no multiple of head_count_kv 3/,
    ],
    [
      'heads per layer',
      () => withKey('llama.attention.head_count_kv', ['u32', [2, 2]]),
      'malformed',
      /head_count_kv is an array of 2/,
    ],
    [
      'an odd rope',
      () => withKey('llama.rope.dimension_count', ['u32', 15]),
      'malformed',
      /dimension_count is 15; an even number up to/,
    ],
    [
      'rope scaling by YaRN',
      () => withKey('llama.rope.scaling.type', ['string', 'yarn']),
      'unsupported',
      /scaling.type is "yarn"; "none", "linear" and Llama 3/,
    ],
    ['experts', () => withKey('llama.expert_count', ['u32', 8]), 'unsupported', /expert_count is 8; only 0/],
    [
      'another vocabulary size',
      () => withKey('llama.vocab_size', ['u32', 319]),
      'malformed',
      /vocab_size is 319, but tokenizer.ggml.tokens has 320/,
    ],
    ['no vocabulary', () => withKey('tokenizer.ggml.tokens', null), 'malformed', /tokenizer.ggml.tokens is missing/],
    [
      'an odd alignment',
      () => withKey('general.alignment', ['u32', 33]),
      'malformed',
      /general.alignment is 33; powers of two/,
    ],
    ['a missing tensor', () => changed((m) => m.tensors.splice(3, 1)), 'malformed', /"blk.0.attn_k.weight" is missing/],
    [
      'a bias',
      () => changed((m) => m.tensors.push({ ...m.tensors[1]!, name: 'blk.0.attn_q.bias' })),
      'unsupported',
      /"blk.0.attn_q.bias" is not a part/,
    ],
    [
      'rope factors of another head',
      () => changed(() => {}, { ropeFactors: new Array(16).fill(1) }),
      'malformed',
      /"rope_freqs.weight" has shape \[16\], but the metadata call for \[1, 8\]/,
    ],
    [
      'a layer too many',
      () => changed((m) => m.tensors.push({ ...m.tensors[1]!, name: 'blk.2.attn_norm.weight' })),
      'unsupported',
      /"blk.2.attn_norm.weight"/,
    ],
    [
      'a tensor twice',
      () => changed((m) => m.tensors.push(m.tensors[1]!)),
      'malformed',
      /"blk.0.attn_norm.weight" is in the table twice/,
    ],
    [
      'a type that is not supported',
      () => withTensor('blk.0.attn_q.weight', (t) => (t.ggmlType = 10)),
      'unsupported',
      /attn_q.weight" is of type Q2_K; supported are F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q5_K, Q6_K/,
    ],
    [
      'a type that nobody knows',
      () => withTensor('blk.0.attn_q.weight', (t) => (t.ggmlType = 999)),
      'unsupported',
      /unknown type 999/,
    ],
    [
      'a quantised norm',
      () => withTensor('output_norm.weight', (t) => (t.ggmlType = 8)),
      'unsupported',
      /is a vector of type Q8_0; F32/,
    ],
    [
      'rows of half a block',
      () => changed(() => {}, { hidden: 48, headDim: 12 }),
      'malformed',
      /of type Q4_1 with rows of 48; rows must be a multiple of 32/,
    ],
    [
      'a K type in rows that are no multiple of 256',
      () => withTensor('blk.0.attn_q.weight', (t) => (t.ggmlType = 14)),
      'malformed',
      /attn_q.weight" is of type Q6_K with rows of 64; rows must be a multiple of 256/,
    ],
    [
      'a transposed matrix',
      () => shape('blk.0.ffn_up.weight', [96, 64]),
      'malformed',
      /ffn_up.weight" has shape \[64, 96\], but the metadata call for \[96, 64\]/,
    ],
    ['five dimensions', () => shape('blk.0.ffn_up.weight', [64, 96, 1, 1, 1]), 'malformed', /has 5 dimensions/],
    ['a dimension of 0', () => shape('blk.0.ffn_up.weight', [64, 0]), 'malformed', /dimension 1 is 0/],
    [
      'a dimension of 2^40',
      () => shape('blk.0.ffn_up.weight', [64, 2 ** 40]),
      'malformed',
      /dimension 1 is 1099511627776; at most/,
    ],
    [
      'a misaligned tensor',
      () => withTensor('output_norm.weight', (t) => (t.claimedOffset = 40)),
      'malformed',
      /at offset 40, no multiple of the alignment 32/,
    ],
    [
      'two tensors in one place',
      () => withTensor('output_norm.weight', (t) => (t.claimedOffset = 0)),
      'malformed',
      /overlaps tensor/,
    ],
    [
      'a tensor beyond the file',
      () => withTensor('output_norm.weight', (t) => (t.claimedOffset = 2 ** 40)),
      'malformed',
      /a gap of more than the alignment/,
    ],
    [
      'bytes after the end',
      () => {
        const bytes = changed(() => {});
        const longer = new Uint8Array(bytes.length + 64);
        longer.set(bytes);
        return longer;
      },
      'malformed',
      /64 bytes are unaccounted for/,
    ],
    [
      'a name of 65 characters',
      () => withTensor('output_norm.weight', (t) => (t.name = 'x'.repeat(65))),
      'malformed',
      /length of name of tensor \d+ is 65; at most 64/,
    ],
  ];

  test('an array that claims more elements than the file has bytes', () => {
    const bytes = changed((m) => m.metadata.unshift(['a', ['u64', [1, 2, 3]]]));
    const length = 4 + 4 + 8 + 8 + (8 + 1) + 4 + 4;
    new DataView(bytes.buffer).setBigUint64(length, 1_900_000n, true);
    expect(refusal(bytes)).toMatchObject({
      code: 'truncated',
      message: expect.stringMatching(/"a" needs 15200000 bytes/),
    });
  });

  test.each(cases)('%s', (_, bytes, code, message) => {
    const error = refusal(bytes());
    expect(error.message).toMatch(message);
    expect(error.code).toBe(code);
  });

  test('invalid UTF-8 in a key', () => {
    const bytes = changed(() => {});
    bytes[32] = 0xff;
    expect(refusal(bytes).message).toMatch(/metadata key 0 is not valid UTF-8/);
  });

  test('every file that ends early, wherever it ends', () => {
    const bytes = changed(() => {});
    for (let length = 0; length < bytes.length; length += length < 3000 ? 1 : 97) {
      const error = refusal(bytes.subarray(0, length));
      expect(error.code, `cut at ${length}: ${error.message}`).toBe('truncated');
      expect(error.retryable).toBe(true);
    }
  });

  test('a file with any bytes changed is refused or read, never anything else', () => {
    const bytes = changed(() => {});
    const header = 8000;
    const anyByte = fc.tuple(fc.nat(header), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(fc.array(anyByte, { minLength: 1, maxLength: 8 }), (changes) => {
        const broken = bytes.slice();
        for (const [at, value] of changes) broken[at] = value;
        try {
          const { tensors } = check(broken);
          for (const { offset, byteLength } of tensors.values())
            expect(offset + byteLength).toBeLessThanOrEqual(broken.length);
        } catch (error) {
          expect(error).toBeInstanceOf(ModelFileError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('what the file system does', () => {
  test('no file, a folder and a pipe are refused at once, with the path', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    await expect(openModelFile(join(folder, 'none'))).rejects.toMatchObject({
      code: 'unreadable',
      message: expect.stringMatching(/none can't be opened: ENOENT/),
    });
    await expect(openModelFile(folder)).rejects.toMatchObject({
      code: 'unreadable',
      message: expect.stringContaining('not a regular file'),
    });
    await expect(readModelHeader(pipe)).rejects.toMatchObject({
      code: 'unreadable',
      message: expect.stringContaining(pipe),
    });
  });

  test('a file cut after it was opened ends a read with an error that names the tensor', async () => {
    const path = join(folder, 'cut.gguf');
    await writeTinyModel(path, OPTIONS);
    const { file } = await openModelFile(path);
    const tensor = file.tensors.get('output_norm.weight')!;
    await truncate(path, tensor.offset + 10);
    await expect(file.read(tensor, 0, new Uint8Array(tensor.byteLength))).rejects.toMatchObject({
      code: 'truncated',
      message: expect.stringContaining('output_norm.weight'),
    });
    await file.close();
  });
});
