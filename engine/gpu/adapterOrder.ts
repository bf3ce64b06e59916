// Which adapter computes, decided before any process opens one: what HEARTH_ADAPTER names; otherwise
//
//   hardware GPU  ─▶  the system's software Vulkan (Mesa lavapipe ≥ 23)  ─▶  SwiftShader from npm
//
// Each candidate is opened and computes something in a process of its own before it is taken. Drivers read their environment when a
// process starts, so the choice comes with the variables under which its processes are to be spawned, and with a sentence for each
// better candidate that was not taken.
import type { ProbedAdapter, ProbeResult } from './probeProcess.ts';
import type { SystemDrivers } from './systemDrivers.ts';

export type AdapterKind = 'hardware' | 'software' | 'swiftshader';

export interface AdapterChoice extends ProbedAdapter {
  kind: AdapterKind;
  /** Added to the environment of each process that opens the adapter. */
  env: Record<string, string>;
  /** For `openDevice`. */
  dawnFlags: string[];
  /** Better candidates, and why each was not taken. */
  rejected: { name: string; why: string }[];
}

/** The machine, as the search sees it; a table in tests. */
export interface AdapterWorld {
  platform: string;
  /** Adapters that Dawn finds with the environment as it is. */
  list: () => Promise<{ names: string[]; words: string }>;
  drivers: () => SystemDrivers;
  probe: (env: Record<string, string>, dawnFlags: readonly string[]) => Promise<ProbeResult>;
  /** Unpacks SwiftShader; resolves with the environment that shows it. */
  swiftShader: () => Promise<Record<string, string>>;
}

/** None of the adapters, or not the named one, can be used. The message says why, one line each, and what to do. */
export class AdapterSearchError extends Error {
  override readonly name = 'AdapterSearchError';
  readonly code = 'no_adapter';
  readonly rejected: AdapterChoice['rejected'];

  constructor(message: string, rejected: AdapterChoice['rejected']) {
    super([message, ...rejected.map(({ name, why }) => `  ${name}: ${why}`)].join('\n'));
    this.rejected = rejected;
  }
}

const SOFTWARE = /llvmpipe|lavapipe|swiftshader|basic render/i;
const LAVAPIPE = /llvmpipe|lavapipe/i;
/** Inline execution: on a software adapter a dispatch costs 2 µs instead of 23, and decoding is faster by a quarter. */
const LAVAPIPE_ENV = { LP_NUM_THREADS: '0' };
const BACKPORTS =
  'On Debian 12: add bookworm-backports to the apt sources, then apt-get install -t bookworm-backports mesa-vulkan-drivers';

/** `wanted`: auto, hardware, lavapipe, swiftshader, or a part of an adapter's name. Throws AdapterSearchError. */
export async function chooseAdapter(world: AdapterWorld, wanted = 'auto'): Promise<AdapterChoice> {
  const search = new Search(world, await world.list());
  const name = wanted.toLowerCase();
  if (name === 'auto' || name === '') {
    const choice = (await search.hardware()) ?? (await search.lavapipe()) ?? (await search.swiftShader());
    if (choice) return choice;
    throw new AdapterSearchError('No WebGPU adapter can be used here:', search.rejected);
  }
  const choice = await search.named(name);
  if (choice) return choice;
  throw new AdapterSearchError(
    `HEARTH_ADAPTER asks for ${JSON.stringify(wanted)}, which can't be used here. Found: ${search.found}; always: swiftshader (linux-x64). ` +
      'Name one of these, or unset it.',
    search.rejected,
  );
}

class Search {
  readonly rejected: AdapterChoice['rejected'] = [];
  readonly #world: AdapterWorld;
  readonly #names: readonly string[];
  readonly #words: string;

  constructor(world: AdapterWorld, listed: { names: string[]; words: string }) {
    this.#world = world;
    this.#names = listed.names;
    this.#words = listed.words;
  }

