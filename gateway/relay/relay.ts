// One admitted request on its way through pools: passes their events on, checks that they follow from one another, shrinks the hold at
// the first, and settles at the last. Where a pool fails under it, it goes on at another, from what was told; the client sees one stream.
// However it ends, the hold ends with it: by the receipt that came, or by the settler, to whom it is left.
//
//   leg ──done──▶ settle ─▶ end (or both at once: settling.ts)
//    ▲ └──cut──▶ (onward.ts) a place to go on? ──no──▶ settle, or leave to the settler ─▶ error
//    └──reroute, durable──────┘ yes
import type { PoolEvent, Receipt } from '../../pool/wire/events.ts';
import type { Share } from '../byteBudget.ts';
import type { Clock } from '../clock.ts';
import { fromPool, type GatewayError, poolFailed } from '../errors.ts';
import { atLeast, type Bill, billOf, NOTHING_RELEASED, withinHold } from '../ledger/bill.ts';
import type { HoldBounds } from '../ledger/decide.ts';
import type { SealedAnswer } from '../ledger/idempotency.ts';
import type { Ledger } from '../ledger/port.ts';
import { errorFields, type Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { billAttributes, childSpan, type Span, spanFailed, type Tracer, traced } from '../trace.ts';
import { type Cut, GaveUp, type Onward } from './onward.ts';
import type { Inference, PoolInference, RunningRequest } from './poolClient.ts';
import type { Place, PoolRegistry } from './poolRegistry.ts';
import { broken, PoolRequestError, type ServiceGrant } from './poolRequest.ts';
import { SIGN_WITHIN_MS } from './resolve.ts';
import type { Settling } from './settling.ts';
import { resumed, Told } from './told.ts';
import { LEASE_MS, Vigil } from './vigil.ts';

/**
 * When the client leaves before the pool has answered, the answer is awaited this long before the connection is given up: a request that
 * was surely taken has a receipt, one that was surely refused costs nothing, but a connection cut in between leaves a hold to guess about.
 */
const UNANSWERED_GRACE_MS = 10_000;
/** After its deadline a pool has this long to say how the request ended, before the gateway hangs up. */
const DEADLINE_GRACE_MS = 5000;

export interface RelayPorts {
  ledger: Ledger;
  registry: PoolRegistry;
  settler: Settling;
  onward: Onward;
  clock: Clock;
  log: Log;
  metrics: Metrics;
  tracer: Tracer;
}

export interface Admitted {
  requestId: string;
  tenant: string;
  place: Place;
  inference: Inference;
  choices: number;
  hold: HoldBounds;
  startedAtMs: number;
  deadlineMs: number;
  /** The request's, under which the relay stands. */
  span: Span;
  /** The answer as it is kept for replays, of what its consumer has taken before `done`; null: too large. Without a key there is none. */
  keep: ((done: Extract<PoolEvent, { type: 'done' }>, bill: Bill) => Promise<SealedAnswer | null>) | null;
  /** What the pool may do for it beyond its tokens: order, share, cache. */
  service: ServiceGrant;
  /** For what was told, should another pool have to go on from it. */
  memory: Share;
  /** Nothing was told yet, and it goes to another pool, whose model has this fingerprint. */
  moved: (fingerprint: string) => void;
}

/** What the client's side gets: the pools' events, and at the end the bill. Errors of the last pool are thrown. */
export type RelayEvent =
  | Exclude<PoolEvent, { type: 'done' } | { type: 'error' }>
  | { type: 'end'; done: Extract<PoolEvent, { type: 'done' }>; bill: Bill };

/** What came together, together. Throws GatewayError. Aborting, or ending the generator early, ends the request at the pool. */
export function relay(
  ports: RelayPorts,
  admitted: Admitted,
  signal: AbortSignal,
): AsyncGenerator<RelayEvent[], void, void> {
  return new Relay(ports, admitted, signal).events();
}

class Relay {
  readonly #ports: RelayPorts;
  readonly #admitted: Admitted;
  readonly #signal: AbortSignal;
  readonly #span: Span;
  readonly #told: Told;
  #place: Place;
  #leg = 0;
  /** Positions when the last leg ended, and legs in a row that added none. */
  #brought = 0;
  #fruitless = 0;
  #legFromMs: number;
  #hold: HoldBounds;
  #settled = false;
  /** Begun, and not waited for; never rejects. */
  #settling: Promise<void> | null = null;
  #shrunk = Promise.resolve();

  constructor(ports: RelayPorts, admitted: Admitted, signal: AbortSignal) {
    this.#ports = ports;
    this.#admitted = admitted;
    this.#signal = signal;
    this.#place = admitted.place;
    this.#hold = admitted.hold;
    this.#legFromMs = admitted.startedAtMs;
    this.#told = new Told(admitted.choices, admitted.memory);
    this.#span = childSpan(ports.tracer, admitted.span, 'relay', { 'hearth.pool.id': this.#poolId });
  }

  get #poolId(): string {
    return this.#place.pool.client.target.id;
  }

  async *events(): AsyncGenerator<RelayEvent[], void, void> {
    const { requestId, tenant, deadlineMs, memory } = this.#admitted;
    try {
      for (;;)
        try {
          return yield* this.#throughPool();
        } catch (error) {
          const cut = cutOf(error);
          if (!cut) throw error;
          this.#report(cut);
          if (!(await this.#goOn(cut))) throw await this.#end(cut);
        }
    } catch (error) {
      spanFailed(this.#span, error);
      throw error;
    } finally {
      memory.release();
      const ended = () => {
        if (!this.#settled) this.#ports.settler.leave({ requestId, tenant, pool: this.#poolId, deadlineMs });
        this.#span.setAttribute('hearth.settled', this.#settled);
        this.#span.end();
      };
      if (this.#settling) void this.#settling.then(ended);
      else ended();
    }
  }

  /** One leg. Throws PoolRequestError or GaveUp where the pool does not end it well. */
  async *#throughPool(): AsyncGenerator<RelayEvent[], void, void> {
    const { clock, registry } = this.#ports;
    const { deadlineMs, keep } = this.#admitted;
    const { pool } = this.#place;
    const signal = this.#signal;
    const stop = new AbortController();
    const abort = () => stop.abort('over');
    let answered = false;
    const leave = () => (answered ? abort() : void clock.sleep(UNANSWERED_GRACE_MS, stop.signal).then(abort));
    const untilMs = deadlineMs + DEADLINE_GRACE_MS;
    // First it is sent: what watches over it is set up while the pool has it.
    const sent = this.#send(stop.signal, () => vigil.heard());
    const release = pool.inFlight.take(untilMs);
    const ask = () => void registry.refresh(pool);
    const vigil = new Vigil({ clock, pool, untilMs, ask, giveUp: abort }, stop.signal);
    signal.addEventListener('abort', leave, { once: true });
    try {
      const { events } = await sent;
      answered = true;
      vigil.opened();
      if (signal.aborted) abort();
      for await (const batch of events) {
        vigil.rest();
        let passed: RelayEvent[] = [];
        let wrong: unknown = null;
        try {
          for (const event of batch) {
            if (event.type === 'done') {
              if (keep && passed.length > 0) {
                // The answer is kept as its consumer has made it of them.
                yield passed;
                passed = [];
              }
              passed.push(await this.#done(event));
              continue;
            }
            const told = this.#pass(event, batch);
            if (told) passed.push(told);
          }
        } catch (error) {
          wrong = error;
        }
        // What came before it has been released, and is billed.
        if (passed.length > 0) yield passed;
        if (wrong) throw wrong;
        await this.#shrunk;
        vigil.resume();
      }
    } catch (error) {
      throw vigil.lost ? broken('it is silent, and answers no question') : error;
    } finally {
      release();
      signal.removeEventListener('abort', leave);
      abort();
    }
  }

  async #send(signal: AbortSignal, heard: () => void): Promise<RunningRequest> {
    if (this.#ports.clock.now() > this.#legFromMs + SIGN_WITHIN_MS)
      throw new PoolRequestError({ kind: 'never_sent', reason: 'its reservation took too long', ours: true });
    if (this.#signal.aborted) throw new PoolRequestError({ kind: 'never_sent', reason: 'the client left' });
    return this.#place.pool.client.infer(this.#inference(), this.#grant(), signal, heard);
  }

  #inference(): PoolInference {
    const { inference } = this.#admitted;
    if (this.#leg === 0) return inference;
    const resume = this.#told.resume(this.#place.model.fingerprint);
    if (resume) return resumed(inference, resume);
    if (inference.kind === 'chat') return { kind: 'chat', request: { ...inference.request, anew: true } };
    return { kind: 'completion', request: { ...inference.request, anew: true } };
  }

  #grant() {
    const { tenant, requestId, deadlineMs, service } = this.#admitted;
    const holdTokens = this.#hold.inputTokens + this.#hold.outputTokens;
    return { tenant, requestId, deadlineMs, holdTokens, leaseMs: LEASE_MS, ...service };
  }

  /** What the client's side gets of an event; null: it was told before. Throws where an event doesn't follow, and what is the pool's own error. */
  #pass(event: Exclude<PoolEvent, { type: 'done' }>, batch: readonly PoolEvent[]): RelayEvent | null {
    const { ledger, registry } = this.#ports;
    const { requestId, tenant } = this.#admitted;
    switch (event.type) {
      case 'prompt': {
        const again = this.#told.begun;
        if (!this.#told.prompt(event)) throw broken('the prompt is another than it was');
        registry.computed(this.#place);
        if (again) return null;
        if (event.prompt_tokens === null) return event; // held as it is until the receipt tells
        this.#hold = { ...this.#hold, inputTokens: Math.min(this.#hold.inputTokens, event.prompt_tokens) };
        // Nobody waits for it. Where the end has come with it, settling ends the hold whole.
        const ends = batch.some(({ type }) => type === 'done');
        if (!ends) this.#shrunk = ledger.shrink({ tenant, requestId, ...this.#hold });
        this.#shrunk.catch(() => {}); // told with the next batch, unless the client leaves before
        return event;
      }
      case 'prompt_logprobs':
        if (!this.#told.promptLogprobs(event)) throw broken('the pool tells tokens that the prompt does not have');
        return event;
      case 'delta': {
        const follows = this.#told.delta(event);
        if (!follows) throw broken('the stream skips or repeats positions');
        if (follows.first) this.#firstToken();
        return event;
      }
      case 'error':
        if (event.receipt) checkReceipt(this.#admitted, this.#poolId, event.receipt);
        throw new GaveUp(event.error, event.receipt);
    }
  }

  /** Settled when it resolves, or being so where the answer need not wait for it. */
  async #done(event: Extract<PoolEvent, { type: 'done' }>): Promise<RelayEvent> {
    checkReceipt(this.#admitted, this.#poolId, event.receipt);
    const bill = withinHold(this.#atLeastTold(billOf(event.receipt)), this.#hold);
    const { keep } = this.#admitted;
    const answer = await keep?.(event, bill);
    const first = keep !== null || this.#ports.settler.settlesFirst;
    const settling = this.#settle(bill, answer);
    if (first) await settling;
    else this.#settling = settling.catch((error: unknown) => this.#unsettled(error));
    return { type: 'end', done: event, bill };
  }

  /** Before another pool had the request nothing was told that is not on the receipt: it may correct what its pool could not count exactly. */
  #atLeastTold(bill: Bill): Bill {
    return this.#leg === 0 ? bill : atLeast(bill, this.#told.released);
  }

  #firstToken(): void {
    const { clock, metrics, registry } = this.#ports;
    const nowMs = clock.now();
    metrics.firstToken((nowMs - this.#admitted.startedAtMs) / 1000);
    registry.answered(this.#place, nowMs - this.#legFromMs);
    this.#span.addEvent('first_token');
  }

  /** The pool is to blame, unless the client left or gave it too little time, this process failed, or the pool only has too much to do. */
  #report(cut: Cut): void {
    const { registry, metrics, log } = this.#ports;
    if (this.#signal.aborted || cut.kind === 'refused') return;
    if (cut.kind === 'never_sent' && cut.ours) {
      log.warn('not_sent', { pool: this.#poolId, request: this.#admitted.requestId, reason: cut.reason });
      return;
    }
    if (cut.kind === 'gave_up' && cut.error.code === 'deadline_exceeded') return;
    // What another may go on with tells of a pool that stops, or lost its engine: its state is asked for.
    if (cut.kind === 'gave_up' && !cut.error.resumable) registry.reportGivenUp(this.#place.pool);
    else registry.reportFailure(this.#place.pool);
    metrics.poolFailed(this.#poolId);
    const reason = cut.kind === 'gave_up' ? (cut.error.code ?? 'gave up') : cut.reason;
    log.warn('pool_failed', { pool: this.#poolId, request: this.#admitted.requestId, reason });
  }

  /** Whether it has another leg. From then on the new pool's word counts for the bill. */
  async #goOn(cut: Cut): Promise<boolean> {
    const { onward, ledger, clock, log, metrics } = this.#ports;
    const { tenant, requestId, deadlineMs } = this.#admitted;
    const told = this.#told;
    const from = this.#place;
    if (told.begun && !told.resume(from.model.fingerprint)) return false;
    const brought = told.released?.positions.reduce((sum, count) => sum + count, 0) ?? 0;
    this.#fruitless = brought > this.#brought ? 0 : this.#fruitless + 1;
    this.#brought = brought;
    const leg = { cut, from, begun: told.begun, leg: this.#leg, fruitless: this.#fruitless, deadlineMs };
    const place = await onward.next(leg, this.#signal);
    if (!place) return false;
    const nowMs = clock.now();
    const pool = place.pool.client.target.id;
    const { released } = told;
    if (!(await ledger.reroute({ tenant, requestId, pool, released, nowMs }))) return false;
    if (!told.begun) this.#admitted.moved(place.model.fingerprint);
    metrics.rerouted(told.begun ? 'resumed' : 'retried');
    log.info('rerouted', { request: requestId, from: this.#poolId, to: pool, resumed: told.begun });
    this.#span.addEvent('rerouted', { 'hearth.pool.id': pool });
    this.#place = place;
    this.#leg += 1;
    this.#legFromMs = nowMs;
    return true;
  }

  /** What the client is told of a request that ends here. What its pool surely doesn't have any more is settled. */
  async #end(cut: Cut): Promise<GatewayError> {
    const { requestId } = this.#admitted;
    const nothing = { ...NOTHING_RELEASED, outcome: 'failed' as const };
    switch (cut.kind) {
      case 'gave_up':
        await this.#settle(cut.receipt ? billOf(cut.receipt) : nothing);
        return fromPool(cut.error, requestId);
      case 'refused':
        await this.#settle(this.#told.begun ? nothing : { ...nothing, outcome: 'refused' });
        return this.#told.begun ? poolFailed() : fromPool(cut.error, requestId);
      case 'never_sent':
        await this.#settle(nothing);
        return poolFailed();
      case 'broken':
        return poolFailed();
    }
  }

  /** The answer has been told; what its pool's journal says of it will be booked. */
  #unsettled(error: unknown): void {
    this.#ports.log.error('settle_failed', { request: this.#admitted.requestId, ...errorFields(error) });
  }

  async #settle(bill: Bill, answer?: SealedAnswer | null): Promise<void> {
    const { settler, tracer } = this.#ports;
    const { tenant, requestId } = this.#admitted;
    const settling = () => settler.settle(tenant, requestId, bill, { answer });
    await traced(tracer, this.#span, 'settle', billAttributes(bill), settling);
    this.#settled = true;
  }
}

function cutOf(error: unknown): Cut | null {
  if (error instanceof PoolRequestError) return error.failure;
  if (error instanceof GaveUp) return { kind: 'gave_up', error: error.wire, receipt: error.receipt };
  return null;
}

/** A receipt that is not of this request must not settle it. */
function checkReceipt({ requestId, tenant }: Admitted, poolId: string, receipt: Receipt): void {
  if (receipt.request_id === requestId && receipt.tenant === tenant && receipt.pool_id === poolId) return;
  throw broken('the receipt is of another request');
}
