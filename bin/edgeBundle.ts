// A Worker's source as the one module that its runtime loads, as `wrangler deploy` makes it: everything of ours and of npm in it, what the
// platform brings outside.
import { build } from 'esbuild';

/** Where the bundle goes in the runtime. */
const OUTSIDE = ['node:*', 'cloudflare:*'];

export async function bundleWorker(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'esnext',
    conditions: ['workerd', 'worker', 'browser'],
    external: OUTSIDE,
    logLevel: 'silent',
  });
  return outputFiles[0]?.text ?? '';
}
