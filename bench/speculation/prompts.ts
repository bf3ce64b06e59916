// What speculation is measured on: texts that the answer repeats, and one where nothing repeats itself. An own text, about 200 tokens.

const PROSE = `The harbour master kept a green notebook in the drawer of his desk. Every evening at seven he wrote down which boats had come in, \
how deep they lay in the water, and what the crews had said about the weather beyond the cape. On the first page he had drawn the bay as it was \
when his father ran the office: two wooden piers, the lime kiln, and the row of poplars that the storm of 1931 took away. Nobody else was allowed \
to write in it. When the new clerk arrived from the city in April, she asked why the same figures were not simply typed into the register, and he \
told her that the register belonged to the ministry, while the notebook belonged to the sea. She laughed, but she never asked again, and in the \
autumn he found a second green notebook on his desk, with her name on the cover and the first three boats of the day already entered.`;

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
    name: 'edit prose',
    content: `Repeat this text word for word, with "green" changed to "blue":\n\n${PROSE}`,
    temperature: 0,
  },
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
