// Something that the device can do in several ways, all with the same bits: kernels that differ in workgroup, binding or exchange. The tuner
// knows candidates and buffers, nothing of what they compute.

/** A candidate that is compiled, with the problem's buffers bound. */
export interface Prepared {
  /** Everything that the candidate can give, into the problem's result: what its bits are compared by. */
  check(pass: GPUComputePassEncoder): void;
  /** What is timed. */
  run(pass: GPUComputePassEncoder): void;
}

export interface Candidate {
  name: string;
  /** Throws ShaderError. */
  prepare(): Promise<Prepared>;
}

/** A small seeded problem, on the device. */
export interface Problem {
  candidates: readonly Candidate[];
  /** Where each candidate leaves what it computes; can be copied from. */
  result: GPUBuffer;
  destroy(): void;
}

export interface Tunable {
  /** Operation and shape: what a choice holds for. */
  name: string;
  /** Names of the candidates; the first is the rule's, and the reference of the others' bits. */
  names: readonly string[];
  /** Every candidate's source: a choice holds for these alone. */
  sources: string;
  /** Made only when there is something to measure. */
  problem(): Promise<Problem>;
}

/** What is known of a tunable's candidates. */
export interface Verdict {
  chosen: string;
  /** `rule`: nothing was measured; `measured`: in this process; `stored`: measured by an earlier one. */
  why: 'rule' | 'measured' | 'stored';
  /** Median seconds of a candidate's run; empty where nothing was measured. */
  seconds: Readonly<Record<string, number>>;
  /** Candidates that the driver refuses, or whose bits are others than the reference's. Never to be used. */
  dropped: readonly string[];
}

export const byRule = ({ names }: Tunable): Verdict => ({ chosen: names[0]!, why: 'rule', seconds: {}, dropped: [] });
