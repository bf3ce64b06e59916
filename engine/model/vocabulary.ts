// The vocabulary of a model file: each token's written form and kind, and which ids begin and end a text. Read from GGUF metadata, checked.
import { bytesOfWritten } from './byteLevel.ts';
import { ModelFileError } from './errors.ts';
import type { GgufMetadata, GgufScalar } from './gguf.ts';

/** Characters of a control or user-defined token; the longest real ones have about 40. Bounds the time to find them in a text. */
export const MAX_SPECIAL_LENGTH = 256;
/** Control and user-defined tokens; real vocabularies have up to about 7 000. */
export const MAX_SPECIAL_TOKENS = 32_768;

/** GGUF's tokenizer.ggml.token_type. */
const KIND = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Names of end-of-turn tokens: a model may emit one that its eos_token_id doesn't name, as llama.cpp knows too. */
const END_NAMES: ReadonlySet<string> = new Set([
  ...['<|endoftext|>', '<|im_end|>', '<|eot_id|>', '<|eom_id|>', '<|end|>', '<|end_of_text|>', '<|return|>'],
  ...['<|end_of_turn|>', '<end_of_turn>', '<EOT>', '</s>'],
]);

export interface Vocabulary {
  size: number;
  /** Written forms by id. */
  tokens: string[];
  /** All but empty tokens. No form is written twice, so that the library's way from ids to tokens and back changes none. */
  ids: Map<string, number>;
  /** 1 by id for tokens in the byte alphabet, which BPE may produce. The others stand for the UTF-8 of their written form. */
  producible: Uint8Array;
  /** Never produced by plain text. */
  controlIds: ReadonlySet<number>;
  /** Control tokens by their written form. Those of one character are left out: no marker could keep a text from holding them. */
  control: ReadonlyMap<string, number>;
  /** Found in any text, before BPE. */
  userDefined: ReadonlyMap<string, number>;
  bosId: number | null;
  eosIds: ReadonlySet<number>;
  /** What tokenizer.ggml.add_bos_token says, if anything. */
  addBos: boolean | null;
}

function list(metadata: GgufMetadata, key: string): readonly GgufScalar[] {
  const value = metadata.get(key);
  if (Array.isArray(value)) return value;
  throw new ModelFileError('malformed', `metadata ${key} is ${value === undefined ? 'missing' : 'no array'}`);
}

/** An array of strings. Throws ModelFileError. */
export function stringList(metadata: GgufMetadata, key: string): string[] {
  return list(metadata, key).map((element, i) => {
    if (typeof element === 'string') return element;
    throw new ModelFileError('malformed', `metadata ${key}[${i}] is a ${typeof element}; a string is needed`);
  });
}

function optionalId(metadata: GgufMetadata, key: string, size: number): number | null {
  const value = metadata.get(key);
  if (value === undefined) return null;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < size) return value;
  throw new ModelFileError('malformed', `metadata ${key} is ${String(value)}; an id below ${size} is needed`);
}

/** The id of a token that BPE may produce. */
export function producibleId({ ids, producible }: Vocabulary, written: string): number | undefined {
  const id = ids.get(written);
  return id !== undefined && producible[id] === 1 ? id : undefined;
}

/** Throws ModelFileError. */
export function readVocabulary(metadata: GgufMetadata): Vocabulary {
  const tokens = stringList(metadata, 'tokenizer.ggml.tokens');
  const kinds = metadata.has('tokenizer.ggml.token_type') ? list(metadata, 'tokenizer.ggml.token_type') : null;
  if (kinds && kinds.length !== tokens.length)
    throw new ModelFileError(
      'malformed',
      `metadata tokenizer.ggml.token_type has ${kinds.length} entries for ${tokens.length} tokens`,
    );
  const ids = new Map<string, number>();
  const producible = new Uint8Array(tokens.length);
  const control = new Map<string, number>();
  const controlIds = new Set<number>();
  const userDefined = new Map<string, number>();
  for (const [id, token] of tokens.entries()) {
    const same = ids.get(token);
    if (same !== undefined)
      throw new ModelFileError(
        'malformed',
        `metadata tokenizer.ggml.tokens[${id}] is ${JSON.stringify(token.slice(0, 40))}, as is [${same}]; a token may be written once`,
      );
    if (token !== '') ids.set(token, id);
    const kind = kinds ? kinds[id] : KIND.normal;
    if (kind === KIND.normal && token !== '' && bytesOfWritten(token) !== null) producible[id] = 1;
    if (kind === KIND.control || kind === KIND.unknown) {
      controlIds.add(id);
      if ([...token].length > 1) control.set(token, id);
    }
    if (kind === KIND.userDefined) userDefined.set(token, id);
  }
  for (const token of [...control.keys(), ...userDefined.keys()])
    if (token.length === 0 || token.length > MAX_SPECIAL_LENGTH)
      throw new ModelFileError(
        'unsupported',
        `special token ${JSON.stringify(token.slice(0, 40))} has ${token.length} characters; 1 to ${MAX_SPECIAL_LENGTH} are supported`,
      );
  if (control.size + userDefined.size > MAX_SPECIAL_TOKENS)
    throw new ModelFileError(
      'unsupported',
      `the vocabulary has ${control.size + userDefined.size} special tokens; at most ${MAX_SPECIAL_TOKENS} are supported`,
    );

  const eosIds = new Set<number>();
  for (const name of ['eos', 'eot', 'eom']) {
    const id = optionalId(metadata, `tokenizer.ggml.${name}_token_id`, tokens.length);
    if (id !== null) eosIds.add(id);
  }
  for (const [name, id] of control) if (END_NAMES.has(name)) eosIds.add(id);
  const bosId = optionalId(metadata, 'tokenizer.ggml.bos_token_id', tokens.length);
  const addBos = metadata.get('tokenizer.ggml.add_bos_token');
  return {
    ...{ size: tokens.length, tokens, ids, producible, controlIds, control, userDefined, bosId, eosIds },
    addBos: typeof addBos === 'boolean' ? addBos : null,
  };
}
