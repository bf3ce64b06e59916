// Our own bugs stop here, as in the engine (which the gateway must not import): always on, with the values in the message.
// What the world can do wrong is a GatewayError instead.

export class InvariantViolation extends Error {
  override readonly name = 'InvariantViolation';
}

/** Throws when `condition` is false. `values` are shown as JSON; never pass secrets or prompts. */
export function invariant(condition: unknown, message: string, values?: Record<string, unknown>): asserts condition {
  if (condition) return;
  throw new InvariantViolation(values ? `${message} ${JSON.stringify(values)}` : message);
}
