// A pool process as pool/main.ts, over an engine thread whose device a test can take away.
import { Console } from 'node:console';
import { openModelText } from '../../engine/model/modelText.ts';
import { runPoolProcess } from '../../pool/process.ts';

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
  engineWorker: new URL('./losingEngineWorker.ts', import.meta.url),
  openText: openModelText,
});
process.exit(code);
