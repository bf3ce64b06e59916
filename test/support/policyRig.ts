// Drives an eviction policy as the block manager does, over a tree of prefixes kept in plain Maps, and checks each of its answers. For
// tests and simulations: it knows no tokens.

import type { EvictionPolicy } from '../../engine/eviction/policy.ts';
import { invariant } from '../../engine/invariant.ts';

export interface RigRequest {
  account: string;
  /** Its blocks, each named among those that continue the same prefix. */
  path: readonly number[];
  priority: number;
  endsPartial: boolean;
  /** It ends when that many later requests have been admitted. */
  staysFor: number;
}

interface Node {
  name: string;
  account: string;
  block: number;
  parent: Node | null;
  children: number;
  users: number;
}

export interface RigResult {
  /** Names of who left, in order. */
  victims: string[];
  hits: number;
}

/** Called before each eviction with those that may leave, and the policy's choice. */
export type OnVictim = (choice: Node, mayLeave: Node[], held: ReadonlyMap<string, number>) => void;

/** Digest of a name, 53 bits (cyrb53's mixing in short). */
function digestOf(name: string): number {
  let high = 0xdeadbeef;
  let low = 0x41c6ce57;
  for (let i = 0; i < name.length; i++) {
    high = Math.imul(high ^ name.charCodeAt(i), 2654435761);
    low = Math.imul(low ^ name.charCodeAt(i), 1597334677);
  }
  return ((high >>> 11) >>> 0) * 4294967296 + ((low ^ (high >>> 13)) >>> 0);
}

/** Requests that find no room, because those that still run hold it, are left out. */
export function replayPolicy(
  policy: EvictionPolicy,
  capacityBlocks: number,
  requests: readonly RigRequest[],
  onVictim?: OnVictim,
): RigResult {
  const nodes = new Map<string, Node>();
  const held = new Map<string, number>();
  const free = Array.from({ length: capacityBlocks }, (_, i) => capacityBlocks - 1 - i);
  const running: { ends: number; nodes: Node[] }[] = [];
  const result: RigResult = { victims: [], hits: 0 };
  const mayLeave = () => [...nodes.values()].filter(({ users, children }) => users === 0 && children === 0);

  const use = (node: Node): void => {
    if (node.users === 0 && node.children === 0) policy.delete(node.block);
    node.users += 1;
  };
  const end = (nodesOf: Node[]): void => {
    for (const node of nodesOf.toReversed()) {
      node.users -= 1;
      if (node.users > 0) continue;
      policy.touch(node.block);
      if (node.children === 0) policy.insert(node.block);
    }
  };
  const evict = (account: string): void => {
    const candidates = mayLeave();
    invariant(policy.size === candidates.length, 'the policy counts those that may leave', { size: policy.size });
    const block = policy.victim(account);
    const victim = candidates.find((node) => node.block === block);
    invariant(victim, 'the victim is one of those that may leave', { block });
    invariant(policy.victim(account) === block, 'the victim stays until it is deleted', { block });
    onVictim?.(victim, candidates, held);
    policy.delete(block);
    policy.remove(block);
    nodes.delete(victim.name);
    held.set(victim.account, held.get(victim.account)! - 1);
    free.push(block);
    result.victims.push(victim.name);
    const { parent } = victim;
    if (!parent) return;
    parent.children -= 1;
    if (parent.children === 0 && parent.users === 0) policy.insert(parent.block);
  };

  for (const [now, { account, path, priority, endsPartial, staysFor }] of requests.entries()) {
    for (const one of running.filter(({ ends }) => ends <= now)) {
      end(one.nodes);
      running.splice(running.indexOf(one), 1);
    }
    const names = path.map((_, i) => [account, ...path.slice(0, i + 1)].join('/'));
    const found: Node[] = [];
    for (const name of names) {
      const node = nodes.get(name);
      if (!node) break;
      found.push(node);
    }
    const fresh = names.length - found.length;
    const idle = [...nodes.values()].filter((node) => node.users === 0 && !found.includes(node)).length;
    if (free.length + idle < fresh) continue;
    for (const node of found) {
      use(node);
      policy.reuse(node.block, fresh);
    }
    result.hits += found.length;
    while (free.length < fresh) evict(account);
    for (const [i, name] of names.entries()) {
      if (i < found.length) continue;
      const parent = found[i - 1] ?? null;
      const node: Node = { name, account, block: free.pop()!, parent, children: 0, users: 1 };
      if (parent) parent.children += 1;
      nodes.set(name, node);
      found.push(node);
      held.set(account, (held.get(account) ?? 0) + 1);
      policy.admit(node.block, {
        account,
        digest: digestOf(name),
        depth: i,
        parent: parent?.block ?? -1,
        freshBlocks: fresh,
        partial: endsPartial && i === names.length - 1,
        priority,
      });
    }
    running.push({ ends: now + 1 + staysFor, nodes: found });
  }
  for (const { nodes: rest } of running) end(rest);
  while (nodes.size > 0) evict('');
  invariant(policy.victim('') === -1 && policy.size === 0, 'an empty policy offers nothing', { size: policy.size });
  return result;
}
