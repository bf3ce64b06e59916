// What the HTTP thread and the engine thread say to each other: plain data only, token arrays transferred, never shared.
import type { DeviceShare, SequenceUse } from '../engine/deviceShare.ts';
import type { EngineStatus, Refusal, SequenceOutput, SequenceRequest } from '../engine/request.ts';
import type { BlockChanges } from './blockFeed.ts';
import type { EngineBounds, SpeculationSection, TiersSection, TuningSection } from './config.ts';
import type { EngineFigures } from './engineDetail.ts';
import type { EnginePrefixes } from './publicPrefixes.ts';

/** One engine: a model file with its settings, under as many names as it is configured. */
export interface EngineModel {
  /** The first of its names. */
  id: string;
  path: string;
  activations: 'int8' | 'f32';
  kvFormat: 'f16' | 'f32' | 'int8' | 'int4';
  /** null: a share of the KV budget. */
  kvBlocks: number | null;
  kvWeight: number;
  speculation: SpeculationSection;
  /** Most positions of a sequence under each name; null: the model's own bound. */
  served: { id: string; contextLength: number | null }[];
}

/** The device's time in a step, and whose sequences have ended with it. */
export interface DeviceWork extends DeviceShare {
  ended: SequenceUse[];
}

/** The worker's start data. */
export interface EngineSetup {
  models: readonly EngineModel[];
  /** Device memory for the KV of all engines; null: as much as each names. */
  kvBytes: number | null;
  bounds: EngineBounds;
  tiers: TiersSection;
  evictionPolicy: string;
  /** null: kernels are chosen by rule. */
  tuning: TuningSection | null;
  dawnFlags: readonly string[];
}

/** What the HTTP thread must know of a model once it is warm. */
export interface WarmModel {
  id: string;
  /** Models of one engine share it: its runner, arena, index and queue. */
  engine: string;
  vocabSize: number;
  contextLength: number;
  capacityBlocks: number;
  fingerprint: string;
  adapter: string;
}

/** A model file that was checked, before anything of it is on the device. */
export interface PreparedEngine {
  engine: string;
  /** Of weights and KV. */
  deviceBytes: number;
}

/** load: for the first time. sleep: gives its memory back. wake: takes it again, also after its device was lost. probe: one real token. */
export type EngineOrder = 'load' | 'sleep' | 'wake' | 'probe';

/** What an engine takes when an order is carried out; after `load` also what it serves. */
export interface OrderDone {
  deviceBytes: number;
  models: WarmModel[];
}

export type ToEngine =
  /** All sequences of one request, taken together or not at all. Answered by `taken` with the same ticket. */
  | { type: 'submit'; ticket: number; model: string; sequences: SequenceRequest[] }
  | { type: 'cancel'; model: string; ids: string[] }
  | ({ type: 'publicPrefixes'; model: string } & EnginePrefixes)
  /** Answered by `figures` with the same ticket, between two steps; `most` tenants by name. */
  | { type: 'figures'; ticket: number; most: number }
  /** Answered by `done` or `undone` with the same ticket; one after another. */
  | { type: 'order'; ticket: number; engine: string; order: EngineOrder }
  | { type: 'stop' };

/** `bug`: the engine found the request inconsistent, which the pool should have seen; it took nothing. */
export type TakeAnswer = { kind: 'taken' } | { kind: 'refused'; refusal: Refusal } | { kind: 'bug'; message: string };

export type FromEngine =
  | { type: 'progress'; stage: string; done: number; total: number }
  /** Orders may follow. */
  | { type: 'prepared'; engines: PreparedEngine[] }
  | ({ type: 'done'; ticket: number } & OrderDone)
  | { type: 'undone'; ticket: number; code: string; message: string }
  /** The engine's device is gone, and all its sequences have ended; `wake` brings it back. */
  | { type: 'lost'; engine: string; message: string }
  | { type: 'taken'; ticket: number; answer: TakeAnswer }
  /** One engine step. `elapsedMs` is 0 when it only ended sequences. */
  | ({ type: 'step'; engine: string; outputs: SequenceOutput[]; elapsedMs: number; tokens: number } & {
      work: DeviceWork;
      status: EngineStatus;
    })
  | { type: 'status'; engine: string; status: EngineStatus }
  /** Something that an operator should know and that stops nothing. */
  | { type: 'notice'; message: string }
  /** What entered and left the prefix index since the last; in front of the step that did it. */
  | { type: 'figures'; ticket: number; engines: EngineFigures[] }
  | { type: 'blocks'; engine: string; changes: BlockChanges }
  | { type: 'fatal'; code: string; message: string }
  | { type: 'stopped' };
