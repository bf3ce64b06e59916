// The table of operations as an OpenAPI 3.1 document. Pure: schemas become JSON Schema as their input has it, since that is what goes over
// the wire; a named one stands once, in the components, and is pointed at.
import { z } from 'zod';
import { TIMEOUT_HEADER } from '../relay/requestTimeout.ts';
import { NAMED } from './namedShapes.ts';
import { OPERATIONS, type Operation } from './operations.ts';

/** Of the API that the document describes: the package's own. */
export const API_VERSION = '0.1.0';

export interface SchemaNode {
  $ref?: string;
  type?: string | string[];
  description?: string;
  default?: unknown;
  const?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  multipleOf?: number;
  pattern?: string;
  anyOf?: SchemaNode[];
  properties?: Record<string, SchemaNode>;
  required?: string[];
  additionalProperties?: boolean | SchemaNode;
  items?: SchemaNode;
}

export interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header';
  required: boolean;
  schema: SchemaNode;
  style?: 'form';
  explode?: false;
}

export interface Content {
  content: Record<string, { schema: SchemaNode }>;
}

export interface ResponseNode extends Partial<Content> {
  description: string;
  headers?: Record<string, { $ref: string }>;
}

export interface OperationNode {
  operationId: string;
  tags: string[];
  summary: string;
  security: Record<string, string[]>[];
  parameters?: Parameter[];
  requestBody?: Content & { required: true };
  responses: Record<string, ResponseNode>;
}

export interface OpenApiDocument {
  openapi: '3.1.0';
  info: { title: string; version: string; description: string; license: { name: string; identifier: string } };
  servers: { url: string }[];
  tags: { name: string }[];
  paths: Record<string, Record<string, OperationNode>>;
  components: {
    schemas: Record<string, SchemaNode>;
    headers: Record<string, { description: string; schema: SchemaNode }>;
    securitySchemes: Record<string, { type: 'http'; scheme: 'bearer'; description: string }>;
  };
}

const ERRORS: Readonly<Record<number, string>> = {
  400: 'The body, a parameter or what they ask for is not valid; `param` names the field.',
  401: 'No valid key was sent.',
  403: 'The key may not do this.',
  404: 'It does not exist.',
  409: 'A request with this Idempotency-Key is in progress: retry. Or its attempts are used up.',
  413: 'The body is larger than the gateway takes.',
  422: 'This Idempotency-Key was sent with another request before.',
  429: 'A limit is reached. Where it frees itself, retry-after says when.',
  503: 'No pool, or too much at once. Retry after the time told.',
};
const ANY_ERROR = 'Any other error, in the same envelope.';

const HEADERS: Readonly<Record<string, string>> = {
  'x-request-id': "The request's id: name it where something went wrong.",
  'openai-processing-ms': 'Milliseconds until the answer began.',
  'retry-after': 'Whole seconds.',
  'retry-after-ms': 'Milliseconds.',
  'x-should-retry': 'false: trying again can not help.',
  'x-ratelimit-limit-requests': 'Of the limit on requests with the least room.',
  'x-ratelimit-remaining-requests': 'Its room.',
  'x-ratelimit-reset-requests': 'When it is whole again, as 6m0s.',
  'x-ratelimit-limit-tokens': 'Of the limit on tokens with the least room.',
  'x-ratelimit-remaining-tokens': 'Its room.',
  'x-ratelimit-reset-tokens': 'When it is whole again, as 6m0s.',
  'idempotent-replayed':
    'true: this is the answer that the key was given before. It costs nothing and counts in no limit.',
  'x-next-cursor': 'The `cursor` of the next export.',
};
const ALWAYS = ['x-request-id', 'openai-processing-ms'];
const RETRY = ['retry-after', 'retry-after-ms', 'x-should-retry'];
const RATE = Object.keys(HEADERS).filter((name) => name.startsWith('x-ratelimit-'));

const KEY_HEADER: Parameter = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  schema: {
    type: 'string',
    minLength: 1,
    maxLength: 255,
    pattern: '^[!-~]+$',
    description:
      'Makes retries safe. The first request under it runs; the same request under it later gets the same answer, free, for a day. One that was lost runs again from its seed, and only what was not billed yet is billed.',
  },
};

const TIMEOUT: Parameter = {
  name: TIMEOUT_HEADER,
  in: 'header',
  required: false,
  schema: {
    type: 'integer',
    minimum: 1,
    maximum: 999_999_999,
    description:
      'The client waits so long at most. Then the request ends with what it has (504, or an error event), and what was released is billed. The nearest deadline goes first among waiting requests of equal priority.',
  },
};

const DESCRIPTION =
  `OpenAI's API where it has the route, and its shapes where it has not. A tenant is a project: keys of projects (sk-…) call the
inference routes, admin keys (sk-admin-…) the others. A field that nobody knows is refused by name, because a parameter that is silently
ignored is a wrong answer.`.replaceAll('\n', ' ');

