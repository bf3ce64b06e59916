// Entry of the process of a pool whose engine is a foreign server: `node pool/upstream/main.ts`, section on stdin. See process.ts for its life.
import { processIo } from '../processIo.ts';
import { runUpstreamProcess } from './process.ts';

process.exit(await runUpstreamProcess(processIo(), process.env));
