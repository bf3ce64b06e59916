// Malformed bodies, each made from a valid one by one mutation that is known to be wrong: so that what the answer names as wrong can be
// held against what was done. What a field may be is read from the OpenAPI document, not from the validator.
import fc from 'fast-check';
import type { SchemaNode } from '../../gateway/openapi/document.ts';

export interface Hostile {
  body: Uint8Array<ArrayBuffer>;
  /** The field that was made wrong, as the error names it; null: the body as a whole. */
  param: string | null;
  /** What was done, for who reads a failure. */
  how: string;
}

type Path = readonly (string | number)[];
type TypeName = 'string' | 'number' | 'boolean' | 'array' | 'object' | 'null';

interface Place {
  path: Path;
  value: unknown;
  /** Every schema that a value here may follow. */
  nodes: readonly SchemaNode[];
}

/** Stands for text that JSON.stringify would not write. */
const RAW = '\u2042raw\u2042';
/** Names that every JavaScript object answers to. */
const PROTOTYPE_KEYS = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'];
const TOO_DEEP = 65;

export function hostileBodies(sample: unknown, schema: SchemaNode): fc.Arbitrary<Hostile> {
  const places = placesOf(sample, alternatives(schema), []);
  const inner = places.filter(({ path }) => path.length > 0);
  const objects = places.filter(({ value, nodes }) => typeOf(value) === 'object' && nodes.some(isClosed));
  const required = objects.flatMap(({ path, nodes }) =>
    nodes.flatMap(({ required = [] }) => required.map((name) => [...path, name])),
  );
  const beyond = inner.flatMap((place) => beyondOf(place));
  const text = JSON.stringify(sample);
  const name = fc.string({ minLength: 1, maxLength: 12, unit: 'binary' }).map((random) => `z\u0000\ud800${random}`);

  const wrongType = fc
    .constantFrom(...inner)
    .chain(({ path, nodes }) =>
      fc
        .oneof(...TYPES.filter((type) => !nodes.some((node) => allows(node, type))).map((type) => VALUES[type]))
        .map((value) => placed(sample, path, value, `wrong type at ${path.join('.')}`)),
    );
  const unknown = fc
    .tuple(fc.constantFrom(...objects), fc.oneof(fc.constantFrom(...PROTOTYPE_KEYS), name), fc.jsonValue())
    .map(([{ path }, key, value]) => added(sample, path, key, value));
  const whole = fc
    .oneof(
      ...TYPES.filter((type) => !alternatives(schema).some((node) => allows(node, type))).map((type) => VALUES[type]),
    )
    .map((value) => hostile(JSON.stringify(value), null, 'another value than the body'));
  const deep = fc
    .tuple(fc.constantFrom(...places), fc.integer({ min: TOO_DEEP, max: 3000 }))
    .map(([{ path }, depth]) => {
      const nest = '['.repeat(depth) + ']'.repeat(depth);
      return hostile(stringify(sample, path, RAW).replace(JSON.stringify(RAW), nest), null, `${depth} deep`);
    });
  const cut = fc.nat(text.length - 1).map((at) => hostile(text.slice(0, at), null, `cut at ${at}`));
  const broken = fc
    .tuple(fc.nat(text.length), fc.constantFrom('\u0000', ',,', '{', ']', '\\', "'", '"\\ud8', 'NaN', '/*'))
    .map(([at, junk]) => hostile(junk + text.slice(0, at) + junk, null, `${JSON.stringify(junk)} around`));
  const notUtf8 = fc
    .tuple(
      fc.nat(text.length),
      fc.constantFrom([0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xe2, 0x82], [0xf5, 0x80, 0x80, 0x80]),
    )
    .map(([at, bytes]) => ({
      body: new Uint8Array([...encode(text.slice(0, at)), ...bytes, ...encode(text.slice(at))]),
      ...{ param: null, how: `bytes ${bytes} at ${at}` },
    }));
  return fc.oneof(
    { weight: 4, arbitrary: wrongType },
    { weight: 3, arbitrary: unknown },
    ...(beyond.length > 0 ? [{ weight: 3, arbitrary: fc.constantFrom(...beyond).map(beyondBody) }] : []),
    ...(required.length > 0
      ? [{ weight: 1, arbitrary: fc.constantFrom(...required).map((path) => removed(sample, path)) }]
      : []),
    ...[whole, deep, cut, broken, notUtf8].map((arbitrary) => ({ weight: 1, arbitrary })),
  );

  function beyondBody({ path, value, raw }: Beyond): Hostile {
    const json = stringify(sample, path, value);
    const how = `out of range at ${path.join('.')}`;
    return hostile(raw === undefined ? json : json.replace(JSON.stringify(RAW), raw), path.join('.'), how);
  }
}

