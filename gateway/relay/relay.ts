// One admitted request on its way through a pool: passes its events on, checks that they follow from one another, shrinks the hold at
// the first, and settles at the last before anybody hears of it. However it ends, the hold ends with it: by the receipt that came, or
// by the settler, to whom it is left.
import type { PoolEvent, Receipt } from '../../pool/wire/events.ts';
import type { Clock } from '../clock.ts';
import { fromPool, poolFailed } from '../errors.ts';
import { type Bill, billOf, NOTHING_RELEASED, withinHold } from '../ledger/bill.ts';
import type { HoldBounds } from '../ledger/decide.ts';
import type { SealedAnswer } from '../ledger/idempotency.ts';
import type { Ledger } from '../ledger/port.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { billAttributes, childSpan, type Span, spanFailed, type Tracer, traced } from '../trace.ts';
import type { Inference } from './poolClient.ts';
import type { PoolRegistry, PoolState, Route } from './poolRegistry.ts';
import { broken, PoolRequestError, type ServiceGrant } from './poolRequest.ts';
import { SIGN_WITHIN_MS } from './resolve.ts';
import type { Settling } from './settling.ts';

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
  clock: Clock;
  log: Log;
  metrics: Metrics;
  tracer: Tracer;
}

export interface Admitted {
  requestId: string;
  tenant: string;
  pool: PoolState;
  route: Route;
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
}

/** What the client's side gets: the pool's events, and at the end the bill, settled already. Errors of the pool are thrown. */
export type RelayEvent =
  | Exclude<PoolEvent, { type: 'done' } | { type: 'error' }>
  | { type: 'end'; done: Extract<PoolEvent, { type: 'done' }>; bill: Bill };

