// A real token within a time, or the GPU hangs.

/** A software adapter with other work takes seconds for one. */
const PROOF_LIMIT_MS = 30_000;

/** Rejects as `token` does, or when it is late. */
export async function proof(token: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error('the GPU hangs: no token came')), PROOF_LIMIT_MS);
  try {
    await Promise.race([token, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
