// What `npm run doctor` finds of a pool whose engine is a foreign server: that it is there and lets this pool in, that it serves what is
// configured, that it looks like the make that it is said to be, and whether tenants' caches are apart there. Nothing is generated.
import { randomBytes } from 'node:crypto';
import { Connection } from '../pool/upstream/connection.ts';
import type { Make } from '../pool/upstream/make.ts';
import { MAKES } from '../pool/upstream/makes/makes.ts';
import { apiKeyOf } from '../pool/upstream/process.ts';
import { Questions } from '../pool/upstream/questions.ts';
import type { ForeignPool } from './configSchema.ts';
import type { Finding } from './doctorChecks.ts';

export async function checkUpstream(pool: ForeignPool, env: NodeJS.ProcessEnv): Promise<Finding[]> {
  const name = `pool ${pool.id}`;
  const make = MAKES[pool.make];
  let connection: Connection | null = null;
  try {
    connection = new Connection({ url: pool.url, apiKey: apiKeyOf(pool, env) });
    const questions = new Questions(make, connection, () => randomBytes(32).toString('base64url'));
    const served = await questions.models();
    const models = pool.models.map((model) => checkModel(model, served));
    const rest = [await checkMake(make, questions), checkCache(make, pool)];
    return [{ name, state: 'ok', text: `${make.title} at ${pool.url}` }, ...models, ...rest];
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const text = `${make.title} at ${pool.url}: ${reason}; start it, or correct url and apiKeyEnv`;
    return [{ name, state: 'problem', text }];
  } finally {
    connection?.close();
  }
}

function checkModel(
  { id, name = id, contextLength }: ForeignPool['models'][number],
  served: Map<string, number | null>,
): Finding {
  const finding = { name: `  model ${id}`, state: 'problem' as const };
  const told = served.get(name);
  if (told === undefined)
    return { ...finding, text: `it does not serve ${name}; it serves: ${[...served.keys()].slice(0, 5).join(', ')}` };
  const context = contextLength ?? told;
  if (context === null) return { ...finding, text: 'it tells no context length; set contextLength' };
  if (told !== null && context > told)
    return { ...finding, text: `contextLength is ${context}, and there are ${told} positions; lower it` };
  return { ...finding, state: 'ok', text: `${name}, ${context} positions` };
}

/** A make shows in its health route, and in the names of its figures. */
async function checkMake(make: Make, questions: Questions): Promise<Finding> {
  const finding = { name: '  make', state: 'note' as const };
  try {
    await questions.health();
  } catch {
    return { ...finding, text: `it does not answer 200 at ${make.healthPath}, as ${make.title} does; is make right?` };
  }
  if (!make.figures) return { ...finding, state: 'ok', text: 'any; it tells no figures' };
  try {
    const told = await questions.tellsFigures(make.figures);
    if (told) return { ...finding, state: 'ok', text: `${make.title}, by its figures at ${make.figures.path}` };
  } catch {
    // Told below.
  }
  return {
    ...finding,
    text: `no figures of ${make.title} at ${make.figures.path}: is make right, and are its metrics on? Without them load is what this pool sends`,
  };
}

function checkCache({ title, cache }: Make, { sharedCache }: ForeignPool): Finding {
  const finding = { name: '  prefix cache', state: 'note' as const };
  if (cache.kind === 'salt' && cache.field.completion !== null)
    return { ...finding, state: 'ok', text: 'tenants are kept apart by salts' };
  if (sharedCache)
    return { ...finding, text: `tenants share it: each could learn by time what others asked of ${title}` };
  if (cache.kind === 'switch')
    return { ...finding, state: 'ok', text: 'off for every request; sharedCache turns it on' };
  return { ...finding, text: `tenants' chats are kept apart by salts; completions are refused without sharedCache` };
}
