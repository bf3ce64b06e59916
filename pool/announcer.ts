// Tells a gateway every few seconds that this pool is there, where, and how it is. Nothing depends on an answer: a gateway that can't be
// reached is told again, and one that refuses says why in this pool's log.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText, type Log } from './log.ts';
import type { PoolStatus } from './wire/events.ts';
import { HEARTBEAT_PATH, type Heartbeat } from './wire/heartbeat.ts';
import { signRequest } from './wire/signing.ts';

/** A gateway that takes longer has missed it. */
const ANSWER_LIMIT_MS = 5000;
/** Of a refusal's text. */
const MAX_REASON_CHARS = 300;

export interface AnnouncerOptions {
  /** The gateway's address, without a slash at its end, and this pool's as the gateway reaches it. */
  gateway: string;
  url: string;
  intervalMs: number;
  poolId: string;
  key: { id: string; secret: Uint8Array };
  status: () => PoolStatus;
  log: Log;
}

export class Announcer {
  readonly #options: AnnouncerOptions;
  /** What the log was told last: a gateway that stays away is not news. */
  #said = '';

  constructor(options: AnnouncerOptions) {
    this.#options = options;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#say(await this.#announce(signal));
      await sleep(this.#options.intervalMs, undefined, { signal }).catch(() => {});
    }
  }

  /** 'ok', or what was wrong. */
  async #announce(stop: AbortSignal): Promise<string> {
    const { gateway, url, poolId, key, status } = this.#options;
    const message: Heartbeat = { url, status: status() };
    const body = Buffer.from(JSON.stringify(message));
    const nonce = randomBytes(16).toString('hex');
    const context = { method: 'POST', path: HEARTBEAT_PATH, timeMs: Date.now(), nonce, keyId: key.id, poolId };
    try {
      const answer = await fetch(gateway + HEARTBEAT_PATH, {
        method: 'POST',
        headers: { ...signRequest(key.secret, context, body), 'content-type': 'application/json' },
        body,
        redirect: 'error',
        signal: AbortSignal.any([stop, AbortSignal.timeout(ANSWER_LIMIT_MS)]),
      });
      const text = (await answer.text()).slice(0, MAX_REASON_CHARS);
      return answer.ok ? 'ok' : `${answer.status} ${text}`;
    } catch (error) {
      return stop.aborted ? this.#said : errorText(error);
    }
  }

  #say(outcome: string): void {
    if (outcome === this.#said) return;
    this.#said = outcome;
    const { log, gateway } = this.#options;
    if (outcome === 'ok') log('info', 'announced', { gateway });
    else log('warn', 'announcement_failed', { gateway, reason: outcome });
  }
}
