// Says what takes time. On a terminal one line that rewrites itself; elsewhere plain lines, at most one each few seconds, so that a
// log stays readable. Whatever took longer than a second ends with a line that says how long.

const TERMINAL_INTERVAL_MS = 100;
const LOG_INTERVAL_MS = 3000;
const WORTH_TELLING_MS = 1000;

export interface Output {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

export class ProgressLine {
  readonly #out: Output;
  readonly #now: () => number;
  #label: string | null = null;
  #beganAtMs = 0;
  #shownAtMs = Number.NEGATIVE_INFINITY;
  #startBytes = 0;

  constructor(out: Output, now: () => number) {
    this.#out = out;
    this.#now = now;
  }

  /** Something that goes on. Another label ends the one before. */
  update(label: string, detail = ''): void {
    this.#begin(label);
    this.#show(`${label}${detail && ` ${detail}`}`);
  }

  /** Bytes that come in: with rate, and share where the total is known. */
  bytes(label: string, done: number, total: number | null): void {
    if (this.#begin(label)) this.#startBytes = done;
    const seconds = Math.max(0.001, (this.#now() - this.#beganAtMs) / 1000);
    const rate = (done - this.#startBytes) / seconds;
    const of = total === null ? '' : ` of ${megabytes(total)} (${percent(done, total)})`;
    this.#show(`${label} ${megabytes(done)}${of}, ${megabytes(rate)}/s`);
  }

  /** Steps of a known number. */
  share(label: string, done: number, total: number): void {
    this.#begin(label);
    this.#show(`${label} ${percent(done, total)}`);
  }

  /** A line of its own, which stays. */
  say(text: string): void {
    this.end();
    this.#out.write(`${text}\n`);
  }

  /** Ends what goes on. */
  end(): void {
    if (this.#label === null) return;
    const tookMs = this.#now() - this.#beganAtMs;
    if (this.#out.isTTY) this.#out.write('\r\x1b[K');
    if (tookMs >= WORTH_TELLING_MS) this.#out.write(`${this.#label}: done in ${(tookMs / 1000).toFixed(1)} s\n`);
    this.#label = null;
  }

  #begin(label: string): boolean {
    if (this.#label === label) return false;
    this.end();
    this.#label = label;
    this.#beganAtMs = this.#now();
    // A log hears of it only if it lasts.
    this.#shownAtMs = this.#out.isTTY ? Number.NEGATIVE_INFINITY : this.#beganAtMs - LOG_INTERVAL_MS + WORTH_TELLING_MS;
    return true;
  }

  #show(text: string): void {
    const now = this.#now();
    if (now - this.#shownAtMs < (this.#out.isTTY ? TERMINAL_INTERVAL_MS : LOG_INTERVAL_MS)) return;
    this.#shownAtMs = now;
    this.#out.write(this.#out.isTTY ? `\r${text.slice(0, (this.#out.columns ?? 80) - 1)}\x1b[K` : `${text}\n`);
  }
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function percent(done: number, total: number): string {
  return total > 0 ? `${Math.floor((100 * done) / total)} %` : '';
}
