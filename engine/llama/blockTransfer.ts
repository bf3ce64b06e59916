// Moves whole KV blocks between the layers' arenas and the host, and from block to block: everything takes effect in the order in which
// it was asked, before the next step. Copies are gathered and go in front of that step's own work, or alone when no step follows at once.
//
//   readBlock ─┐                        ┌ copies to a staging buffer ┐
//   copyBlock ─┴─▶ #pending ─▶ encode ──┤                            ├─▶ submit ─▶ … step finished ─▶ map, copy out, resolve
//                                       └ copies through scratch     ┘
//
// A staging buffer is mapped only when the steps submitted with or before it have finished: while a mapping is pending, Dawn's bindings
// keep this thread polling, on a software adapter at the cost of the very step (stepWait.ts).
import { invariant } from '../invariant.ts';
import { BLOCK_TOKENS } from '../modelRunner.ts';
import { Smoothed } from '../smoothed.ts';
import type { BlockTransfer } from '../tiers/port.ts';

/** Host-visible memory for reads under way, in all: enough for the evictions of one admission of a thousand tokens of a small model. */
const MAX_STAGING_BYTES = 32 * 2 ** 20;
/** Blocks, and bytes, of one staging buffer: what is mapped, and copied out, at once. */
const STAGING_BLOCKS = 8;
const STAGING_BYTES = 8 * 2 ** 20;
/** What a write is taken to cost before the first one: 2 GB/s. */
const ASSUMED_BYTES_PER_MS = 2e6;

export interface ArenaLayout {
  /** One arena per layer. */
  arenas: readonly GPUBuffer[];
  /** Bytes of a block in one layer. */
  layerBytes: number;
  capacityBlocks: number;
  /** Holds one layer of a block: WebGPU does not copy within one buffer. */
  scratch: GPUBuffer;
}

interface Staging {
  buffer: GPUBuffer;
  /** One per block in it, in order. */
  reads: ((bytes: Uint8Array | null) => void)[];
  /** `filling` until submitted, then in flight until copied out. */
  state: 'filling' | 'submitted' | 'mapping';
  /** Mapped once so many steps have finished. */
  afterStep: number;
}

type Move = { kind: 'copy'; from: number; to: number } | { kind: 'read'; block: number; staging: Staging; at: number };

export class ArenaTransfer implements BlockTransfer {
  readonly blockBytes: number;
  readonly #device: GPUDevice;
  readonly #layout: ArenaLayout;
  readonly #stagingBlocks: number;
  readonly #maxStagings: number;
  readonly #idle: Staging[] = [];
  readonly #active: Staging[] = [];
  readonly #writeMs = new Smoothed();
  #pending: Move[] = [];
  #submittedSteps = 0;
  #finishedSteps = 0;
  #lost = false;

  constructor(device: GPUDevice, layout: ArenaLayout) {
    this.#device = device;
    this.#layout = layout;
    this.blockBytes = layout.arenas.length * layout.layerBytes;
    this.#stagingBlocks = Math.max(1, Math.min(STAGING_BLOCKS, Math.floor(STAGING_BYTES / this.blockBytes)));
    this.#maxStagings = Math.max(1, Math.floor(MAX_STAGING_BYTES / (this.#stagingBlocks * this.blockBytes)));
  }

  get writeMs(): number {
    return this.#writeMs.value ?? this.blockBytes / ASSUMED_BYTES_PER_MS;
  }

  /** Copy-on-write of a shared, partly filled block; all its positions are copied. */
  copyBlock(from: number, to: number, tokens: number): void {
    invariant(from !== to && tokens <= BLOCK_TOKENS, 'a block is copied onto another', { from, to, tokens });
    this.#check(from);
    this.#check(to);
    this.#ask({ kind: 'copy', from, to });
  }

  readBlock(block: number): Promise<Uint8Array | null> | null {
    this.#check(block);
    const staging = this.#lost ? null : this.#stagingWithRoom();
    if (!staging) return null;
    return new Promise((resolve) => {
      this.#ask({ kind: 'read', block, staging, at: staging.reads.length });
      staging.reads.push(resolve);
    });
  }

