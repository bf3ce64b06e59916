// Entry of the engine thread: the real runner on the real GPU. The only file of the pool that touches a device.
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { openDevice } from '../engine/gpu/device.ts';
import { invariant } from '../engine/invariant.ts';
import { KvBudgetError } from '../engine/kvBudget.ts';
import { SleepingLlama } from '../engine/llama/sleepingModel.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import { kvBlockBytes } from '../wgsl/kv/format.ts';
import { contextLengthOf } from './engineGroups.ts';
import type { EngineSetup } from './engineMessages.ts';
import { EngineThread, type PrepareModel } from './engineThread.ts';

const prepareLlama: PrepareModel = async (model, setup) => {
  const { file } = await openModelFile(model.path);
  const { kvHeads, headDim, layers } = file.config;
  const layerBytes = kvBlockBytes(model.kvFormat, kvHeads, headDim);
  const contextLength = contextLengthOf(model);
  const openFor = async (kvBlocks: number) => {
    const gpu = await openDevice({ dawnFlags: [...setup.dawnFlags] });
    try {
      refuseOverBinding(model.id, kvBlocks, layerBytes, gpu.device.limits.maxStorageBufferBindingSize);
      return gpu;
    } catch (error) {
      gpu.destroy();
      throw error;
    }
  };
  return {
    blockBytes: layerBytes * layers,
    weightBytes: [...file.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    model: (kvBlocks, onProgress, onNotice) =>
      new SleepingLlama(
        {
          file,
          activations: model.activations,
          kvFormat: model.kvFormat,
          kvBlocks,
          ...(setup.bounds.maxStepTokens !== undefined && { maxStepTokens: setup.bounds.maxStepTokens }),
          maxStepLogits: Math.max(16, setup.bounds.maxRunning),
          ...(contextLength !== undefined && { contextLength }),
          ...(setup.tuning && { tuning: setup.tuning }),
          ...{ onProgress, onNotice },
        },
        () => openFor(kvBlocks),
      ),
    close: () => file.close(),
  };
};

/** A layer's arena is one binding, and adapters bound those. Throws KvBudgetError. */
function refuseOverBinding(model: string, kvBlocks: number, layerBytes: number, mostBytes: number): void {
  const most = Math.floor(mostBytes / layerBytes);
  if (kvBlocks > most)
    throw new KvBudgetError(
      `${model} would have ${kvBlocks} KV blocks, and this adapter binds at most ${most}. Set its models[].kvBlocks to at most that, or lower pool.kvBytes.`,
    );
}

invariant(!isMainThread && parentPort, 'the engine worker runs in a thread of its own');
const setup: EngineSetup = workerData;
await new EngineThread(parentPort, setup).start(prepareLlama);
