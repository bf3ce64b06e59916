// Runs adapterProbe.ts with a given environment, within a time bound, and reads its answer. Whatever the driver does to that process
// comes back as a sentence.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** A software driver on a busy machine needs seconds; one that takes longer hangs. */
const PROBE_LIMIT_MS = 60_000;
/** The answer with all limits and features is some kilobytes. */
const MAX_ANSWER_CHARS = 262_144;
const MAX_WORDS_CHARS = 16_384;

export interface ProbedAdapter {
  name: string;
  info: { vendor: string; architecture: string; device: string; description: string };
  limits: Record<string, number>;
  features: string[];
}
/** `words`: what loader and driver wrote to stderr. */
export type ProbeResult = ({ ok: true } & ProbedAdapter) | { ok: false; why: string; words: string };

/** Names of the adapters that Dawn finds under `env`. */
export async function listAdapters(env: NodeJS.ProcessEnv): Promise<{ names: string[]; words: string }> {
  const { answer, words } = await runProbe(['list'], env);
  const names = isRecord(answer) && Array.isArray(answer.names) ? answer.names.map(String) : [];
  return { names, words };
}

export async function probeAdapter(env: NodeJS.ProcessEnv, dawnFlags: readonly string[]): Promise<ProbeResult> {
  const { answer, words, ended } = await runProbe(['open', ...dawnFlags], env);
  if (!isRecord(answer)) return { ok: false, why: `its driver ended the probe (${ended})`, words };
  if (answer.ok !== true) return { ok: false, why: String(answer.why), words };
  const info = isRecord(answer.info) ? answer.info : {};
  const limits = isRecord(answer.limits) ? answer.limits : {};
  return {
    ok: true,
    name: String(answer.name),
    info: {
      vendor: String(info.vendor ?? ''),
      architecture: String(info.architecture ?? ''),
      device: String(info.device ?? ''),
      description: String(info.description ?? ''),
    },
    limits: Object.fromEntries(Object.entries(limits).map(([name, value]) => [name, Number(value)])),
    features: Array.isArray(answer.features) ? answer.features.map(String) : [],
  };
}

function runProbe(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ answer: unknown; words: string; ended: string }> {
  const script = fileURLToPath(new URL('./adapterProbe.ts', import.meta.url));
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [script, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    let words = '';
    let late = false;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(0, MAX_ANSWER_CHARS);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      words = (words + text).slice(-MAX_WORDS_CHARS);
    });
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, PROBE_LIMIT_MS);
    child.on('error', (error) => {
      words = error.message;
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const ended = late ? `no answer in ${PROBE_LIMIT_MS / 1000} s` : (signal ?? `exit code ${code}`);
      resolve({ answer: parseLastLine(said), words, ended });
    });
  });
}

/** A driver may print, too. */
function parseLastLine(said: string): unknown {
  try {
    return JSON.parse(said.trim().split('\n').at(-1) ?? '');
  } catch {
    return null;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
