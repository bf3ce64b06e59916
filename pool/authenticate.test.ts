import { describe, expect, it } from 'vitest';
import { authenticate, type Identity } from './authenticate.ts';
import { NonceMemory } from './nonces.ts';
import { type SignedContext, signRequest } from './wire/signing.ts';

const SECRET = Buffer.alloc(32, 7);
const IDENTITY: Identity = { poolId: 'p1', startedAtMs: 1000, secrets: new Map([['k1', SECRET]]) };
const CONTEXT: SignedContext = {
  method: 'POST',
  path: '/v1/completions?x=1',
  timeMs: 2000,
  nonce: '0123456789abcdef0123456789abcdef',
  keyId: 'k1',
  poolId: 'p1',
  tenant: 't',
  requestId: 'r',
  priority: -1,
  deadlineMs: 9000,
  holdTokens: 10,
  cacheScope: 's',
  cacheSeal: '5a'.repeat(32),
  weight: 2.5,
  kvFloorShare: 0.25,
};
const BODY = Buffer.from('{}');

function ask(options: {
  context?: Partial<SignedContext>;
  tamper?: Record<string, string>;
  path?: string;
  nowMs?: number;
}) {
  const context = { ...CONTEXT, ...options.context };
  const headers: Record<string, string> = { ...signRequest(SECRET, context, BODY), ...options.tamper };
  const request = {
    method: 'POST',
    path: options.path ?? CONTEXT.path,
    header: (name: string) => headers[name],
    body: BODY,
  };
  return { nonces: new NonceMemory(), request, nowMs: options.nowMs ?? 2000 };
}

function verdict(options: Parameters<typeof ask>[0], identity = IDENTITY): string {
  const { nonces, request, nowMs } = ask(options);
  const answer = authenticate(identity, nonces, request, nowMs);
  return answer.ok ? 'ok' : answer.error.message;
}

describe('authentication', () => {
  it('accepts what the gateway signed, once', () => {
    const { nonces, request } = ask({});
    expect(authenticate(IDENTITY, nonces, request, 2000)).toMatchObject({ ok: true, context: CONTEXT });
    expect(authenticate(IDENTITY, nonces, request, 2000)).toMatchObject({
      ok: false,
      error: { wire: { status: 401 } },
    });
  });

  it.each([
    'hearth-hold',
    'hearth-deadline',
    'hearth-tenant',
    'hearth-priority',
    'hearth-cache-scope',
    'hearth-cache-seal',
    'hearth-weight',
    'hearth-kv-floor',
    'hearth-lease',
    'hearth-request-id',
  ])('refuses when %s was changed on the way', (header) => {
    expect(verdict({ tamper: { [header]: '11' } })).toContain('signature does not match');
  });

  it.each([
    ['hearth-weight', '-1'],
    ['hearth-weight', '1e3'],
    ['hearth-kv-floor', 'half'],
    ['hearth-hold', '1.5'],
  ])('refuses a %s of %s before it looks at the signature', (header, value) => {
    expect(verdict({ tamper: { [header]: value } })).toMatch(new RegExp(`${header} is not a`));
  });

  it('refuses another path, another pool, an unknown key, and a time before its start or far from its clock', () => {
    expect(verdict({ path: '/v1/completions?x=2' })).toContain('signature does not match');
    expect(verdict({ context: { poolId: 'p2' } })).toContain('another pool');
    expect(verdict({ context: { keyId: 'k2' } })).toContain('signature does not match');
    expect(verdict({ context: { timeMs: 999 } })).toContain('before this pool started');
    expect(verdict({ nowMs: 40_000 })).toContain('clock');
  });

  it('remembers nothing of a request whose signature is wrong', () => {
    const { nonces, request } = ask({ tamper: { 'hearth-signature': '00' } });
    authenticate(IDENTITY, nonces, request, 2000);
    expect(nonces.size).toBe(0);
  });
});
