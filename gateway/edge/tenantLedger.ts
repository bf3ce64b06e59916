// One tenant's ledger as a Durable Object: the same SqlLedger as on Node, on the object's own SQLite. The object is single-threaded and each
// command touches storage without waiting, so commands are serial; their writes are durable before their answers leave.
//
//   admit ─▶ alarm at the age at which the hold is looked after     leave ─▶ alarm at once     settle ─▶ alarm to feed the usage store
//
// The alarm is set in the same write as what it is for. While anything is open there is an alarm: it sets itself again, the platform
// repeats one that throws, and an object that wakes without one sets it.
import { DurableObject } from 'cloudflare:workers';
import { systemClock } from '../clock.ts';
import type { Ledger, LedgerStore } from '../ledger/port.ts';
import { SqlLedger } from '../ledger/sqlLedger.ts';
import { jsonLog } from '../log.ts';
import { LEDGER_MIGRATIONS } from '../migrations.ts';
import { PoolDirectory } from '../pools/directory.ts';
import { SqlPools } from '../pools/sqlPools.ts';
import { PoolRegistry } from '../relay/poolRegistry.ts';
import { migrate, NewerSchema } from '../sql.ts';
import { SqlUsage } from '../usage/sqlUsage.ts';
import type { Answer, CommandName, CommandResult, EdgeEnv, ObjectState, TenantRpc } from './cloudflare.ts';
import { type EdgeConfig, parseEnv } from './config.ts';
import { D1Sql } from './d1Sql.ts';
import { ObjectSql } from './objectSql.ts';
import { poolClients, webPorts } from './pools.ts';
import { Upkeep } from './upkeep.ts';

/** An object that wakes reads those that are in no run yet. */
const ENTRIES_PER_RUN = 1024;
/** After a round that could not even begin: a configuration or a storage that has to be mended. */
const ALARM_RETRY_MS = 30_000;

type Commands = { [N in CommandName]: (...args: Parameters<Ledger[N]>) => Promise<CommandResult<N>> };

export class TenantLedger extends DurableObject<EdgeEnv> implements TenantRpc {
  protected readonly store: LedgerStore;
  readonly #newerSchema: string | null;
  #config: EdgeConfig | undefined;
  #upkeep: Upkeep | undefined;
  /** As last set; null: none is. */
  #alarmAtMs: number | null = null;

  constructor(ctx: ObjectState, env: EdgeEnv) {
    super(ctx, env);
    const sql = new ObjectSql(ctx.storage);
    this.#newerSchema = newerSchema(() => migrate(sql, LEDGER_MIGRATIONS));
    this.store = new SqlLedger(sql, { entriesPerRun: this.entriesPerRun });
    if (this.#newerSchema === null)
      void ctx.blockConcurrencyWhile(async () => {
        this.#alarmAtMs = await ctx.storage.getAlarm();
        const open = (await this.store.holds({ limit: 1 })).length + (await this.store.outbox(1)).length;
        if (open > 0 && this.#alarmAtMs === null) this.#wakeAt(systemClock.now());
      });
  }

  protected get entriesPerRun(): number {
    return ENTRIES_PER_RUN;
  }

  async run<N extends CommandName>(name: N, args: Parameters<Ledger[N]>): Promise<Answer<CommandResult<N>>> {
    if (this.#newerSchema !== null) return { ok: false, message: this.#newerSchema };
    const commands: Commands = this.store;
    try {
      const value = await commands[name](...args);
      this.#wakeFor(name);
      return { ok: true, value };
    } catch (error) {
      if (!(error instanceof Error && /SQLITE_FULL|database or disk is full/.test(error.message))) throw error;
      return { ok: false, message: "The project's ledger is full. Ask the operator." };
    }
  }

  async leave(requestId: string): Promise<void> {
    const nowMs = systemClock.now();
    this.#work().looks.leave(requestId, nowMs);
    this.#wakeAt(this.#work().looks.dueAtMs({ requestId, reservedAtMs: nowMs }));
  }

  async feed(): Promise<void> {
    await this.#work().feed();
  }

  async alarm(): Promise<void> {
    this.#alarmAtMs = null;
    let nextMs: number | null = systemClock.now() + ALARM_RETRY_MS;
    try {
      nextMs = await this.#work().run();
    } finally {
      if (nextMs !== null) this.#wakeAt(nextMs);
    }
  }

  /** What a command may have left to do. */
  #wakeFor(name: CommandName): void {
    if (name !== 'admit' && name !== 'settle') return;
    const { lookAfterMs, feedDelayMs } = this.#parsed().settings.upkeep;
    this.#wakeAt(systemClock.now() + (name === 'admit' ? lookAfterMs : feedDelayMs));
  }

  /** Never later than an alarm that is set already. */
  #wakeAt(atMs: number): void {
    if (this.#alarmAtMs !== null && this.#alarmAtMs <= atMs) return;
    this.#alarmAtMs = atMs;
    void this.ctx.storage.setAlarm(atMs);
  }

  #parsed(): EdgeConfig {
    this.#config ??= parseEnv(this.env);
    return this.#config;
  }

  #work(): Upkeep {
    if (this.#upkeep) return this.#upkeep;
    const { settings, keyring, pools } = this.#parsed();
    const clock = systemClock;
    const central = new D1Sql(this.env.DB);
    const configured = poolClients(pools, clock);
    const registry = new PoolRegistry(configured, clock);
    const log = jsonLog((line) => console.log(line.trimEnd()), clock.now);
    this.#upkeep = new Upkeep({
      ...{ ledger: this.store, registry, usage: new SqlUsage(central), clock, log },
      pools: new PoolDirectory({
        ...{ store: new SqlPools(central), registry, configured, keyring, log, ports: webPorts(clock) },
      }),
      lookAfterMs: settings.upkeep.lookAfterMs,
      failoverWaitMs: settings.limits.failoverWaitMs,
    });
    return this.#upkeep;
  }
}

function newerSchema(migrateNow: () => void): string | null {
  try {
    migrateNow();
    return null;
  } catch (error) {
    if (error instanceof NewerSchema) return 'This ledger was written by a newer Hearth. Deploy that version again.';
    throw error;
  }
}
