// Entry of the pool process: `node pool/main.ts`, section on stdin. See process.ts for its life.
import { openModelText } from '../engine/model/modelText.ts';
import { runPoolProcess } from './process.ts';
import { processIo } from './processIo.ts';

const code = await runPoolProcess({
  ...processIo(),
  engineWorker: new URL('./engineWorker.ts', import.meta.url),
  openText: openModelText,
});
process.exit(code);
