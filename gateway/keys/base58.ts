// Base58 (Bitcoin's alphabet): no 0, O, I or l, so that a key survives being read aloud. Quadratic, for keys only.

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
/** Symbols whose number is exact in a double: so many at once. */
const GROUP = 9;

export function encodeBase58(bytes: Uint8Array): string {
  let number = BigInt(`0x${Buffer.from(bytes).toString('hex') || '0'}`);
  let text = '';
  for (; number > 0n; number /= 58n) text = ALPHABET.charAt(Number(number % 58n)) + text;
  return '1'.repeat(leadingZeros(bytes)) + text;
}

/** Exactly `length` bytes; undefined when the text is not the encoding of that many. */
export function decodeBase58(text: string, length: number): Uint8Array | undefined {
  // 58 symbols carry 5.857 bits: longer texts can't be `length` bytes, and are not worth the arithmetic.
  if (text.length > Math.ceil((length * 8) / 5.857)) return undefined;
  let number = 0n;
  for (let at = 0; at < text.length; at += GROUP) {
    const symbols = text.slice(at, at + GROUP);
    let group = 0;
    for (const symbol of symbols) {
      const digit = ALPHABET.indexOf(symbol);
      if (digit === -1) return undefined;
      group = group * 58 + digit;
    }
    number = number * 58n ** BigInt(symbols.length) + BigInt(group);
  }
  const hex = number === 0n ? '' : number.toString(16);
  if (hex.length > length * 2) return undefined;
  const bytes = Buffer.from(hex.padStart(length * 2, '0'), 'hex');
  // A zero in front is a symbol of its own; any other way to write the same number is not its encoding.
  const ones = text.length - text.replace(/^1+/, '').length;
  return ones === leadingZeros(bytes) ? bytes : undefined;
}

function leadingZeros(bytes: Uint8Array): number {
  const first = bytes.findIndex((byte) => byte !== 0);
  return first === -1 ? bytes.length : first;
}
