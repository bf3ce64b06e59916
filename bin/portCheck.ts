// Whether a port can be listened on, asked before anything is downloaded or loaded.
import { createServer } from 'node:net';
import { errorCode } from '../engine/model/sourceErrors.ts';

/** Null when it is free; otherwise what is wrong and what to do. */
export function portProblem(host: string, port: number): Promise<string | null> {
  if (port === 0) return Promise.resolve(null);
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error) => resolve(explain(errorCode(error), host, port)));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(null)));
  });
}

function explain(code: string, host: string, port: number): string {
  const another = 'PORT=<number> npm start';
  if (code === 'EADDRINUSE')
    return `port ${port} on ${host} is in use, perhaps by a Hearth that runs already. Stop that, or take another port: ${another}`;
  if (code === 'EACCES')
    return `port ${port} may not be taken by this user (below 1024?). Take another port: ${another}`;
  if (code === 'EADDRNOTAVAIL')
    return `${host} is not an address of this machine; correct server.host in hearth.config.json`;
  return `port ${port} on ${host} can't be listened on (${code}). Take another: ${another}`;
}
