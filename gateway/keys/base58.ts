// Base58 (Bitcoin's alphabet): no 0, O, I or l, so that a key survives being read aloud. Quadratic, for keys only.

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

export function encodeBase58(bytes: Uint8Array): string {
  let number = BigInt(`0x${Buffer.from(bytes).toString('hex') || '0'}`);
  let text = '';
  for (; number > 0n; number /= 58n) text = ALPHABET.charAt(Number(number % 58n)) + text;
  const zeros = bytes.findIndex((byte) => byte !== 0);
  return '1'.repeat(zeros === -1 ? bytes.length : zeros) + text;
}

/** Exactly `length` bytes; undefined when the text is not the encoding of that many. */
export function decodeBase58(text: string, length: number): Uint8Array | undefined {
  // 58 symbols carry 5.857 bits: longer texts can't be `length` bytes, and are not worth the arithmetic.
  if (text.length > Math.ceil((length * 8) / 5.857)) return undefined;
  let number = 0n;
  for (const symbol of text) {
    const digit = ALPHABET.indexOf(symbol);
    if (digit === -1) return undefined;
    number = number * 58n + BigInt(digit);
  }
  const hex = number === 0n ? '' : number.toString(16);
  if (hex.length > length * 2) return undefined;
  const bytes = Buffer.from(hex.padStart(length * 2, '0'), 'hex');
  return encodeBase58(bytes) === text ? bytes : undefined;
}
