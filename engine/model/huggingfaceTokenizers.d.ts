// The parts of @huggingface/tokenizers that are used here. Its own declarations import each other without file extensions, which
// Node's module resolution doesn't follow: the classes would be of type `any`, or missing.

declare module '@huggingface/tokenizers' {
  /** Instances are functions: a call is `_call`, which does the component's one step. */
  abstract class Callable<Input, Output> {
    abstract _call(input: Input): Output;
  }
  interface Callable<Input, Output> {
    // biome-ignore lint/style/useShorthandFunctionType: merges with the class
    (input: Input): Output;
  }

  export abstract class PreTokenizer extends Callable<string, string[]> {
    abstract pre_tokenize_text(text: string): string[];
    pre_tokenize(text: string | string[]): string[];
    _call(text: string): string[];
  }

  export class ByteLevelPreTokenizer extends PreTokenizer {
    byte_encoder: Record<number, string>;
    constructor(config: { type: 'ByteLevel'; add_prefix_space: boolean; use_regex: boolean });
    pre_tokenize_text(text: string): string[];
  }

  export interface BpeConfig {
    type: 'BPE';
    vocab: Record<string, number>;
    merges: readonly string[];
    ignore_merges: boolean;
  }

  export abstract class Model extends Callable<string[], string[]> {
    /** Written form by id, and the other way round. */
    vocab: string[];
    tokens_to_ids: Map<string, number>;
    constructor(config: BpeConfig);
    abstract encode(words: string[]): string[];
    _call(words: string[]): string[];
  }

  export abstract class Decoder extends Callable<string[], string> {
    abstract decode_chain(tokens: string[]): string[];
    _call(tokens: string[]): string;
  }

  export class ByteLevelDecoder extends Decoder {
    constructor(config: { type: 'ByteLevel' });
    convert_tokens_to_string(tokens: string[]): string;
    decode_chain(tokens: string[]): string[];
  }

  /** As in tokenizer.json. */
  export interface AddedTokenConfig {
    id: number;
    content: string;
    special: boolean;
    normalized: boolean;
  }

  export interface TokenizerJson {
    added_tokens: readonly AddedTokenConfig[];
    normalizer: null;
    pre_tokenizer: object | null;
    model: BpeConfig;
    post_processor: null;
    decoder: { type: 'ByteLevel' } | null;
  }

  export class Tokenizer {
    pre_tokenizer: PreTokenizer | null;
    model: Model | null;
    decoder: Decoder | null;
    constructor(tokenizer: TokenizerJson, config: { clean_up_tokenization_spaces?: boolean });
    encode(text: string): { ids: number[]; tokens: string[] };
    /** Throws on no ids. */
    decode(ids: number[]): string;
    id_to_token(id: number): string | undefined;
  }
}
