// GET /openapi.json and GET /docs: what the gateway offers, for programs and for people. No key: it tells nothing of this installation.
import { Hono } from 'hono';
import { openApiDocument } from '../openapi/document.ts';
import { type ReferencePage, referencePage } from '../openapi/referencePage.ts';
import type { AppEnv } from '../ports.ts';

/** It changes with the version of the gateway alone. */
const CACHE_CONTROL = 'public, max-age=300';

interface Made {
  json: string;
  page: ReferencePage;
}

export function referenceRoutes(): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  // At the first question: most gateways are never asked.
  let made: Made | undefined;
  const make = (): Made => {
    if (made) return made;
    const document = openApiDocument();
    made = { json: JSON.stringify(document), page: referencePage(document) };
    return made;
  };
  app.get('/openapi.json', (c) =>
    c.body(make().json, 200, { 'content-type': 'application/json', 'cache-control': CACHE_CONTROL }),
  );
  app.get('/docs', (c) => {
    const { html, policy } = make().page;
    return c.body(html, 200, {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': policy,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': CACHE_CONTROL,
    });
  });
  return app;
}
