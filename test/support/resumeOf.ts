// What a gateway has been told of a stream so far, as it hands it to the next pool.
import type { PoolEvent, Usage } from '../../pool/wire/events.ts';
import type { Resume } from '../../pool/wire/inference.ts';

/** `events`: from the `prompt` event on, cut anywhere behind it. */
export function resumeOf(fingerprint: string, events: readonly PoolEvent[], choicesPerPrompt: number): Resume {
  let prompts: number[][] = [];
  let choices: Resume['choices'] = [];
  let told: number[] = [];
  let usage: Pick<Usage, keyof Resume['usage']> = { cached_tokens: 0 };
  for (const event of events) {
    if (event.type === 'prompt') {
      prompts = event.prompts;
      told = prompts.map(() => 0);
      choices = Array.from({ length: prompts.length * choicesPerPrompt }, () => ({ ids: [], finish_reason: null }));
    } else if (event.type === 'prompt_logprobs') told[event.prompt]! += event.tokens.length;
    else if (event.type === 'delta') {
      const choice = choices[event.choice]!;
      choice.ids.push(...event.ids);
      choice.finish_reason = event.finish_reason ?? null;
      usage = event.usage;
    }
  }
  return { fingerprint, prompts, choices, prompt_logprobs: told, usage };
}
