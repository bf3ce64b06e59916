// Watches a multi-tenant policy at work in a block manager: no eviction takes from an account at or below its floor while another that is
// above its own has a leaf to give. It counts by itself what is held and who may leave; floors are the policy's, of whoever is active.
import type { MultiTenantEviction } from '../../engine/eviction/multiTenant.ts';
import type { BlockFacts } from '../../engine/eviction/policy.ts';
import { invariant } from '../../engine/invariant.ts';

export function watchFloors(policy: MultiTenantEviction, onDefended: () => void): void {
  const { admit, insert, delete: withdraw, remove, victim } = policy;
  const owner = new Map<number, string>();
  const mayLeave = new Set<number>();
  policy.admit = (block: number, facts: BlockFacts) => {
    owner.set(block, facts.account);
    admit.call(policy, block, facts);
  };
  policy.insert = (block: number) => {
    mayLeave.add(block);
    insert.call(policy, block);
  };
  policy.delete = (block: number) => {
    mayLeave.delete(block);
    withdraw.call(policy, block);
  };
  policy.remove = (block: number) => {
    invariant(!mayLeave.has(block), 'a block that leaves is out of the choice before');
    owner.delete(block);
    remove.call(policy, block);
  };
  policy.victim = (account: string) => {
    const block = victim.call(policy, account);
    invariant(mayLeave.size === policy.size, 'leaves that may go are counted', { size: policy.size });
    if (block < 0) return block;
    invariant(mayLeave.has(block), 'only a leaf that may leave is chosen', { block });
    const held = new Map<string, number>();
    for (const name of owner.values()) held.set(name, (held.get(name) ?? 0) + 1);
    const floors = new Map(
      [...policy.tenants].map(({ name, isActive, floorBlocks }) => [name, isActive ? floorBlocks : 0]),
    );
    const isAbove = (name: string): boolean => held.get(name)! > (floors.get(name) ?? 0);
    const givers = [...mayLeave].filter((leaf) => isAbove(owner.get(leaf)!));
    if (givers.length === 0) return block;
    invariant(isAbove(owner.get(block)!), 'a floor is kept while somebody above his has a leaf', { block });
    if (givers.length < mayLeave.size) onDefended();
    return block;
  };
}
