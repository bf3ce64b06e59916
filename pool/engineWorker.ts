// Entry of the engine thread: the real runner on the real GPU. The only file of the pool that touches a device.
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { openDevice } from '../engine/gpu/device.ts';
import { invariant } from '../engine/invariant.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import type { EngineModel, EngineSetup } from './engineMessages.ts';
import { describeFatal, EngineThread, type OpenRunner } from './engineThread.ts';

const openLlama: OpenRunner = async (model: EngineModel, setup, onProgress) => {
  const { file } = await openModelFile(model.path);
  try {
    const gpu = await openDevice({ dawnFlags: [...setup.dawnFlags] });
    const runner = await createLlamaRunner({
      gpu,
      file,
      activations: model.activations,
      kvBlocks: model.kvBlocks,
      maxStepTokens: setup.bounds.maxStepTokens,
      maxStepLogits: Math.max(16, setup.bounds.maxRunning),
      ...(model.contextLength !== undefined && { contextLength: model.contextLength }),
      onProgress,
    });
    return { runner, adapter: gpu.adapterName };
  } finally {
    await file.close();
  }
};

invariant(!isMainThread && parentPort, 'the engine worker runs in a thread of its own');
const port = parentPort;
const setup: EngineSetup = workerData;
new EngineThread(port).start(setup, openLlama).catch((error: unknown) => {
  port.postMessage({ type: 'fatal', ...describeFatal(error) });
});
