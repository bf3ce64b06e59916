// Asks a process of this machine how it is. Any HTTP answer is a sign of life. Over TLS its certificate isn't looked at: the process is our
// own child, and what it proves is made out to the name that clients know.
import { get as httpGet } from 'node:http';
import { get as httpsGet } from 'node:https';

/** The answer's status; null when nobody answers within `timeoutMs`. */
export function healthStatus(url: string, timeoutMs: number): Promise<number | null> {
  const signal = AbortSignal.timeout(timeoutMs);
  return new Promise((resolve) => {
    const options = { signal, agent: false };
    const request = url.startsWith('https:')
      ? httpsGet(url, { ...options, rejectUnauthorized: false })
      : httpGet(url, options);
    request.on('error', () => resolve(null));
    request.on('response', (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? null);
    });
  });
}
