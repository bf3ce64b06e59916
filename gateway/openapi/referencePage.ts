// The OpenAPI document as one page to read: routes by tag, each with its parameters, body, answers and errors; named shapes at the end.
// Links lead inside the folds, which browsers open for them. No script and nothing from elsewhere; the policy allows exactly the page's own
// style, by its digest.
import { createHash } from 'node:crypto';
import type { Content, OpenApiDocument, OperationNode, Parameter, ResponseNode, SchemaNode } from './document.ts';

const STYLE = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); --soft: color-mix(in srgb, currentColor 6%, transparent) }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
nav a { margin-right: 1rem }
code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0 }
summary { padding: .4rem .8rem; cursor: pointer }
details > div { padding: 0 .8rem .8rem }
summary b { display: inline-block; min-width: 4.5rem }
small { opacity: .75 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .5rem; border-top: 1px solid var(--line) }
th { font-weight: 600; background: var(--soft) }
h4 { margin: 1rem 0 .3rem }
`;

export interface ReferencePage {
  html: string;
  /** For the header content-security-policy. */
  policy: string;
}

export function referencePage(document: OpenApiDocument): ReferencePage {
  const { info, tags, paths, components } = document;
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, node]) => ({ path, method: method.toUpperCase(), node })),
  );
  const sections = tags.map(({ name }) => {
    const own = operations.filter(({ node }) => node.tags.includes(name));
    return `<h2 id="${anchor(name)}">${escaped(name)}</h2>${own.map((one) => operationOf(one)).join('')}`;
  });
  const shapes = Object.entries(components.schemas).map(
    ([name, schema]) =>
      `<details><summary><code>${escaped(name)}</code></summary><div id="${anchor(name)}">${fields(schema)}</div></details>`,
  );
  const links = [...tags.map(({ name }) => name), 'Errors', 'Shapes'].map(
    (name) => `<a href="#${anchor(name)}">${escaped(name)}</a>`,
  );
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(info.title)} API</title><style>${STYLE}</style></head><body>
<h1>${escaped(info.title)} API <small>${escaped(info.version)}</small></h1>
<p>${escaped(info.description)} For programs: <a href="/openapi.json">openapi.json</a>.</p>
<nav>${links.join('')}</nav>
${sections.join('\n')}
${errorTable(operations.map(({ node }) => node))}
<h2 id="shapes">Shapes</h2>
${shapes.join('\n')}
</body></html>
`;
  return {
    html,
    policy: `default-src 'none'; style-src '${digestOf(STYLE)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  };
}

function digestOf(style: string): string {
  return `sha256-${createHash('sha256').update(style).digest('base64')}`;
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function anchor(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
}

const CALLERS: Readonly<Record<string, string>> = { projectKey: "a project's key", adminKey: 'an admin key' };

function operationOf({ path, method, node }: { path: string; method: string; node: OperationNode }): string {
  const caller = CALLERS[Object.keys(node.security[0] ?? {})[0] ?? ''] ?? 'anyone';
  return `<details><summary><b>${method}</b><code>${escaped(path)}</code><br><small>${escaped(node.summary)}</small></summary><div id="${anchor(node.operationId)}">
<p>For ${escaped(caller)}.</p>${parametersOf(node.parameters ?? [])}${bodyOf(node.requestBody)}${answersOf(node.responses)}</div></details>`;
}

function parametersOf(parameters: readonly Parameter[]): string {
  if (parameters.length === 0) return '';
  const rows = parameters.map(({ name, in: place, required, schema }) =>
    row([code(name), `${typeOf(schema)}${required ? ', required' : ''}`, `${place}${noteOf(schema, '. ')}`]),
  );
  return `<h4>Parameters</h4>${table(rows)}`;
}

function bodyOf(body: Content | undefined): string {
  return body ? `<h4>Body</h4><p>${contentOf(body.content)}</p>` : '';
}

function contentOf(content: Content['content']): string {
  return Object.entries(content)
    .map(([type, { schema }]) => `${code(type)} ${typeOf(schema)}`)
    .join('; ');
}

/** Errors by status alone: what they mean and carry stands once, at the end. */
function answersOf(responses: Record<string, ResponseNode>): string {
  const answer = responses['200']?.content ?? {};
  const errors = Object.keys(responses).filter((status) => status !== '200' && status !== 'default');
  const links = errors.map((status) => `<a href="#error-${status}">${status}</a>`).join(', ');
  return `<h4>Answer</h4><p>${contentOf(answer)}</p>${links && `<h4>Errors</h4><p>${links}</p>`}`;
}

function errorTable(nodes: readonly OperationNode[]): string {
  const byStatus = new Map(nodes.flatMap(({ responses }) => Object.entries(responses)));
  byStatus.delete('200');
  const rows = [...byStatus]
    .sort()
    .map(([status, { description, headers = {}, content = {} }]) =>
      row([
        `<code id="error-${status}">${status}</code>`,
        contentOf(content),
        `${escaped(description)} <small>${Object.keys(headers).map(code).join(' ')}</small>`,
      ]),
    );
  return `<h2 id="errors">Errors</h2>${table(rows)}`;
}

/** Fields of a schema and of what stands inside it, as dotted paths; what is no object as one line. */
function fields(schema: SchemaNode): string {
  const rows = rowsOf(schema, '');
  return rows.length > 0 ? table(rows) : `<p>${typeOf(schema)}${noteOf(schema, '. ')}</p>`;
}

function rowsOf(schema: SchemaNode, path: string): string[] {
  const inner = [schema, ...(schema.anyOf ?? [])].flatMap((node) => [
    ...(node.items ? rowsOf(node.items, `${path}[]`) : []),
    ...Object.entries(node.properties ?? {}).flatMap(([name, child]) => {
      const at = path ? `${path}.${name}` : name;
      const required = node.required?.includes(name) ? ', required' : '';
      return [row([code(at), `${typeOf(child)}${required}`, noteOf(child, '')]), ...rowsOf(child, at)];
    }),
  ]);
  return inner;
}

function typeOf(schema: SchemaNode): string {
  const { $ref, type, anyOf, items, additionalProperties } = schema;
  if ($ref) {
    const name = $ref.slice($ref.lastIndexOf('/') + 1);
    return `<a href="#${anchor(name)}">${escaped(name)}</a>`;
  }
  if (anyOf) return [...new Set(anyOf.map(typeOf))].join(' or ');
  if ('const' in schema) return code(JSON.stringify(schema.const));
  if (schema.enum) return schema.enum.map((value) => code(JSON.stringify(value))).join(' or ');
  if (type === 'array') return items ? `list of ${typeOf(items)}` : 'list';
  if (type === 'object' && typeof additionalProperties === 'object' && !schema.properties)
    return `map to ${typeOf(additionalProperties)}`;
  return escaped([type ?? 'any value'].flat().join(' or '));
}

/** Bounds, default and meaning. */
function noteOf(schema: SchemaNode, before: string): string {
  const shown = [schema, ...(schema.anyOf ?? [])].flatMap((node) => [boundsOf(node), node.description ?? '']);
  const given = schema.default === undefined ? '' : `default ${JSON.stringify(schema.default)}`;
  const parts = [...shown, given].filter((part) => part !== '');
  return parts.length > 0 ? `${before}${escaped([...new Set(parts)].join('; '))}` : '';
}

function boundsOf(node: SchemaNode): string {
  const { minimum, exclusiveMinimum, maximum, pattern, multipleOf } = node;
  const most = maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum;
  const least = minimum === -Number.MAX_SAFE_INTEGER ? undefined : minimum;
  return [
    exclusiveMinimum === undefined ? '' : `> ${exclusiveMinimum}`,
    span(least, most, ''),
    span(node.minLength, node.maxLength, ' characters'),
    span(node.minItems, node.maxItems, ' entries'),
    span(undefined, node.maxProperties, ' entries'),
    pattern === undefined ? '' : `matches ${pattern}`,
    multipleOf === undefined ? '' : `a multiple of ${multipleOf}`,
  ]
    .filter((part) => part !== '')
    .join(', ');
}

function span(least: number | undefined, most: number | undefined, unit: string): string {
  if (least === undefined && most === undefined) return '';
  if (most === undefined) return `≥ ${least}${unit}`;
  return least === undefined ? `≤ ${most}${unit}` : `${least} to ${most}${unit}`;
}

function code(text: string): string {
  return `<code>${escaped(text)}</code>`;
}

function row(cells: readonly string[]): string {
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
}

function table(rows: readonly string[]): string {
  return `<table>${rows.join('')}</table>`;
}
