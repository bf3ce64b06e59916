// Who calls: a project's key, checked without any look-up for typos and forgeries, then by the ledger; or an admin key.

import { GatewayError, insufficientPermissions, invalidApiKey, modelNotAllowed } from './errors.ts';
import { ADMIN_KEY_PREFIX, isAdminKey } from './keys/adminKey.ts';
import { keyHashes } from './keys/apiKey.ts';
import type { KeyPresented, KeyRefusal, KeyStatus } from './ledger/port.ts';
import type { GatewayPorts } from './ports.ts';

/** The configured admin key, in the audit log. */
const BOOTSTRAP_ACTOR = 'bootstrap';

function bearerOf(request: Request): string {
  const match = /^Bearer +(\S+) *$/i.exec(request.headers.get('authorization') ?? '');
  if (match?.[1]) return match[1];
  throw invalidApiKey('No API key was sent. Send it as "Authorization: Bearer sk-…".');
}

/** The key's claim, not yet checked by the ledger. Throws GatewayError (401) without one that this installation made. */
export function presentedKey(request: Request, { keyring }: Pick<GatewayPorts, 'keyring'>): KeyPresented {
  const key = bearerOf(request);
  const claim = keyring.presented.claimOf(key);
  if (claim) return claim;
  throw invalidApiKey(
    key.startsWith(ADMIN_KEY_PREFIX) || isAdminKey(key, keyring.adminKey)
      ? 'The admin key cannot be used here. Use a key of a project.'
      : 'The API key is not valid here: mistyped, cut off, or of another installation.',
  );
}

export function keyRefused(refusal: KeyRefusal): GatewayError {
  const why = {
    unknown_key: 'The API key was revoked or never existed. Ask for a new one.',
    expired_key: 'The API key has expired. Ask for a new one.',
    archived: 'The project of this API key is archived.',
  }[refusal];
  return invalidApiKey(why);
}

/** Throws GatewayError (401). */
export async function authenticate(
  key: KeyPresented,
  { ledger, clock }: Pick<GatewayPorts, 'ledger' | 'clock'>,
): Promise<Extract<KeyStatus, { kind: 'known' }>> {
  const status = await ledger.keyStatus({ ...key, nowMs: clock.now() });
  if (status.kind === 'known') return status;
  throw keyRefused(status.kind);
}

/** Throws GatewayError: 401, or 403 where the key may not use the model. */
export async function authenticateFor(
  model: string,
  key: KeyPresented,
  ports: Pick<GatewayPorts, 'ledger' | 'clock'>,
): Promise<void> {
  const { allowedModels } = await authenticate(key, ports);
  if (allowedModels && !allowedModels.includes(model)) throw modelNotAllowed(model);
}

/**
 * Does what needs a valid key; if that fails for any reason, whoever has no valid key hears only that. So a revoked key can't be
 * used to learn what is served.
 */
export async function onBehalfOf<T>(
  key: KeyPresented,
  ports: Pick<GatewayPorts, 'ledger' | 'clock'>,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof GatewayError && error.spec.status !== 401) await authenticate(key, ports);
    throw error;
  }
}

/** The actor's id for the audit log. Throws GatewayError: 401, or 403 for a project's key. */
export async function requireAdmin(
  request: Request,
  ports: Pick<GatewayPorts, 'keyring' | 'ledger' | 'clock' | 'adminKeys'>,
): Promise<string> {
  const key = bearerOf(request);
  if (isAdminKey(key, ports.keyring.adminKey)) return BOOTSTRAP_ACTOR;
  if (key.startsWith(ADMIN_KEY_PREFIX)) {
    const record = await ports.adminKeys.use(keyHashes(key, ports.keyring.peppers), ports.clock.now());
    if (record) return record.id;
  }
  const claim = ports.keyring.presented.claimOf(key);
  if (!claim) throw invalidApiKey('The admin key is not valid.');
  await authenticate(claim, ports);
  throw insufficientPermissions();
}