  get found(): string {
    return this.#names.join(', ') || 'no system adapter';
  }

  async named(name: string): Promise<AdapterChoice | null> {
    if (name === 'hardware') return this.hardware();
    if (LAVAPIPE.test(name)) return this.lavapipe();
    if (name === 'swiftshader') return this.swiftShader();
    const full = this.#names.find((each) => each.toLowerCase().includes(name));
    if (full === undefined) return null;
    if (LAVAPIPE.test(full)) return this.lavapipe();
    return this.#take(SOFTWARE.test(full) ? 'software' : 'hardware', full, {}, [`adapter=${full}`]);
  }

  async hardware(): Promise<AdapterChoice | null> {
    const names = this.#names.filter((name) => !SOFTWARE.test(name));
    if (names.length === 0) this.#reject('hardware GPU', this.#noHardware());
    // Of several, Dawn knows which is the discrete one; any that it prefers but that is no GPU is passed over.
    const flags = names.map((name) => [`adapter=${name}`]);
    for (const dawnFlags of names.length > 1 ? [[], ...flags] : flags) {
      const choice = await this.#take(
        'hardware',
        dawnFlags[0]?.slice('adapter='.length) ?? 'preferred GPU',
        {},
        dawnFlags,
      );
      if (choice) return choice;
    }
    return null;
  }

  async lavapipe(): Promise<AdapterChoice | null> {
    const name = this.#names.find((each) => LAVAPIPE.test(each));
    if (name !== undefined) return this.#take('software', name, LAVAPIPE_ENV, [`adapter=${name}`]);
    this.#reject('Mesa lavapipe', this.#noLavapipe());
    return null;
  }

  async swiftShader(): Promise<AdapterChoice | null> {
    if (this.#world.platform !== 'linux-x64') {
      this.#reject('SwiftShader', `the npm package has it for linux-x64; this is ${this.#world.platform}`);
      return null;
    }
    try {
      const env = await this.#world.swiftShader();
      return await this.#take('swiftshader', 'SwiftShader', env, ['adapter=SwiftShader']);
    } catch (error) {
      this.#reject('SwiftShader', `could not be unpacked: ${error instanceof Error ? error.message : error}`);
      return null;
    }
  }

  async #take(
    kind: AdapterKind,
    name: string,
    env: Record<string, string>,
    dawnFlags: string[],
  ): Promise<AdapterChoice | null> {
    const result = await this.#world.probe(env, dawnFlags);
    if (!result.ok) {
      this.#reject(name, result.why);
      return null;
    }
    if (kind === 'hardware' && SOFTWARE.test(`${result.name} ${result.info.description}`)) return null;
    const { ok: _, ...adapter } = result;
    return { ...adapter, kind, env, dawnFlags, rejected: this.rejected };
  }

  #reject(name: string, why: string): void {
    this.rejected.push({ name, why });
  }

  #noHardware(): string {
    const { files, overriddenBy } = this.#world.drivers();
    if (overriddenBy && files.length === 0) return `${overriddenBy} names no driver file that exists`;
    return 'none found. If this machine has one, install its Vulkan driver, and check the rights on /dev/dri (groups video and render)';
  }

  #noLavapipe(): string {
    const { lavapipe, overriddenBy, files } = this.#world.drivers();
    if (overriddenBy && files.length === 0) return `${overriddenBy} names no driver file that exists`;
    if (lavapipe === null) return `not installed. ${BACKPORTS}`;
    const major = Number.parseInt(lavapipe, 10);
    if (major < 23) return `Mesa ${lavapipe} is too old for WebGPU, which needs 23. ${BACKPORTS}`;
    const reason = /^Warning: (.*)$/m.exec(this.#words)?.[1];
    return `Mesa ${lavapipe} is installed, but Dawn refuses it${reason ? `: ${reason}` : ''}. ${BACKPORTS}`;
  }
}
