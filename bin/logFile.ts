// The log of the processes that `npm start` keeps: their lines as they come, in one file of bounded size and the one before it.
import { appendFileSync, renameSync, rmSync, statSync } from 'node:fs';

const MAX_LOG_BYTES = 16 * 2 ** 20;

export class LogFile {
  readonly path: string;
  readonly #maxBytes: number;
  #bytes: number;

  constructor(path: string, maxBytes = MAX_LOG_BYTES) {
    this.path = path;
    this.#maxBytes = maxBytes;
    this.#bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** A disk that is full costs log lines, not the service. */
  append(line: string): void {
    const text = `${line}\n`;
    try {
      if (this.#bytes + text.length > this.#maxBytes) {
        rmSync(`${this.path}.1`, { force: true });
        if (this.#bytes > 0) renameSync(this.path, `${this.path}.1`);
        this.#bytes = 0;
      }
      appendFileSync(this.path, text, { mode: 0o600 });
      this.#bytes += Buffer.byteLength(text);
    } catch {
      // the next line tries again
    }
  }
}
