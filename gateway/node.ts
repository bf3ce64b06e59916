// The gateway's process on Node.
import { startGateway } from './nodeHost.ts';
import { runGatewayProcess } from './processProtocol.ts';

await runGatewayProcess(startGateway);
