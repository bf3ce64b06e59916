// /v1/organization/prices: versions of a model's price in whole nano-dollars per token. A version begins now or later and is never changed:
// a request is billed at the one that was in force when it was reserved.
import { Hono } from 'hono';
import { z } from 'zod';
import { invalidRequest } from '../errors.ts';
import { drawId } from '../ids.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import type { PriceVersion } from '../prices/port.ts';
import { MAX_NANO_USD_PER_TOKEN } from '../prices/price.ts';
import { checked, readJson } from '../requestBody.ts';
import { listBody, pageOf, pageQuery, seconds } from './lists.ts';

const nanoUsd = z.int().min(0).max(MAX_NANO_USD_PER_TOKEN);
const MODEL = z.string().min(1).max(256);
export const createPriceBody = z
  .strictObject({
    model: MODEL,
    input_nano_usd: nanoUsd,
    cached_input_nano_usd: nanoUsd.optional(),
    output_nano_usd: nanoUsd,
    effective_from: z.int().min(0).max(8_640_000_000_000).optional(),
  })
  .refine(({ input_nano_usd, cached_input_nano_usd = 0 }) => cached_input_nano_usd <= input_nano_usd, {
    path: ['cached_input_nano_usd'],
    message: 'a cached token costs at most what one of input costs',
  });
export const priceQuery = pageQuery.extend({ model: MODEL.optional() });

function priceBody(one: PriceVersion) {
  return {
    object: 'organization.price',
    id: one.version,
    model: one.model,
    input_nano_usd: one.inputNanoUsd,
    cached_input_nano_usd: one.cachedInputNanoUsd,
    output_nano_usd: one.outputNanoUsd,
    effective_from: seconds(one.effectiveFromMs),
    created_at: seconds(one.createdAtMs),
  };
}

/** Below /v1/organization/prices; the admin key is checked already. */
export function priceRoutes({ prices, clock, random, log, settings }: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/', async (c) => {
    const { model } = checked(priceQuery, c.req.query());
    const { items, hasMore } = await prices.prices({ ...pageOf(c.req.query()), ...(model !== undefined && { model }) });
    return c.json(listBody(items.map(priceBody), hasMore));
  });
  app.post('/', async (c) => {
    const body = await readJson(c.req.raw, createPriceBody, settings.maxBodyBytes);
    const createdAtMs = clock.now();
    const effectiveFromMs = body.effective_from === undefined ? createdAtMs : body.effective_from * 1000;
    if (effectiveFromMs < createdAtMs)
      throw invalidRequest(
        "'effective_from' is in the past, where prices no longer change. Leave it out for now.",
        'effective_from',
      );
    const version: PriceVersion = {
      version: drawId('price', random),
      model: body.model,
      inputNanoUsd: body.input_nano_usd,
      cachedInputNanoUsd: body.cached_input_nano_usd ?? body.input_nano_usd,
      outputNanoUsd: body.output_nano_usd,
      effectiveFromMs,
      createdAtMs,
    };
    if (!(await prices.addPrice(version)))
      throw invalidRequest("The model has another price from this 'effective_from' on.", 'effective_from');
    log.info('price_added', { price: version.version, model: version.model });
    return c.json(priceBody(version));
  });
  return app;
}
