// JSON that carries bytes, for what crosses processes in tests.

export function stringifyBytes(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) =>
    one instanceof Uint8Array ? { base64: Buffer.from(one).toString('base64') } : one,
  );
}

export function parseBytes<T>(text: string): T {
  return JSON.parse(text, (_key, one: unknown) =>
    typeof one === 'object' && one !== null && 'base64' in one && typeof one.base64 === 'string'
      ? new Uint8Array(Buffer.from(one.base64, 'base64'))
      : one,
  );
}
