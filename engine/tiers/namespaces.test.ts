// Which namespaces are remembered: bounded for whoever leaves nothing, and cheap however many hold blocks.
import { expect, it } from 'vitest';
import { scopeOf } from '../../test/support/tierRig.ts';
import { Namespaces } from './namespaces.ts';
import { type Namespace, RecordNode } from './recordTree.ts';

/** As if a block of it were here. */
function hold(namespace: Namespace): void {
  namespace.nodes.add(new RecordNode(namespace, null, '', Buffer.alloc(0), () => {}));
}

const BOUND = 16_384;
const never = () => {
  throw new Error('no key has changed');
};

it('a flood of salts that leave nothing is forgotten, whoever holds blocks is not', () => {
  const known = new Namespaces('f');
  hold(known.of(scopeOf('alice'), 'alice', 0, never));
  for (let i = 0; i < BOUND + 1000; i++) known.of(scopeOf(`salt ${i}`), 'bob', 0, never);
  expect(known.size).toBeLessThanOrEqual(BOUND + 1);
  expect(known.get('alice')).toBeDefined();
});

it('each new one costs the same, however many hold blocks', () => {
  const known = new Namespaces('f');
  let looks = 0;
  const count = BOUND + 4000;
  for (let i = 0; i < count; i++) {
    const namespace = known.of(scopeOf(`tenant ${i}`), 'bob', 0, never);
    hold(namespace);
    const { nodes } = namespace;
    Object.defineProperty(namespace, 'nodes', {
      get: () => {
        looks += 1;
        return nodes;
      },
    });
  }
  expect(known.size).toBe(count);
  expect(looks / count).toBeLessThan(3);
});

it('an idle one is forgotten also where the clock was set back', () => {
  const known = new Namespaces('f');
  known.of(scopeOf('alice'), 'alice', 1e12, never);
  known.of(scopeOf('bob'), 'bob', 1e9, never);
  known.of(scopeOf('carol'), 'carol', 1e9 + 3_600_000, never);
  expect(known.get('alice')).toBeUndefined();
});
