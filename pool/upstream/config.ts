// The section of a pool whose engine is a foreign server: what every pool process is told, and where that server is. Its key is never in
// a section, nor in a file: the section names the variable of the environment that has it.
import { z } from 'zod';
import { isLoopback, isProtected, poolSection, UNPROTECTED } from '../config.ts';
import type { MakeName } from './makes/makes.ts';
import { MAKES } from './makes/makes.ts';

const {
  host,
  port,
  tls,
  behindTls,
  metrics,
  poolId,
  keys,
  journal,
  lifecycle,
  announce,
  maxBodyBytes,
  drainMs,
  models,
} = poolSection.shape;
const { wakeWaiting, wakeWaitMs, probeMs } = lifecycle.unwrap().shape;
const { id, contextLength } = models.element.shape;

const isMake = (name: string): name is MakeName => Object.hasOwn(MAKES, name);

/** Where a foreign server is, and what it is; the same in the configuration of a machine. */
export const upstreamShape = {
  make: z
    .enum(Object.keys(MAKES).filter(isMake))
    .describe("What the server is: decides how it is asked and counted. openai: any other that speaks OpenAI's API."),
  url: z.url({ protocol: /^https?$/ }).describe('Its address, without /v1. Certificates of https are checked.'),
  plainHttp: z
    .boolean()
    .default(false)
    .describe(
      'Allows http to another machine: prompts, answers and the key go there as anybody between can read them.',
    ),
  apiKeyEnv: z
    .string()
    .regex(/^[A-Z_][A-Z0-9_]*$/, 'the name of a variable: capitals, digits, underscores')
    .optional()
    .describe('Variable of the environment with its API key.'),
  models: z
    .array(
      z.strictObject({
        id: id.describe('Name under which it is served here.'),
        name: z
          .string()
          .min(1)
          .max(256)
          .optional()
          .describe('Name under which the server has it, where that is another.'),
        contextLength: contextLength.describe('Most positions of one sequence, where the server does not tell them.'),
      }),
    )
    .min(1)
    .max(16)
    .describe('Which of its models are served.'),
  maxRequests: z
    .int()
    .min(1)
    .max(100_000)
    .default(1024)
    .describe(
      'Requests at the server at once, waiting there included; past it they are refused with the time to come again.',
    ),
  sharedCache: z
    .boolean()
    .default(false)
    .describe(
      "Tenants may share the prefix cache of a make that can't keep them apart: each could learn by time what others asked. Needed for tgi, lmdeploy and openai.",
    ),
  priority: z
    .boolean()
    .default(false)
    .describe('Requests tell the server their order. Only where it was started so that it takes priorities.'),
  templateTokensPerMessage: z
    .int()
    .min(0)
    .max(4096)
    .default(32)
    .describe(
      'Most tokens that its chat template adds per message. More is held than needed, less cuts answers short.',
    ),
  templateTokensPerPrompt: z
    .int()
    .min(0)
    .max(65_536)
    .default(256)
    .describe('Most tokens that its chat template adds once.'),
} as const;

/** An issue of such a description that no field has alone; null: there is none. */
export function upstreamIssue(
  of: Pick<UpstreamSection, 'make' | 'url' | 'plainHttp' | 'sharedCache' | 'models'>,
): { path: string[]; message: string } | null {
  const { protocol, hostname } = new URL(of.url);
  if (protocol === 'http:' && !of.plainHttp && !isLoopback(hostname.replace(/^\[|\]$/g, '')))
    return { path: ['url'], message: 'a server on another machine is reached by https; plainHttp allows http' };
  if (new Set(of.models.map((model) => model.id)).size < of.models.length)
    return { path: ['models'], message: 'two models have the same id' };
  const { title, cache } = MAKES[of.make];
  if (cache.kind === 'none' && !of.sharedCache)
    return {
      path: ['sharedCache'],
      message: `${title} can't keep tenants' cached prefixes apart: turn its prefix cache off, or accept that they share it, and set this to true`,
    };
  return null;
}

export const upstreamSection = z
  .strictObject({
    ...{ host, port, tls, behindTls, metrics, poolId, keys, journal, announce, maxBodyBytes, drainMs },
    ...upstreamShape,
    wakeWaiting: wakeWaiting.describe('Requests that wait while the server loads a model.'),
    wakeWaitMs,
    probeMs: probeMs.describe('A model that brought no token for so long is asked for one. 0: it never is.'),
    figuresMs: z.int().min(100).max(3_600_000).default(2000).describe('How often its figures are read.'),
  })
  .superRefine((section, context) => {
    const issue = upstreamIssue(section);
    if (issue) context.addIssue({ code: 'custom', ...issue });
    if (!isProtected(section)) context.addIssue({ code: 'custom', ...UNPROTECTED });
  });
export type UpstreamSection = z.infer<typeof upstreamSection>;
