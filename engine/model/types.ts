// What a model file tells about itself, once it has been checked. Nothing here is trusted input any more.

/** Element types of tensors that can be read. Quantised ones hold blocks of 32 elements along a row, the K types of 256. */
export const TENSOR_TYPES = ['F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K'] as const;
export type TensorType = (typeof TENSOR_TYPES)[number];

/** A matrix is [rows, cols] with rows contiguous; a vector has rows = 1. */
export interface TensorInfo {
  name: string;
  type: TensorType;
  rows: number;
  cols: number;
  /** Bytes from the start of the file, and in all. Inside the file: checked. */
  offset: number;
  byteLength: number;
}

/** Hyperparameters of the architecture `llama`. */
export interface ModelConfig {
  architecture: 'llama';
  name: string;
  layers: number;
  hidden: number;
  feedForward: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabSize: number;
  contextLength: number;
  ropeTheta: number;
  /** Rotated dimensions of a head, in adjacent pairs (2i, 2i+1) as GGUF's llama layout has them. */
  ropeDim: number;
  /** Positions are divided by it (linear rope scaling); 1: as they are. */
  ropeScale: number;
  rmsEpsilon: number;
  /** The LM head is the embedding matrix. */
  tiedHead: boolean;
}

/** An opened, checked model file. Reads are by tensor, in pieces, straight from the file. */
export interface ModelFile {
  path: string;
  /** SHA-256 of the whole file, hex. */
  sha256: string;
  byteLength: number;
  config: ModelConfig;
  tensors: ReadonlyMap<string, TensorInfo>;
  /** Fills `into` from the tensor's bytes at `byteOffset`. Throws ModelFileError when the file ends early. */
  read(tensor: TensorInfo, byteOffset: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Text in, ids out, and back: a model's tokeniser and chat template. Bounded in time and size; never throws on any text. */
export interface ModelText {
  vocabSize: number;
  bosId: number | null;
  /** Generation ends at any of these. */
  eosIds: ReadonlySet<number>;
  /** Most tokens that the template adds per message, and once per prompt: measured on the template itself at load. */
  templateTokensPerMessage: number;
  templateTokensPerPrompt: number;
  /** `parseSpecial`: control tokens written out in the text become control tokens; otherwise they stay plain text. */
  encode(text: string, options: { parseSpecial: boolean }): number[];
  /** Whole ids to text; invalid UTF-8 becomes U+FFFD. */
  decode(ids: readonly number[], options?: { skipSpecial?: boolean }): string;
  /** A token's exact bytes, so that a stream can be cut at characters. Control tokens: the bytes of their written form. */
  tokenBytes(id: number): Uint8Array;
  isControl(id: number): boolean;
  /**
   * The prompt of a chat, ready for generation. Control tokens written out in a message stay plain text.
   * Throws ChatTemplateError when the template refuses the messages (its own words) or its time or size bound is passed.
   */
  renderChat(messages: readonly { role: string; content: string; name?: string }[]): number[];
}
