// GPT-2's byte alphabet: a vocabulary of text writes each byte as one printable character (bytes_to_unicode of openai/gpt-2's
// encoder.py). Tokens live in files in this alphabet; inside they are bytes, held as Latin-1 strings where a key is needed.

const BYTE_OF_CHARACTER = new Map<number, number>();
{
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    BYTE_OF_CHARACTER.set(printable ? byte : next++, byte);
  }
}

/** The bytes of a token written in the byte alphabet, as a Latin-1 string; null when another character is in it. */
export function bytesOfWritten(written: string): string | null {
  let bytes = '';
  for (let i = 0; i < written.length; i++) {
    const byte = BYTE_OF_CHARACTER.get(written.charCodeAt(i));
    if (byte === undefined) return null;
    bytes += String.fromCharCode(byte);
  }
  return bytes;
}