export function openApiDocument(operations: readonly Operation[] = OPERATIONS): OpenApiDocument {
  const names = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(NAMED)) names.add(schema, { id });
  for (const { id, body, query, answer } of operations) {
    if (body && !names.has(body)) names.add(body, { id: nameOf(id, 'Request') });
    if (query && !names.has(query)) names.add(query, { id: nameOf(id, 'Query') });
    if (answer && !names.has(answer)) names.add(answer, { id: nameOf(id, 'Answer') });
  }
  const made = z.toJSONSchema(names, { io: 'input', unrepresentable: 'any', uri: refTo }).schemas;
  const schemas = new Map(Object.entries(made).map(([name, node]) => [name, bare(node)]));
  const schemaOf = (schema: z.ZodType): SchemaNode => ({ $ref: refTo(names.get(schema)?.id ?? '') });

  const queries = new Set<string>();
  const parametersOf = ({ path, query, keyed }: Operation): Parameter[] => {
    const name = query && names.get(query)?.id;
    if (name) queries.add(name);
    return [
      ...pathParameters(path),
      ...queryParameters(schemas.get(name ?? '') ?? {}),
      ...(keyed ? [KEY_HEADER, TIMEOUT] : []),
    ];
  };
  const paths: OpenApiDocument['paths'] = {};
  for (const operation of operations) {
    const parameters = parametersOf(operation);
    const { method, id, tag, summary, caller, body } = operation;
    const at = operation.path.replaceAll(/:(\w+)(\{[^}]*\})?/g, '{$1}');
    paths[at] = {
      ...paths[at],
      [method.toLowerCase()]: {
        operationId: id,
        tags: [tag],
        summary,
        security: caller === 'anyone' ? [] : [{ [`${caller}Key`]: [] }],
        ...(parameters.length > 0 && { parameters }),
        ...(body && { requestBody: { required: true, ...json(schemaOf(body)) } }),
        responses: responsesOf(operation, schemaOf),
      },
    };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Hearth',
      version: API_VERSION,
      description: DESCRIPTION,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: [...new Set(operations.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      // A query's fields stand as parameters.
      schemas: Object.fromEntries([...schemas].filter(([name]) => !queries.has(name))),
      headers: Object.fromEntries(
        Object.entries(HEADERS).map(([name, description]) => [name, { description, schema: { type: 'string' } }]),
      ),
      securitySchemes: {
        projectKey: { type: 'http', scheme: 'bearer', description: 'A key of a project: sk-…' },
        adminKey: { type: 'http', scheme: 'bearer', description: 'An admin key: sk-admin-…' },
      },
    },
  };
}

function refTo(name: string): string {
  return `#/components/schemas/${name}`;
}

function nameOf(operationId: string, kind: string): string {
  return `${operationId.charAt(0).toUpperCase()}${operationId.slice(1)}${kind}`;
}

/** Inside the document a schema has no identity of its own. */
function bare({ $schema: _, $id: __, ...node }: Record<string, unknown>): SchemaNode {
  return node;
}

function json(schema: SchemaNode): Content {
  return { content: { 'application/json': { schema } } };
}

function pathParameters(path: string): Parameter[] {
  return [...path.matchAll(/:(\w+)/g)].map(([, name = '']) => ({
    ...{ name, in: 'path', required: true, schema: { type: 'string' } },
  }));
}

function queryParameters({ properties = {}, required = [] }: SchemaNode): Parameter[] {
  return Object.entries(properties).map(([name, schema]) => ({
    ...{ name, in: 'query', required: required.includes(name), schema },
    // Lists as a,b; they may also come as name[]=a&name[]=b.
    ...(schema.type === 'array' && { style: 'form', explode: false }),
  }));
}

/** What follows from who may call and what is sent, and what the row adds. */
export function errorsOf({ caller, body, query, path, keyed, errors = [] }: Operation): number[] {
  const follow = [
    ...(body || query ? [400] : []),
    ...(caller === 'anyone' ? [] : [401]),
    ...(caller === 'admin' ? [403] : []),
    ...(path.includes(':') ? [404] : []),
    ...(body ? [413] : []),
    ...(keyed ? [409, 422] : []),
  ];
  return [...new Set([...follow, ...errors])].sort((a, b) => a - b);
}

function responsesOf(operation: Operation, schemaOf: (schema: z.ZodType) => SchemaNode): Record<string, ResponseNode> {
  const { answer, event, keyed, texts = [], id } = operation;
  const text: SchemaNode = { type: 'string' };
  const content = {
    ...(answer && { 'application/json': { schema: schemaOf(answer) } }),
    ...(event && { 'text/event-stream': { schema: schemaOf(event) } }),
    ...Object.fromEntries(
      texts.map((type) => [type, { schema: type === 'application/json' ? { type: 'object' } : text }]),
    ),
  };
  const extra = keyed ? [...RATE, 'idempotent-replayed'] : id === 'exportUsage' ? ['x-next-cursor'] : [];
  const error = json({ $ref: refTo('Error') });
  const failures = errorsOf(operation).map((status) => {
    const more = status === 429 ? [...RETRY, ...RATE] : [409, 422, 503].includes(status) ? RETRY : [];
    return [status, { description: ERRORS[status] ?? ANY_ERROR, headers: headerRefs([...ALWAYS, ...more]), ...error }];
  });
  return {
    200: { description: 'The answer.', headers: headerRefs([...ALWAYS, ...extra]), content },
    ...Object.fromEntries(failures),
    default: { description: ANY_ERROR, headers: headerRefs(ALWAYS), ...error },
  };
}

function headerRefs(names: readonly string[]): Record<string, { $ref: string }> {
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}
