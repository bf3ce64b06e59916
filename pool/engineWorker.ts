// Entry of the engine thread: the real runner on the real GPU. The only file of the pool that touches a device.
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { openDevice } from '../engine/gpu/device.ts';
import { invariant } from '../engine/invariant.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import type { EngineModel, EngineSetup } from './engineMessages.ts';
import { EngineThread, type OpenRunner } from './engineThread.ts';

const openLlama: OpenRunner = async (model: EngineModel, setup, onProgress) => {
  const { file } = await openModelFile(model.path);
  const gpu = await openDevice({ dawnFlags: [...setup.dawnFlags] });
  try {
    const runner = await createLlamaRunner({
      gpu,
      file,
      activations: model.activations,
      kvFormat: model.kvFormat,
      kvBlocks: model.kvBlocks,
      maxStepTokens: setup.bounds.maxStepTokens,
      maxStepLogits: Math.max(16, setup.bounds.maxRunning),
      ...(model.contextLength !== undefined && { contextLength: model.contextLength }),
      onProgress,
    });
    return { runner, adapter: gpu.adapterName };
  } catch (error) {
    gpu.destroy();
    throw error;
  } finally {
    await file.close();
  }
};

invariant(!isMainThread && parentPort, 'the engine worker runs in a thread of its own');
const setup: EngineSetup = workerData;
await new EngineThread(parentPort).start(setup, openLlama);
