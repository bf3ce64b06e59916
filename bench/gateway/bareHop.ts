// What any gateway of this make takes that does nothing: the same server and the same client of HTTP as Hearth's, and between them no key,
// no ledger, no signature. Reads its task from argv: `node bareHop.ts '{"openaiPort"}'`; prints one line of JSON: {"port"}.
import { createServer } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import { z } from 'zod';
import { invariant } from '../../engine/invariant.ts';
import { PoolConnections } from '../../gateway/poolConnections.ts';

const { openaiPort } = z.object({ openaiPort: z.int() }).parse(JSON.parse(process.argv[2] ?? '{}'));
const connections = new PoolConnections();
const app = new Hono();

app.post('/v1/chat/completions', async (c) => {
  const answer = await connections.fetch(`http://127.0.0.1:${openaiPort}/v1/chat/completions`, {
    ...{ method: 'POST', redirect: 'manual', headers: { 'content-type': 'application/json' } },
    body: new Uint8Array(await c.req.raw.arrayBuffer()),
  });
  const pieces = answer.body?.[Symbol.asyncIterator]();
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const piece = await pieces?.next();
        if (!piece || piece.done) controller.close();
        else controller.enqueue(piece.value);
      },
      cancel: async () => void (await pieces?.return?.()),
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { headers: { 'content-type': answer.headers.get('content-type') ?? '' } });
});

process.on('disconnect', () => process.exit(0));
const server = createAdaptorServer({ fetch: app.fetch, createServer });
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  invariant(typeof address === 'object' && address !== null, 'listening');
  process.stdout.write(`${JSON.stringify({ port: address.port })}\n`);
});
