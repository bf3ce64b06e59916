// A pool process over the simulated runner: the same life, the same HTTP, the same journal as pool/main.ts.
import { Console } from 'node:console';
import { runPoolProcess } from '../../pool/process.ts';
import { byteText } from './byteText.ts';

globalThis.console = new Console(process.stderr, process.stderr);
const signalled = new Promise<void>((resolve) => {
  process.on('SIGTERM', () => resolve());
  process.on('SIGINT', () => resolve());
});
process.stdout.on('error', () => {});
const code = await runPoolProcess({
  stdin: process.stdin,
  say: (message) => process.stdout.write(`${JSON.stringify(message)}\n`),
  logLine: (line) => process.stderr.write(line),
  signalled,
  engineWorker: new URL('./pagedEngineWorker.ts', import.meta.url),
  openText: async () => byteText(),
});
process.exit(code);
