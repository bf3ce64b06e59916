// The pools that an administrator has enrolled, and what each has told of itself last. Their keys stand nowhere: they are derived.
import type { Heartbeat } from '../../pool/wire/heartbeat.ts';

/** Most enrolled pools; a list of them is read whole. */
export const MAX_ENROLLED_POOLS = 256;

export interface Enrolment {
  /** The name that requests are signed for. */
  id: string;
  keyId: string;
  /** Where it may be: origins, as a URL has them. */
  allowedOrigins: readonly string[];
  createdAtMs: number;
}

export interface Announcement extends Heartbeat {
  /** When the pool signed it, by its clock, and when it was heard, by ours. */
  signedAtMs: number;
  heardAtMs: number;
}

export interface EnrolledPool extends Enrolment {
  /** null: it has never been heard. */
  announced: Announcement | null;
}

export interface PoolStore {
  /** False when the name is taken, or there are as many as there may be. */
  enrol(enrolment: Enrolment): Promise<boolean>;
  /** In the order of enrolment. */
  list(): Promise<EnrolledPool[]>;
  get(id: string): Promise<EnrolledPool | undefined>;
  /** False when there was none. */
  remove(id: string): Promise<boolean>;
  /** The newest counts: false when the pool is not enrolled, or has told something newer. */
  announce(id: string, announcement: Announcement): Promise<boolean>;
}
