// A process under supervision that does what its section says, and little else: for the ways in which a process can go wrong.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { z } from 'zod';

const plan = z.object({
  port: z.number(),
  /** Dies this soon after it was ready. */
  dieAfterMs: z.number().optional(),
  /** Stops answering HTTP after this many answers, but lives. */
  answers: z.number().optional(),
  /** Never says that it is ready. */
  mute: z.boolean().optional(),
  ignoreTerm: z.boolean().optional(),
  status: z.number().default(200),
});

createInterface({ input: process.stdin }).once('line', (line) => {
  const {
    port,
    dieAfterMs,
    answers = Number.POSITIVE_INFINITY,
    mute,
    ignoreTerm,
    status,
  } = plan.parse(JSON.parse(line));
  if (ignoreTerm) process.on('SIGTERM', () => {});
  process.stderr.write('odd process begins\n');
  if (mute) return;
  let answered = 0;
  const server = createServer((_, response) => {
    if (answered++ < answers) response.writeHead(status).end();
  });
  server.listen(port, '127.0.0.1', () => {
    const address = server.address();
    process.stdout.write('not a message\n');
    process.stdout.write(`${JSON.stringify({ type: 'ready', port: typeof address === 'object' && address?.port })}\n`);
    if (dieAfterMs !== undefined)
      setTimeout(() => {
        process.stderr.write('odd process gives up\n');
        process.exit(3);
      }, dieAfterMs);
  });
});
