// Makes from the schema what people and editors read: hearth.schema.json and the tables of docs/configuration.md. Pure; writeSchema.ts
// writes the files, and a test compares them with what is committed.
import { z } from 'zod';
import { ENV_ONLY, ENV_OVERRIDES, hearthConfig } from './configSchema.ts';

const BEGIN = '<!-- begin: made by npm run config:schema -->';
const END = '<!-- end -->';

export function schemaText(): string {
  const schema = z.toJSONSchema(hearthConfig, { io: 'input', reused: 'inline' });
  return `${JSON.stringify({ ...schema, title: 'hearth.config.json' }, null, 2)}\n`;
}

/** The document with its tables renewed. */
export function withTables(document: string): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`docs/configuration.md has lost its marks: ${BEGIN} … ${END}`);
  return `${document.slice(0, begin)}${BEGIN}\n\n${tables()}\n${document.slice(end)}`;
}

interface SchemaNode {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  properties?: Record<string, SchemaNode>;
  items?: SchemaNode;
  /** One of several kinds, told apart by `kind`. */
  oneOf?: SchemaNode[];
  const?: unknown;
}

function tables(): string {
  const root: SchemaNode = JSON.parse(schemaText());
  const envOf = new Map<string, string>(ENV_OVERRIDES.map(({ name, path }) => [path.join('.'), name]));
  const rows = leaves(root, '').map(([path, node]) =>
    row([
      `\`${path}\``,
      kindOf(node),
      defaultOf(node),
      envOf.has(path) ? `\`${envOf.get(path)}\`` : '',
      node.description ?? '',
    ]),
  );
  const variables = ENV_ONLY.map(({ name, meaning }) => row([`\`${name.replaceAll(', ', '`, `')}\``, meaning]));
  return [
    ...table(['Key', 'Values', 'Default', 'Variable', 'Meaning'], rows),
    '',
    'Only in the environment:',
    '',
    ...table(['Variable', 'Meaning'], variables),
    '',
  ].join('\n');
}

/** Keys with a value of their own; those of a model as `models[].id`, those of a kind of pool as `pools[openai].url`. */
function leaves(node: SchemaNode, path: string): [string, SchemaNode][] {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const at = path ? `${path}.${key}` : key;
    if (child.properties) return leaves(child, at);
    if (child.items?.oneOf)
      return [
        [at, child] as [string, SchemaNode],
        ...child.items.oneOf.flatMap((kind) => leaves(kind, `${at}[${kind.properties?.kind?.const}]`)),
      ];
    if (child.items?.properties) return [[at, child] as [string, SchemaNode], ...leaves(child.items, `${at}[]`)];
    return [[at, child] as [string, SchemaNode]];
  });
}

function kindOf({ type, enum: values, const: only, minimum, maximum }: SchemaNode): string {
  if (only !== undefined) return `\`${only}\``;
  if (values) return values.map((value) => `\`${value}\``).join(', ');
  if (type !== 'integer') return type === 'array' ? 'list' : (type ?? '');
  const unbounded = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER;
  return unbounded ? `integer ≥ ${minimum}` : `${minimum} to ${maximum}`;
}

function defaultOf(node: SchemaNode): string {
  if (node.default === undefined) return '';
  return node.type === 'array' ? 'see below' : `\`${JSON.stringify(node.default)}\``;
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

function table(head: readonly string[], rows: readonly string[]): string[] {
  return [row(head), row(head.map(() => '---')), ...rows];
}
