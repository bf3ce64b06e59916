// Whom the device worked for, and how long. A step's time goes from when the device could begin with it to its end; it is divided over the step's
// tokens, and what a sequence's tokens took is the sequence's. So the shares of all add up to the time that the device worked, never to more
// than the clock's; what is missing to that, it was idle.
//
//   engine A   submitted ├──── A works ────┤
//   engine B          submitted            ├── B works ──┤        one device computes one after another, whoever's it is
//
// Prefill: whatever builds a history up, also again after a preemption. Decode: a sequence's last token alone, with the drafts behind it.
import type { PlannedChunk } from './stepPlan.ts';

export interface DeviceShare {
  prefillMs: number;
  decodeMs: number;
}

/** What one sequence was served, once it has ended. */
export interface SequenceUse extends DeviceShare {
  id: string;
  promptTokens: number;
  /** Of them answered from a cache. */
  cachedTokens: number;
  /** Drawn here: what it had before, from elsewhere, is not among them. */
  outputTokens: number;
}

/** The steps of one device, in the order in which they end. Engines that share the device share this. */
export class DeviceTurns {
  #endedMs = Number.NEGATIVE_INFINITY;

  /** A step has ended now: how long the device worked on it. A clock that is set back tells 0, once. */
  ended(submittedMs: number, nowMs: number): number {
    const beganMs = Math.max(submittedMs, this.#endedMs);
    this.#endedMs = nowMs;
    return Math.max(0, nowMs - beganMs);
  }
}

/** Divides a step's time over its tokens, and adds each sequence's part to it. Returns both sums. */
export function divideDeviceTime(chunks: readonly PlannedChunk[], deviceMs: number): DeviceShare {
  const total: DeviceShare = { prefillMs: 0, decodeMs: 0 };
  const tokens = chunks.reduce((sum, { count }) => sum + count, 0);
  for (const { sequence, start, count, draft } of chunks) {
    const ms = (deviceMs * count) / tokens;
    const phase = count - draft.length === 1 && start >= sequence.promptLength ? 'decodeMs' : 'prefillMs';
    sequence.device[phase] += ms;
    total[phase] += ms;
  }
  return total;
}
