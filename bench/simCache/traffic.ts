// Made-up traces of other structure than any recorded one, so that a policy isn't fitted to one trace: each a few thousand requests whose
// gaps, popularity and branching come from a seed. Lengths are in blocks; time is in requests.
import { randomOf } from '../../test/support/random.ts';
import { BlockNumbering, type Trace } from './trace.ts';

type Random = () => number;
type Paths = Generator<number[]>;

/** Fresh block ids. */
class Ids {
  #next = 1;

  take(count: number): number[] {
    return Array.from({ length: count }, () => this.#next++);
  }
}

const REQUESTS = 6_000;

const exponential = (random: Random, mean: number) => -mean * Math.log(1 - random());
/** At least 1, the given median, with a heavy tail. */
const lengthOf = (random: Random, median: number) =>
  Math.max(
    1,
    Math.round(median * Math.exp(0.8 * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()))),
  );

/** Ranks below `count`, rank k as often as (k + 1)^-exponent. */
function zipf(random: Random, count: number, exponent: number): () => number {
  const upTo: number[] = [];
  let sum = 0;
  for (let rank = 0; rank < count; rank++) {
    sum += (rank + 1) ** -exponent;
    upTo.push(sum);
  }
  return () => {
    const at = random() * sum;
    let low = 0;
    for (let high = count - 1; low < high; ) {
      const middle = (low + high) >> 1;
      if (upTo[middle]! < at) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** Conversations of some turns with think times between, each on one of a few system prompts. */
function* chats(random: Random, ids: Ids, meanThink = 300): Paths {
  const systems = Array.from({ length: 5 }, () => ids.take(1));
  const system = zipf(random, systems.length, 1);
  const due: { at: number; path: number[] }[] = [];
  for (let now = 0; now < REQUESTS; now++) {
    const ready = due.findIndex(({ at }) => at <= now);
    const path =
      ready >= 0 ? due.splice(ready, 1)[0]!.path : [...systems[system()]!, ...ids.take(lengthOf(random, 10))];
    yield path;
    if (random() < 0.7)
      due.push({ at: now + 1 + exponential(random, meanThink), path: [...path, ...ids.take(lengthOf(random, 3))] });
  }
}

/** Agents with long shared system prompts: quick steps, now and then a branch back to an earlier step. */
function* agents(random: Random, ids: Ids): Paths {
  const kinds = Array.from({ length: 20 }, () => ids.take(30 + Math.floor(50 * random())));
  const kind = zipf(random, kinds.length, 0.8);
  const running: { path: number[]; steps: number[] }[] = [];
  for (let now = 0; now < REQUESTS; now++) {
    if (running.length < 25) {
      const path = [...kinds[kind()]!, ...ids.take(lengthOf(random, 4))];
      running.push({ path, steps: [path.length] });
    }
    const at = Math.floor(random() * running.length);
    const run = running[at]!;
    yield run.path;
    if (random() < 0.12) {
      running.splice(at, 1);
      continue;
    }
    if (random() < 0.15) run.path = run.path.slice(0, run.steps[Math.floor(random() * run.steps.length)]!);
    run.steps.push(run.path.length);
    run.path = [...run.path, ...ids.take(lengthOf(random, 2))];
  }
}

/** Questions on documents of very unequal popularity: [instructions][document][question]. */
function* documents(random: Random, ids: Ids, shiftEvery = Number.POSITIVE_INFINITY): Paths {
  const instructions = ids.take(3);
  let texts = Array.from({ length: 1_500 }, () => ids.take(lengthOf(random, 15)));
  const rank = zipf(random, texts.length, 0.9);
  for (let now = 0; now < REQUESTS; now++) {
    if (now > 0 && now % shiftEvery === 0) texts = texts.map((_, i) => texts[(i + 200) % texts.length]!);
    yield [...instructions, ...texts[rank()]!, ...ids.take(1 + Math.floor(2 * random()))];
  }
}

/** Chats, and every so often a batch that reads many long texts once, under one template. */
function* chatsAndScans(random: Random, ids: Ids): Paths {
  const template = ids.take(4);
  let now = 0;
  for (const path of chats(random, ids)) {
    yield path;
    now += 1;
    if (now % 1_000 < 300) yield [...template, ...ids.take(lengthOf(random, 30))];
  }
}

/** The same prompts again and again in one order, 5,500 blocks in all. */
function* loop(_random: Random, ids: Ids): Paths {
  const prompts = Array.from({ length: 275 }, () => ids.take(20));
  for (let now = 0; now < REQUESTS; now++) yield prompts[now % prompts.length]!;
}

/** A small hot set among prompts that never come again. */
function* hotAmongCold(random: Random, ids: Ids): Paths {
  const hot = Array.from({ length: 60 }, () => ids.take(lengthOf(random, 20)));
  for (let now = 0; now < REQUESTS; now++)
    yield random() < 0.25 ? hot[Math.floor(random() * hot.length)]! : ids.take(lengthOf(random, 15));
}

/** Each prompt is sent twice, at once after the other, and never again: recency is all there is, frequency misleads. */
function* retries(random: Random, ids: Ids): Paths {
  const due: { at: number; path: number[] }[] = [];
  for (let now = 0; now < REQUESTS; now++) {
    const ready = due.findIndex(({ at }) => at <= now);
    if (ready >= 0) {
      yield due.splice(ready, 1)[0]!.path;
      continue;
    }
    const path = ids.take(lengthOf(random, 20));
    due.push({ at: now + 1 + exponential(random, 60), path });
    yield path;
  }
}

/** Calls of tools with long prompts of their own that all share: mostly one, some with a step or two after it. */
function* toolCalls(random: Random, ids: Ids): Paths {
  const tools = Array.from({ length: 60 }, () => ids.take(4 + Math.floor(20 * random())));
  const tool = zipf(random, tools.length, 1.1);
  const due: { at: number; path: number[] }[] = [];
  for (let now = 0; now < REQUESTS; now++) {
    const ready = due.findIndex(({ at }) => at <= now);
    const path = ready >= 0 ? due.splice(ready, 1)[0]!.path : [...tools[tool()]!, ...ids.take(lengthOf(random, 4))];
    yield path;
    if (random() < 0.35) due.push({ at: now + 1 + exponential(random, 40), path: [...path, ...ids.take(1)] });
  }
}

/** What was learnt turns false, again and again: prompts that are sent four times and never after, then a hot set among cold ones. */
function* changingHabits(random: Random, ids: Ids): Paths {
  const due: { at: number; path: number[]; left: number }[] = [];
  const hot = hotAmongCold(random, ids);
  for (let now = 0; now < REQUESTS; now++) {
    if (now % 2_000 >= 1_000) {
      yield hot.next().value ?? [];
      continue;
    }
    const ready = due.findIndex(({ at }) => at <= now);
    const { path, left } = ready >= 0 ? due.splice(ready, 1)[0]! : { path: ids.take(lengthOf(random, 15)), left: 3 };
    yield path;
    if (left > 0) due.push({ at: now + 1 + exponential(random, 60), path, left: left - 1 });
  }
}

export const TRAFFIC: Readonly<Record<string, (random: Random, ids: Ids) => Paths>> = {
  chats,
  'slow-chats': (random, ids) => chats(random, ids, 1_500),
  agents,
  documents,
  'shifting-documents': (random, ids) => documents(random, ids, 1_000),
  'chats-and-scans': chatsAndScans,
  loop,
  'hot-among-cold': hotAmongCold,
  retries,
  'tool-calls': toolCalls,
  'changing-habits': changingHabits,
};

/** The named traffic, the same for the same seed. */
export function makeTrace(name: string, seed: number): Trace | null {
  const make = Object.hasOwn(TRAFFIC, name) ? TRAFFIC[name] : undefined;
  if (!make) return null;
  const numbering = new BlockNumbering();
  const requests = [...make(randomOf(seed), new Ids())].map((path) => ({
    blocks: numbering.number('', path),
    endsPartial: false,
    tenant: '',
  }));
  return { requests, blockCount: numbering.count };
}
