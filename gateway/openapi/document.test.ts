// The document describes the app that stands beside it: its routes and none else, in valid OpenAPI 3.1; and the page shows all of it
// without a script.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GatewayRig } from '../../test/support/gatewayRig.ts';
import { createApp } from '../app.ts';
import { API_VERSION, openApiDocument } from './document.ts';
import { OPERATIONS } from './operations.ts';

let rig: GatewayRig;
beforeAll(async () => {
  rig = await GatewayRig.start();
});
afterAll(() => rig.stop());

const told = async (path: string) => {
  const response = await rig.request('GET', path);
  expect(response.status).toBe(200);
  return { headers: response.headers, text: await response.text() };
};

test('every route of the app is in the document, and none else', () => {
  const routes = createApp(rig.ports).routes.filter(({ method }) => method !== 'ALL');
  const served = routes.map(({ method, path }) => `${method} ${path}`);
  expect(OPERATIONS.map(({ method, path }) => `${method} ${path}`).sort()).toEqual([...new Set(served)].sort());
  expect(served.length).toBeGreaterThan(40);
});

test('the document is valid OpenAPI 3.1, and every pointer in it leads somewhere', async () => {
  const { text } = await told('/openapi.json');
  const validator = new Validator();
  expect(await validator.validate(JSON.parse(text))).toEqual({ valid: true });
  expect(validator.version).toBe('3.1');
  const document: { components: Record<string, Record<string, object>> } = JSON.parse(text);
  const pointers = [...text.matchAll(/"\$ref":"#\/components\/(\w+)\/([^"]+)"/g)];
  const lost = pointers.filter(([, kind = '', name = '']) => !document.components[kind]?.[name]);
  expect(lost.map(([pointer]) => pointer)).toEqual([]);
  expect(pointers.length).toBeGreaterThan(100);
});

test('a broken document is seen', async () => {
  const document = openApiDocument();
  const { paths, ...rest } = document;
  expect((await new Validator().validate({ ...rest, paths: { healthz: paths['/healthz'] } })).valid).toBe(false);
});

test('operation ids are distinct, and the version is the package’s', () => {
  const ids = OPERATIONS.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  const manifest: { version: string } = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  expect(API_VERSION).toBe(manifest.version);
});

test('no field of a request stands without a type', () => {
  const { schemas } = openApiDocument().components;
  const untyped: string[] = [];
  const walk = (node: object, path: string): void => {
    if (Object.keys(node).every((key) => key === 'description')) untyped.push(path);
    const { properties = {}, items, anyOf = [] }: { properties?: object; items?: object; anyOf?: object[] } = node;
    for (const [name, child] of Object.entries(properties)) walk(child, `${path}.${name}`);
    if (items) walk(items, `${path}[]`);
    for (const child of anyOf) walk(child, path);
  };
  for (const [name, schema] of Object.entries(schemas)) if (name.endsWith('Request')) walk(schema, name);
  expect(untyped).toEqual([]);
});

test('the page names every route and every field of a body, and its policy allows its style alone', async () => {
  const { headers, text } = await told('/docs');
  const document = openApiDocument();
  for (const path of Object.keys(document.paths)) expect(text).toContain(`<code>${path}</code>`);
  for (const field of ['messages[].role', 'logit_bias', 'limits[].time_zone', 'cached_input_nano_usd'])
    expect(text).toContain(`<code>${field}</code>`);
  expect(text).not.toMatch(/<script|<link|<img|\son\w+=|https?:/i);
  const style = /<style>([\s\S]*?)<\/style>/.exec(text)?.[1] ?? '';
  const digest = createHash('sha256').update(style).digest('base64');
  expect(headers.get('content-security-policy')).toBe(
    `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  );
  const targets = [...text.matchAll(/href="#([^"]+)"/g)].map(([, target]) => target);
  expect(targets.filter((target) => !text.includes(`id="${target}"`))).toEqual([]);
  const anchors = [...text.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  expect(new Set(anchors).size).toBe(anchors.length);
});
