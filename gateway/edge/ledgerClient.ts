// The ledger at the edge: each command goes to the Durable Object of the tenant whom it names. What fails on the way is told apart: a command
// that may be repeated is, where the platform says that it helps; an object that is asked too much is the caller's to wait for.
import type { Clock } from '../clock.ts';
import { overloaded } from '../errors.ts';
import type { KeyHash } from '../keys/apiKey.ts';
import type { HoldBounds } from '../ledger/decide.ts';
import type {
  AdmitCommand,
  KeyChange,
  KeyPresented,
  KeyRecord,
  KeyRotation,
  Ledger,
  LimitSet,
  RecallCommand,
  RerouteCommand,
  SettleCommand,
} from '../ledger/port.ts';
import type { Answer, CommandName, CommandResult, ObjectError, ObjectNamespace, TenantRpc } from './cloudflare.ts';

/** Doing it twice is as doing it once. A reservation isn't repeated: one whose answer got lost ends as any hold that nobody watches. */
const REPEATABLE: Readonly<Record<CommandName, boolean>> = {
  admit: false,
  recall: true,
  keyStatus: true,
  shrink: true,
  // Asked twice, the leg is one more than it had to be.
  reroute: true,
  settle: true,
  openTenant: true,
  archiveTenant: true,
  allowModels: true,
  allowedModels: true,
  putLimits: true,
  limits: true,
  addKey: false,
  keys: true,
  changeKey: true,
  rotateKey: false,
  deleteKey: false,
  stragglers: true,
};

const ATTEMPTS = 3;
const PAUSE_MS = 50;
const RETRY_AFTER_MS = 1000;

export class LedgerClient implements Ledger {
  readonly #tenants: ObjectNamespace<TenantRpc>;
  readonly #clock: Clock;

  constructor(tenants: ObjectNamespace<TenantRpc>, clock: Clock) {
    this.#tenants = tenants;
    this.#clock = clock;
  }

  /** Anew for each call: an object that failed is reached by a new stub only. */
  object(tenant: string): TenantRpc {
    return this.#tenants.get(this.#tenants.idFromName(tenant));
  }

  admit(command: AdmitCommand) {
    return this.#run(command.tenant, 'admit', [command]);
  }

  recall(command: RecallCommand) {
    return this.#run(command.tenant, 'recall', [command]);
  }

  keyStatus(command: KeyPresented & { nowMs: number }) {
    return this.#run(command.tenant, 'keyStatus', [command]);
  }

  shrink(command: { tenant: string; requestId: string } & HoldBounds) {
    return this.#run(command.tenant, 'shrink', [command]);
  }

  reroute(command: RerouteCommand) {
    return this.#run(command.tenant, 'reroute', [command]);
  }

  settle(command: SettleCommand) {
    return this.#run(command.tenant, 'settle', [command]);
  }

  openTenant(tenant: string) {
    return this.#run(tenant, 'openTenant', [tenant]);
  }

  archiveTenant(tenant: string) {
    return this.#run(tenant, 'archiveTenant', [tenant]);
  }

  allowModels(tenant: string, models: readonly string[] | null) {
    return this.#run(tenant, 'allowModels', [tenant, models]);
  }

  allowedModels(tenant: string) {
    return this.#run(tenant, 'allowedModels', [tenant]);
  }

  putLimits(tenant: string, sets: readonly LimitSet[], nowMs: number) {
    return this.#run(tenant, 'putLimits', [tenant, sets, nowMs]);
  }

  limits(tenant: string, nowMs: number) {
    return this.#run(tenant, 'limits', [tenant, nowMs]);
  }

  addKey(record: KeyRecord, hash: KeyHash) {
    return this.#run(record.tenant, 'addKey', [record, hash]);
  }

  keys(tenant: string) {
    return this.#run(tenant, 'keys', [tenant]);
  }

  deleteKey(tenant: string, keyId: string) {
    return this.#run(tenant, 'deleteKey', [tenant, keyId]);
  }

  changeKey(tenant: string, keyId: string, change: KeyChange) {
    return this.#run(tenant, 'changeKey', [tenant, keyId, change]);
  }

  rotateKey(rotation: KeyRotation) {
    return this.#run(rotation.tenant, 'rotateKey', [rotation]);
  }

  stragglers(tenant: string, newestPepperVersion: number) {
    return this.#run(tenant, 'stragglers', [tenant, newestPepperVersion]);
  }

  async #run<N extends CommandName>(tenant: string, name: N, args: Parameters<Ledger[N]>): Promise<CommandResult<N>> {
    for (let attempt = 1; ; attempt++)
      try {
        return unwrap(await this.object(tenant).run(name, args));
      } catch (error) {
        if (!isObjectError(error)) throw error;
        if (error.overloaded)
          throw overloaded('This project sends more requests at once than its ledger takes. Retry.', RETRY_AFTER_MS);
        if (!error.retryable) throw error;
        if (!REPEATABLE[name] || attempt === ATTEMPTS)
          throw overloaded('The ledger is being moved or restarted. Retry.', RETRY_AFTER_MS);
        await this.#clock.sleep(PAUSE_MS * attempt);
      }
  }
}

function unwrap<T>(answer: Answer<T>): T {
  if (answer.ok) return answer.value;
  throw overloaded(answer.message, RETRY_AFTER_MS * 5);
}

function isObjectError(error: unknown): error is ObjectError {
  return error instanceof Error && ('retryable' in error || 'overloaded' in error);
}
