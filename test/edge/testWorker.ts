// The Worker as it is deployed, with levers for its tests behind /test/: the whole store of one object, its end, its alarm, its cron trigger.

import type { EdgeEnv, ObjectNamespace, WorkerContext } from '../../gateway/edge/cloudflare.ts';
import { TenantLedger } from '../../gateway/edge/tenantLedger.ts';
import type { LedgerStore } from '../../gateway/ledger/port.ts';
import worker from '../../gateway/worker.ts';
import { parseBytes, stringifyBytes } from '../support/bytesInJson.ts';

type StoreCall = { [N in keyof LedgerStore]: { name: N; args: Parameters<LedgerStore[N]> } }[keyof LedgerStore];
export type Lever =
  | ({ lever: 'store' } & StoreCall)
  | { lever: 'crash' | 'ring' | 'alarmAt' | 'loseAlarm' | 'age' }
  | { lever: 'scheduled' };

/** The real object, which can be looked into and killed. */
export class OpenLedger extends TenantLedger {
  async pull(lever: Exclude<Lever, { lever: 'scheduled' }>): Promise<unknown> {
    if (lever.lever === 'store') return call(this.store, lever);
    if (lever.lever === 'ring') return await this.alarm();
    if (lever.lever === 'alarmAt') return await this.ctx.storage.getAlarm();
    if (lever.lever === 'loseAlarm') return await this.ctx.storage.deleteAlarm();
    if (lever.lever === 'age') this.ctx.storage.sql.exec('UPDATE schema_version SET version = 99');
    if (lever.lever === 'crash') this.ctx.abort('crashed by its test');
    return null;
  }
}

/** For histories in a time of their own: alarms, which go by the platform's clock, do nothing. */
export class StillLedger extends OpenLedger {
  override async alarm(): Promise<void> {}

  override get entriesPerRun(): number {
    return 3;
  }
}

type Calls = { [N in keyof LedgerStore]: (...args: Parameters<LedgerStore[N]>) => ReturnType<LedgerStore[N]> };

function call<N extends keyof LedgerStore>(
  store: LedgerStore,
  { name, args }: { name: N; args: Parameters<LedgerStore[N]> },
): ReturnType<LedgerStore[N]> {
  const calls: Calls = store;
  return calls[name](...args);
}

interface TestEnv extends EdgeEnv {
  TENANTS: ObjectNamespace<OpenLedger>;
  STILL: ObjectNamespace<StillLedger>;
}

async function levers(url: URL, request: Request, env: TestEnv): Promise<Response> {
  const [, , binding = '', name = ''] = url.pathname.split('/');
  const lever = parseBytes<Lever>(await request.text());
  if (lever.lever === 'scheduled') return Response.json({ value: await worker.scheduled({}, env) });
  const objects = binding === 'still' ? env.STILL : env.TENANTS;
  try {
    const value = await objects.get(objects.idFromName(decodeURIComponent(name))).pull(lever);
    return new Response(stringifyBytes({ value }));
  } catch (error) {
    return Response.json({ error: String(error) }, { status: 500 });
  }
}

export default {
  async fetch(request: Request, env: TestEnv, context: WorkerContext): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname.startsWith('/test/')) return levers(url, request, env);
    return worker.fetch(request, env, context);
  },
  scheduled: worker.scheduled,
};
