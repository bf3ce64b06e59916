// Spans of a request, for whoever registers an OpenTelemetry SDK in this process; without one each call here does nothing.
//
//   POST /v1/chat/completions   until the answer begins; a child of the caller's span, where a propagator is registered
//   ├─ admit                    bound, count, reserve: until tokens are held, or refused
//   └─ relay                    until the pool's last event, which for a stream is after the request's own span
//      └─ settle                until the bill is booked
//
// Attributes are ids, counts and codes: never a prompt, a completion, a key, or an error's message.
import {
  type Attributes,
  isSpanContextValid,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { GatewayError } from './errors.ts';
import type { Bill } from './ledger/bill.ts';
import type { HoldBounds } from './ledger/decide.ts';

export type { Attributes, Span, Tracer };

/** What is registered now or later, or nothing. */
export function gatewayTracer(): Tracer {
  return trace.getTracer('hearth.gateway');
}

export function requestSpan(tracer: Tracer, request: Request, requestId: string): Span {
  const { method, headers } = request;
  const caller = propagation.extract(ROOT_CONTEXT, headers, {
    get: (carrier, name) => carrier.get(name) ?? undefined,
    keys: (carrier) => [...carrier.keys()],
  });
  const attributes = { 'http.request.method': method, 'hearth.request.id': requestId };
  return tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, caller);
}

/** `route`: the pattern, not the path. */
export function endRequest(span: Span, method: string, route: string, status: number): void {
  span.updateName(`${method} ${route}`);
  span.setAttributes({ 'http.route': route, 'http.response.status_code': status });
  if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

/** Where nothing is registered, the parent itself, which does nothing either. */
export function childSpan(tracer: Tracer, parent: Span, name: string, attributes: Attributes): Span {
  if (!isSpanContextValid(parent.spanContext())) return parent;
  return tracer.startSpan(name, { attributes }, trace.setSpan(ROOT_CONTEXT, parent));
}

/** Does the work inside a span of its own, which tells its error by code. */
export async function traced<T>(
  tracer: Tracer,
  parent: Span,
  name: string,
  attributes: Attributes,
  work: (span: Span) => Promise<T>,
): Promise<T> {
  const span = childSpan(tracer, parent, name, attributes);
  try {
    return await work(span);
  } catch (error) {
    spanFailed(span, error);
    throw error;
  } finally {
    span.end();
  }
}

/** A refusal is an answer; only what the gateway or a pool did wrong is an error of the span. */
export function spanFailed(span: Span, error: unknown): void {
  const spec = error instanceof GatewayError ? error.spec : null;
  span.setAttribute('error.type', spec?.code ?? (spec ? String(spec.status) : 'internal_error'));
  if (!spec || spec.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
}

export function holdAttributes({ inputTokens, outputTokens }: HoldBounds): Attributes {
  return { 'hearth.hold.input_tokens': inputTokens, 'hearth.hold.output_tokens': outputTokens };
}

export function billAttributes({ outcome, inputTokens, cachedInputTokens, outputTokens }: Bill): Attributes {
  return {
    'hearth.outcome': outcome,
    'gen_ai.usage.input_tokens': inputTokens,
    'gen_ai.usage.cached_input_tokens': cachedInputTokens,
    'gen_ai.usage.output_tokens': outputTokens,
  };
}
