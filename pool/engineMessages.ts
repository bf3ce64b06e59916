// What the HTTP thread and the engine thread say to each other: plain data only, token arrays transferred, never shared.
import type { EngineStatus, Refusal, SequenceOutput, SequenceRequest } from '../engine/request.ts';
import type { EngineBounds, TiersSection } from './config.ts';

export interface EngineModel {
  id: string;
  path: string;
  activations: 'int8' | 'f32';
  kvFormat: 'f16' | 'f32' | 'int8' | 'int4';
  kvBlocks: number;
  contextLength?: number;
}

/** The worker's start data. */
export interface EngineSetup {
  models: readonly EngineModel[];
  bounds: EngineBounds;
  tiers: TiersSection;
  dawnFlags: readonly string[];
}

/** What the HTTP thread must know of a model once it is warm. */
export interface WarmModel {
  id: string;
  vocabSize: number;
  contextLength: number;
  capacityBlocks: number;
  fingerprint: string;
  adapter: string;
}

export type ToEngine =
  /** All sequences of one request, taken together or not at all. Answered by `taken` with the same ticket. */
  | { type: 'submit'; ticket: number; model: string; sequences: SequenceRequest[] }
  | { type: 'cancel'; model: string; ids: string[] }
  | { type: 'stop' };

/** `bug`: the engine found the request inconsistent, which the pool should have seen; it took nothing. */
export type TakeAnswer = { kind: 'taken' } | { kind: 'refused'; refusal: Refusal } | { kind: 'bug'; message: string };

export type FromEngine =
  | { type: 'progress'; stage: string; done: number; total: number }
  | { type: 'ready'; models: WarmModel[] }
  | { type: 'taken'; ticket: number; answer: TakeAnswer }
  /** One engine step. `elapsedMs` is 0 when it only ended sequences. */
  | { type: 'step'; model: string; outputs: SequenceOutput[]; elapsedMs: number; status: EngineStatus }
  | { type: 'status'; model: string; status: EngineStatus }
  /** Something that an operator should know and that stops nothing. */
  | { type: 'notice'; message: string }
  | { type: 'fatal'; code: string; message: string }
  | { type: 'stopped' };