/** What came together, together. Throws GatewayError. Aborting, or ending the generator early, ends the request at the pool. */
export async function* relay(
  ports: RelayPorts,
  admitted: Admitted,
  signal: AbortSignal,
): AsyncGenerator<RelayEvent[], void, void> {
  const { settler, ledger, clock, registry, metrics, tracer } = ports;
  const { requestId, tenant, pool, choices, startedAtMs, deadlineMs } = admitted;
  const stop = new AbortController();
  const abort = () => stop.abort('over');
  let answered = false;
  const leave = () => (answered ? abort() : void clock.sleep(UNANSWERED_GRACE_MS, stop.signal).then(abort));
  signal.addEventListener('abort', leave, { once: true });
  void clock.sleep(deadlineMs + DEADLINE_GRACE_MS - clock.now(), stop.signal).then(abort);

  const span = childSpan(tracer, admitted.span, 'relay', { 'hearth.pool.id': pool.client.target.id });
  const failed = (error: unknown) => {
    spanFailed(span, error);
    return error;
  };
  let { hold } = admitted;
  let settled = false;
  let shrunk = Promise.resolve();
  const settle = async (bill: Bill, answer?: SealedAnswer | null) => {
    const settling = () => settler.settle(tenant, requestId, bill, answer);
    await traced(tracer, span, 'settle', billAttributes(bill), settling);
    settled = true;
  };
  const released = new Released(choices);
  /** Throws where an event doesn't follow, and what is the pool's own error. */
  const pass = async (event: PoolEvent, batch: readonly PoolEvent[]): Promise<RelayEvent> => {
    switch (event.type) {
      case 'prompt':
        hold = { ...hold, inputTokens: Math.min(hold.inputTokens, event.prompt_tokens) };
        registry.computed(pool, admitted.route);
        // Nobody waits for it. Where the end has come with it, settling ends the hold whole.
        if (!batch.some(({ type }) => type === 'done')) shrunk = ledger.shrink({ tenant, requestId, ...hold });
        shrunk.catch(() => {}); // told with the next batch, unless the client leaves before
        return event;
      case 'delta':
        if (!released.add(event)) throw broken('the stream skips or repeats positions');
        if (released.first) {
          const firstTokenMs = clock.now() - startedAtMs;
          metrics.firstToken(firstTokenMs / 1000);
          registry.answered(pool, admitted.route, firstTokenMs);
          span.addEvent('first_token');
        }
        return event;
      case 'done': {
        checkReceipt(admitted, event.receipt);
        const bill = withinHold(billOf(event.receipt), hold);
        await settle(bill, await admitted.keep?.(event, bill));
        return { type: 'end', done: event, bill };
      }
      case 'error':
        if (event.receipt) checkReceipt(admitted, event.receipt);
        await settle(event.receipt ? billOf(event.receipt) : { ...NOTHING_RELEASED, outcome: 'failed' });
        throw fromPool(event.error, requestId);
      default:
        return event;
    }
  };
  const release = pool.inFlight.take(deadlineMs + DEADLINE_GRACE_MS);
  try {
    const holdTokens = hold.inputTokens + hold.outputTokens;
    const grant = { tenant, requestId, deadlineMs, holdTokens, ...admitted.service };
    const late = clock.now() > startedAtMs + SIGN_WITHIN_MS;
    if (late) throw new PoolRequestError({ kind: 'never_sent', reason: 'its reservation took too long' });
    if (signal.aborted) throw new PoolRequestError({ kind: 'never_sent', reason: 'the client left' });
    const { events } = await pool.client.infer(admitted.inference, grant, stop.signal);
    answered = true;
    if (signal.aborted) abort();
    for await (const batch of events) {
      let passed: RelayEvent[] = [];
      let wrong: unknown = null;
      try {
        for (const event of batch) {
          if (event.type === 'done' && admitted.keep && passed.length > 0) {
            // The answer is kept as its consumer has made it of them.
            yield passed;
            passed = [];
          }
          passed.push(await pass(event, batch));
        }
      } catch (error) {
        wrong = error;
      }
      // What came before it has been released, and is billed.
      if (passed.length > 0) yield passed;
      if (wrong) throw wrong;
      await shrunk;
    }
  } catch (error) {
    if (!(error instanceof PoolRequestError)) throw failed(error);
    const { failure } = error;
    if (failure.kind !== 'broken')
      await settle({ ...NOTHING_RELEASED, outcome: failure.kind === 'refused' ? 'refused' : 'failed' });
    if (failure.kind === 'refused') throw failed(fromPool(failure.error, requestId));
    if (!signal.aborted) {
      registry.reportFailure(pool);
      metrics.poolFailed(pool.client.target.id);
      ports.log.warn('pool_failed', { pool: pool.client.target.id, request: requestId, reason: failure.reason });
    }
    throw failed(poolFailed());
  } finally {
    release();
    signal.removeEventListener('abort', leave);
    abort();
    if (!settled) settler.leave({ requestId, tenant, pool: pool.client.target.id, deadlineMs });
    span.setAttribute('hearth.settled', settled);
    span.end();
  }
}

/** Output positions per choice: each is released once, in order. */
class Released {
  readonly #next: number[];
  /** The event just added brought the request's first token. */
  first = false;
  #any = false;

  constructor(choices: number) {
    this.#next = Array.from({ length: choices }, () => 0);
  }

  /** False when the event does not go on where its choice stands. */
  add(event: Extract<PoolEvent, { type: 'delta' }>): boolean {
    const expected = this.#next[event.choice];
    if (expected === undefined || (event.ids.length > 0 && event.position !== expected)) return false;
    this.#next[event.choice] = expected + event.ids.length;
    this.first = !this.#any && event.ids.length > 0;
    this.#any ||= event.ids.length > 0;
    return true;
  }
}

/** A receipt that is not of this request must not settle it. */
function checkReceipt({ requestId, tenant, pool }: Admitted, receipt: Receipt): void {
  if (receipt.request_id === requestId && receipt.tenant === tenant && receipt.pool_id === pool.client.target.id)
    return;
  throw broken('the receipt is of another request');
}