  writeBlock(block: number, bytes: Uint8Array): void {
    this.#check(block);
    invariant(bytes.byteLength === this.blockBytes, 'a block is written whole', { bytes: bytes.byteLength });
    this.#submitAlone();
    const { arenas, layerBytes } = this.#layout;
    const beganMs = performance.now();
    for (const [layer, arena] of arenas.entries())
      this.#device.queue.writeBuffer(arena, block * layerBytes, bytes, layer * layerBytes, layerBytes);
    this.#writeMs.note(performance.now() - beganMs);
  }

  /** Everything asked so far, to be submitted in front of a step; null: nothing was. */
  encodePending(): GPUCommandBuffer | null {
    if (this.#pending.length === 0) return null;
    const { arenas, layerBytes, scratch } = this.#layout;
    const encoder = this.#device.createCommandEncoder({ label: 'block moves' });
    for (const move of this.#pending)
      for (const [layer, arena] of arenas.entries())
        if (move.kind === 'read') {
          const at = move.at * this.blockBytes + layer * layerBytes;
          encoder.copyBufferToBuffer(arena, move.block * layerBytes, move.staging.buffer, at, layerBytes);
        } else {
          encoder.copyBufferToBuffer(arena, move.from * layerBytes, scratch, 0, layerBytes);
          encoder.copyBufferToBuffer(scratch, 0, arena, move.to * layerBytes, layerBytes);
        }
    this.#pending = [];
    return encoder.finish();
  }

  /** The step that was encoded last has been submitted. */
  stepSubmitted(): void {
    this.#submittedSteps += 1;
    this.#noteSubmitted();
  }

  /** The oldest submitted step has finished, or failed. */
  stepFinished(): void {
    this.#finishedSteps += 1;
    invariant(this.#finishedSteps <= this.#submittedSteps, 'what finished was submitted');
    this.#mapFinished();
  }

  /** The GPU is gone: reads under way are answered with null, later ones refused. */
  deviceLost(): void {
    this.#lost = true;
    this.#pending = [];
    for (const staging of this.#active.splice(0)) answer(staging, () => null);
  }

  #ask(move: Move): void {
    if (this.#pending.push(move) === 1) queueMicrotask(() => this.#submitAlone());
  }

  /** No step took them along, or a write must come after them. */
  #submitAlone(): void {
    const moves = this.#lost ? null : this.encodePending();
    if (!moves) return;
    this.#device.queue.submit([moves]);
    this.#noteSubmitted();
    this.#mapFinished();
  }

  #noteSubmitted(): void {
    for (const staging of this.#active)
      if (staging.state === 'filling') {
        staging.state = 'submitted';
        staging.afterStep = this.#submittedSteps;
      }
  }

  #mapFinished(): void {
    for (const staging of this.#active)
      if (staging.state === 'submitted' && staging.afterStep <= this.#finishedSteps) void this.#map(staging);
  }

  async #map(staging: Staging): Promise<void> {
    staging.state = 'mapping';
    const bytes = staging.reads.length * this.blockBytes;
    try {
      await staging.buffer.mapAsync(GPUMapMode.READ, 0, bytes);
    } catch {
      this.deviceLost(); // nothing else makes a mapping of ours fail
      return;
    }
    if (this.#lost) return;
    const mapped = new Uint8Array(staging.buffer.getMappedRange(0, bytes));
    answer(staging, (at) => mapped.slice(at * this.blockBytes, (at + 1) * this.blockBytes));
    staging.buffer.unmap();
    this.#active.splice(this.#active.indexOf(staging), 1);
    this.#idle.push(staging);
  }

  #stagingWithRoom(): Staging | null {
    const last = this.#active.at(-1);
    if (last?.state === 'filling' && last.reads.length < this.#stagingBlocks) return last;
    let staging = this.#idle.pop();
    if (!staging) {
      if (this.#active.length >= this.#maxStagings) return null;
      const buffer = this.#device.createBuffer({
        label: 'block staging',
        size: this.#stagingBlocks * this.blockBytes,
        usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
      });
      staging = { buffer, reads: [], state: 'filling', afterStep: 0 };
    }
    staging.state = 'filling';
    this.#active.push(staging);
    return staging;
  }

  #check(block: number): void {
    invariant(block >= 0 && block < this.#layout.capacityBlocks, 'block is outside the arena', { block });
  }
}

function answer(staging: Staging, bytesAt: (at: number) => Uint8Array | null): void {
  for (const [at, resolve] of staging.reads.splice(0).entries()) resolve(bytesAt(at));
}
