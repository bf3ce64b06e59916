// What speculation is measured on: a text that the answer repeats with changes, and one where nothing repeats itself. The text is code: asked
// to repeat prose, a model of this size retells it.

const CODE = `export function parseDuration(text: string): number {
  const match = /^(\\d+)(ms|s|m|h)$/.exec(text);
  if (!match) throw new Error('not a duration: ' + text);
  const amount = Number(match[1]);
  const unit = match[2];
  if (unit === 'ms') return amount;
  if (unit === 's') return amount * 1000;
  if (unit === 'm') return amount * 60000;
  return amount * 3600000;
}

export function formatDuration(ms: number): string {
  if (ms < 1000) return ms + 'ms';
  if (ms < 60000) return ms / 1000 + 's';
  if (ms < 3600000) return ms / 60000 + 'm';
  return ms / 3600000 + 'h';
}`;

export interface BenchPrompt {
  name: string;
  content: string;
  /** 0: greedy. A small model that always takes the likeliest token soon repeats itself, so that it is sampled where nothing is to repeat. */
  temperature: number;
}

export const PROMPTS: readonly BenchPrompt[] = [
  {
    name: 'edit code',
    content: `Rewrite this code with "amount" renamed to "count". Answer with the code alone.\n\n${CODE}`,
    temperature: 0,
  },
  {
    name: 'nothing repeats',
    content: 'Tell me a story about a lighthouse, a fox and a stolen violin.',
    temperature: 1,
  },
];
