// A server that keeps, of each request, as many bytes as it is told: what a soak has to find.
import { createServer } from 'node:http';

const kept: unknown[] = [];
const bytes = Number(process.argv[2]);
const server = createServer((_, response) => {
  if (bytes > 0) kept.push(Array.from({ length: bytes / 8 }, Math.random));
  response.end();
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' && address ? address.port : 0}\n`);
});
