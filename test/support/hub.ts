// A model hub on loopback for the tests of downloads: serves one file with ranges and entity tags, and misbehaves as told.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

export interface HubRequest {
  url: string;
  range: string | undefined;
  authorization: string | undefined;
}

export interface Hub {
  endpoint: string;
  requests: HubRequest[];
  close(): Promise<void>;
}

/** What the next answer does otherwise: breaks after so many bytes, answers with a status, or sends the client elsewhere. */
export type Misbehaviour = { breakAfter: number } | { status: number } | { redirectTo: string } | { ignoreRange: true };

export async function startHub(
  content: () => { bytes: Uint8Array; etag: string },
  misbehave: () => Misbehaviour | undefined,
): Promise<Hub> {
  const requests: HubRequest[] = [];
  const server = createServer((request, response) => {
    requests.push({
      url: request.url ?? '',
      range: request.headers.range,
      authorization: request.headers.authorization,
    });
    answer(request, response, content(), misbehave());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the hub has no port');
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { bytes, etag }: { bytes: Uint8Array; etag: string },
  wrong: Misbehaviour | undefined,
): void {
  if (wrong && 'status' in wrong) return void response.writeHead(wrong.status).end('no');
  if (wrong && 'redirectTo' in wrong)
    return void response.writeHead(302, { location: wrong.redirectTo + request.url }).end();
  const asked = wrong && 'ignoreRange' in wrong ? null : /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
  const from = asked && request.headers['if-range'] === etag ? Number(asked[1]) : 0;
  if (from > 0 && from >= bytes.length)
    return void response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
  const rest = bytes.subarray(from);
  response.writeHead(from > 0 ? 206 : 200, {
    etag,
    'content-length': rest.length,
    ...(from > 0 && { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
  });
  if (!wrong || !('breakAfter' in wrong)) return void response.end(rest);
  response.write(rest.subarray(0, wrong.breakAfter), () => setTimeout(() => response.destroy(), 20));
}