const TYPES: readonly TypeName[] = ['string', 'number', 'boolean', 'array', 'object', 'null'];
const VALUES: Readonly<Record<TypeName, fc.Arbitrary<unknown>>> = {
  string: fc.string({ maxLength: 40, unit: 'binary' }),
  number: fc.oneof(fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true })),
  boolean: fc.boolean(),
  array: fc.array(fc.jsonValue({ maxDepth: 2 }), { maxLength: 5 }),
  object: fc.dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 5 }),
  null: fc.constant(null),
};

function typeOf(value: unknown): TypeName {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  const type = typeof value;
  return type === 'string' || type === 'number' || type === 'boolean' ? type : 'object';
}

function alternatives(node: SchemaNode): SchemaNode[] {
  return node.anyOf ? node.anyOf.flatMap(alternatives) : [node];
}

function allows({ type }: SchemaNode, wanted: TypeName): boolean {
  const types = [type ?? []].flat();
  return types.includes(wanted) || (wanted === 'number' && types.includes('integer'));
}

function isClosed({ additionalProperties }: SchemaNode): boolean {
  return additionalProperties === false;
}

function placesOf(value: unknown, nodes: readonly SchemaNode[], path: Path): Place[] {
  const inside = (key: string | number, child: unknown, of: (node: SchemaNode) => SchemaNode | undefined) =>
    placesOf(
      child,
      nodes.flatMap((node) => alternatives(of(node) ?? {})).filter(({ type }) => type !== undefined),
      [...path, key],
    );
  const below = Array.isArray(value)
    ? value.flatMap((child, i) => inside(i, child, ({ items }) => items))
    : typeof value === 'object' && value !== null
      ? Object.entries(value).flatMap(([key, child]) =>
          inside(
            key,
            child,
            ({ properties, additionalProperties }) =>
              properties?.[key] ?? (typeof additionalProperties === 'object' ? additionalProperties : undefined),
          ),
        )
      : [];
  return [{ path, value, nodes }, ...below];
}

interface Beyond {
  path: Path;
  value: unknown;
  raw?: string;
}

/** Values of the right type just past each bound of the schema that the sample's value follows. */
function beyondOf({ path, value, nodes }: Place): Beyond[] {
  const fitting = nodes.filter((node) => allows(node, typeOf(value)));
  const node = fitting[0];
  if (!node || fitting.length > 1) return [];
  const { minimum, exclusiveMinimum, maximum, minLength, maxLength, minItems, maxItems, maxProperties } = node;
  const found: unknown[] = [];
  if (minimum !== undefined) found.push(minimum - 1);
  if (exclusiveMinimum !== undefined) found.push(exclusiveMinimum);
  if (maximum !== undefined) found.push(maximum + 1);
  if (node.type === 'integer') found.push(0.5);
  if (minLength) found.push('');
  if (maxLength !== undefined) found.push('x'.repeat(maxLength + 1));
  if (node.enum || node.const !== undefined) found.push(typeOf(value) === 'string' ? 'none of these' : 12_345);
  if (minItems && Array.isArray(value)) found.push([]);
  if (maxItems !== undefined && Array.isArray(value)) found.push(Array.from({ length: maxItems + 1 }, () => value[0]));
  if (maxProperties !== undefined)
    found.push(Object.fromEntries(Array.from({ length: maxProperties + 1 }, (_, i) => [String(i), 'x'])));
  const past: Beyond[] = found.map((wrong) => ({ path, value: wrong }));
  return typeOf(value) === 'number' ? [...past, { path, value: RAW, raw: '1e999' }] : past;
}

function encode(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

function hostile(json: string, param: string | null, how: string): Hostile {
  return { body: encode(json), param, how };
}

/** The sample's JSON with another value at the path. */
function stringify(sample: unknown, path: Path, value: unknown): string {
  if (path.length === 0) return JSON.stringify(value);
  const copy = structuredClone(sample);
  const holder = holderOf(copy, path);
  holder[path.at(-1) ?? ''] = value;
  return JSON.stringify(copy);
}

function holderOf(root: unknown, path: Path): Record<string | number, unknown> {
  return path.slice(0, -1).reduce((at, key) => (at as Record<string | number, unknown>)[key], root) as Record<
    string | number,
    unknown
  >;
}

function placed(sample: unknown, path: Path, value: unknown, how: string): Hostile {
  return hostile(stringify(sample, path, value), path.join('.'), how);
}

function removed(sample: unknown, path: Path): Hostile {
  const copy = structuredClone(sample);
  delete holderOf(copy, path)[path.at(-1) ?? ''];
  return hostile(JSON.stringify(copy), path.join('.'), `without ${path.join('.')}`);
}

/** Written into the text: `__proto__` can't be set like another key. */
function added(sample: unknown, path: Path, key: string, value: unknown): Hostile {
  const copy = structuredClone(sample);
  const holder = holderOf(copy, [...path, '']);
  holder[RAW] = value;
  const json = JSON.stringify(copy).replace(JSON.stringify(RAW), JSON.stringify(key));
  return hostile(json, [...path, key].join('.').slice(0, 256), `unknown key ${JSON.stringify(key)}`);
}
