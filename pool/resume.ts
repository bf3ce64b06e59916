// Where a request goes on: what its earlier life told, as the gateway says it, checked against what is asked. A request that begins goes on
// from nothing, so nobody behind the plan tells the two apart. What is taken up here was released, billed and sent: it is computed again
// where its KV is needed, and never told again.
//
//   prompt   ├── told before ──┤── told here ──┤        choice   ├── released before ──┤── drawn here ──┤ maxTokens
import { fingerprintMismatch, invalidRequest } from './errors.ts';
import type { Plan, PlannedChoice } from './plan.ts';
import type { PoolModel } from './servedModel.ts';
import type { Resume } from './wire/inference.ts';

/** The prompts' ids as they were told. Throws PoolError: 409 where a model of other bits began it, 400 naming what can't be. */
export function resumedPrompts(model: PoolModel, { fingerprint, prompts }: Resume, asked: number): number[][] {
  if (fingerprint !== model.fingerprint) throw fingerprintMismatch(model.id);
  expectEntries('resume.prompts', prompts.length, asked);
  for (const [prompt, ids] of prompts.entries()) expectKnown(model, ids, `resume.prompts.${prompt}`);
  return prompts;
}

/** The plan of such a request from its beginning, as it goes on. Throws PoolError (400) naming what no earlier life can have told. */
export function takeUp(model: PoolModel, resume: Resume, plan: Plan): Plan {
  expectEntries('resume.choices', resume.choices.length, plan.choices.length);
  const choices = plan.choices.map((choice) => released(model, resume, choice));
  return {
    ...plan,
    resumed: true,
    choices,
    told: toldBefore(resume, plan, choices),
    billed: billedBefore(resume, plan, choices),
  };
}

/** Whether its earlier life told anything of the choice. */
export function hasBegun({ released, finish }: PlannedChoice): boolean {
  return released.length > 0 || finish !== null;
}

function released(model: PoolModel, { choices }: Resume, planned: PlannedChoice): PlannedChoice {
  const { choice, maxTokens } = planned;
  const { ids, finish_reason: finish } = choices[choice]!;
  const param = `resume.choices.${choice}.ids`;
  expectKnown(model, ids, param);
  if (ids.length > maxTokens)
    throw invalidRequest(
      `The choice has ${ids.length} ids, and max_tokens and the hold allow it ${maxTokens}. Send both as they were.`,
      param,
    );
  if (finish === null && ids.some((id) => model.text.eosIds.has(id)))
    throw invalidRequest('The ids hold an end of sequence: a choice that has one has a finish_reason.', param);
  return { ...planned, released: ids, finish };
}

function toldBefore(
  { prompt_logprobs: told }: Resume,
  { prompts, echo }: Plan,
  choices: readonly PlannedChoice[],
): number[] {
  expectEntries('resume.prompt_logprobs', told.length, prompts.length);
  for (const [prompt, { length }] of prompts.entries()) {
    const param = `resume.prompt_logprobs.${prompt}`;
    const most = echo ? length : 0;
    const count = told[prompt]!;
    if (count > most) throw invalidRequest(`No more than ${most} tokens of this prompt can have been told.`, param);
    if (count < most && hasBegun(choices[prompt * (choices.length / prompts.length)]!))
      throw invalidRequest(`All ${most} tokens of a prompt are told before its first choice begins.`, param);
  }
  return told;
}

function billedBefore({ usage }: Resume, { promptTokens }: Plan, choices: readonly PlannedChoice[]): Plan['billed'] {
  const { cached_tokens, accepted_prediction_tokens: accepted = 0, rejected_prediction_tokens: rejected = 0 } = usage;
  const ids = choices.reduce((sum, choice) => sum + choice.released.length, 0);
  if (cached_tokens > promptTokens)
    throw invalidRequest(`The prompts have ${promptTokens} tokens.`, 'resume.usage.cached_tokens');
  if (accepted > ids) throw invalidRequest(`The choices have ${ids} ids.`, 'resume.usage.accepted_prediction_tokens');
  return { cachedTokens: cached_tokens, drafts: { accepted, rejected } };
}

function expectEntries(param: string, given: number, expected: number): void {
  if (given !== expected) throw invalidRequest(`The request has ${expected} of what has ${given} entries here.`, param);
}

function expectKnown({ vocabSize }: PoolModel, ids: readonly number[], param: string): void {
  const unknown = ids.find((id) => id >= vocabSize);
  if (unknown !== undefined)
    throw invalidRequest(`Token id ${unknown} is not in the vocabulary of ${vocabSize} tokens.`, param);
}
