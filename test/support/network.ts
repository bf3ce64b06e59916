// A small network of real links inside the kernel: hosts are network namespaces, each on a link of its own to a router that can stop to pass
// packets on, in one direction or both, without a word to anybody: no reset, no ICMP, as a pulled cable or a dead switch far away. Hosts have
// addresses of 127/8, so that they may speak without TLS as on one machine; the test reaches the first by a link of its own. Needs root.
//
//   test ── hosts[0] ─┐
//           hosts[1] ─┼─ router
//           hosts[2] ─┘
import { spawnSync } from 'node:child_process';
import { invariant } from '../../engine/invariant.ts';

export interface Host {
  /** Words that run a command there: they stand before it. */
  within: readonly string[];
  address: string;
}

/** The test's end of its link, and the first host's: of the addresses that are kept for measuring networks (RFC 2544). */
const OUTER = { test: '198.18.254.1', host: '198.18.254.2' };

export class Network {
  readonly hosts: readonly Host[];
  /** Where the test finds the first host. */
  readonly frontAddress = OUTER.host;
  readonly #names: readonly string[];
  readonly #router: string;

  private constructor(hosts: number) {
    this.#router = `hearth-${process.pid}-r`;
    this.#names = Array.from({ length: hosts }, (_, i) => `hearth-${process.pid}-${i}`);
    this.hosts = this.#names.map((name, i) => ({ within: ['ip', 'netns', 'exec', name], address: addressOf(i) }));
  }

  /** Throws Error with the kernel's words where this process may not make one; leaves nothing behind then. */
  static open(hosts: number): Network {
    const network = new Network(hosts);
    try {
      network.#build();
      return network;
    } catch (error) {
      network.close();
      throw error;
    }
  }

  /** Packets from one host to the other vanish. */
  cut(from: number, to: number): void {
    // A rule and a table of its own for each direction: routes know only where packets go.
    ip('-n', this.#router, 'rule', 'add', 'iif', linkOf(from), 'to', addressOf(to), 'blackhole');
  }

  /** They arrive again. */
  heal(from: number, to: number): void {
    ip('-n', this.#router, 'rule', 'del', 'iif', linkOf(from), 'to', addressOf(to), 'blackhole');
  }

  /** What is sent to the host comes at this rate, and waits at most so long for it. Throws Error where the kernel can't. */
  slow(host: number, bitsPerSecond: number, latencyMs: number): void {
    const rate = ['rate', `${bitsPerSecond}bit`, 'burst', '4kb', 'latency', `${latencyMs}ms`];
    run('tc', '-n', this.#router, 'qdisc', 'add', 'dev', linkOf(host), 'root', 'tbf', ...rate);
  }

  atFullSpeed(host: number): void {
    run('tc', '-n', this.#router, 'qdisc', 'del', 'dev', linkOf(host), 'root');
  }

  /** With every link; processes in it lose theirs. */
  close(): void {
    for (const name of [...this.#names, this.#router]) spawnSync('ip', ['netns', 'del', name]);
  }

  #build(): void {
    const router = this.#router;
    for (const name of [router, ...this.#names]) {
      ip('netns', 'add', name);
      ip('-n', name, 'link', 'set', 'lo', 'up');
      // Of 127/8 only the usual address stays at home.
      ip('-n', name, 'addr', 'del', '127.0.0.1/8', 'dev', 'lo');
      ip('-n', name, 'addr', 'add', '127.0.0.1/32', 'dev', 'lo');
      for (const setting of ['conf/all/route_localnet', 'conf/default/route_localnet']) set(name, setting);
    }
    set(router, 'ip_forward');
    for (const [i, name] of this.#names.entries()) {
      ip('link', 'add', linkOf(i), 'netns', router, 'type', 'veth', 'peer', 'name', 'net', 'netns', name);
      up(router, linkOf(i), routerOf(i));
      up(name, 'net', addressOf(i));
      ip('-n', name, 'route', 'add', 'default', 'via', routerOf(i));
    }
    const [front] = this.#names;
    invariant(front !== undefined, 'a network has hosts');
    refuseTaken();
    ip('link', 'add', `hearth${process.pid}`, 'type', 'veth', 'peer', 'name', 'front', 'netns', front);
    ip('addr', 'add', `${OUTER.test}/30`, 'dev', `hearth${process.pid}`);
    ip('link', 'set', `hearth${process.pid}`, 'up');
    ip('-n', front, 'addr', 'add', `${OUTER.host}/30`, 'dev', 'front');
    ip('-n', front, 'link', 'set', 'front', 'up');
  }
}

const linkOf = (host: number) => `to${host}`;
const addressOf = (host: number) => `127.${11 + host}.0.2`;
const routerOf = (host: number) => `127.${11 + host}.0.1`;

function up(name: string, link: string, address: string): void {
  ip('-n', name, 'addr', 'add', `${address}/24`, 'dev', link, 'scope', 'global');
  ip('-n', name, 'link', 'set', link, 'up');
}

function set(name: string, setting: string): void {
  run('ip', 'netns', 'exec', name, 'sh', '-c', `echo 1 > /proc/sys/net/ipv4/${setting}`);
}

/** Throws Error where this machine reaches others by these addresses. */
function refuseTaken(): void {
  const { stdout } = spawnSync('ip', ['route', 'show', 'match', OUTER.host], { encoding: 'utf8' });
  const taken = stdout.split('\n').find((route) => route !== '' && !route.startsWith('default'));
  if (taken !== undefined) throw new Error(`${OUTER.host} is taken: ${taken}`);
}

const ip = (...args: string[]) => run('ip', ...args);

function run(command: string, ...args: string[]): void {
  const { status, error, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
}
