// /v1/organization/projects: create, list, get, rename, archive. A project is a tenant; archiving it refuses all its keys.
import { Hono } from 'hono';
import { z } from 'zod';
import type { Project } from '../directory/port.ts';
import { invalidRequest, notFound } from '../errors.ts';
import { drawId } from '../ids.ts';
import { CACHE_SALT_BYTES } from '../keys/cacheScope.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { checked, readJson } from '../requestBody.ts';
import { listBody, pageOf, pageQuery, seconds, secondsOrNull } from './lists.ts';

const name = z.string().min(1).max(256);
export const projectBodySchema = z.strictObject({ name });
export const projectQuery = pageQuery.extend({ include_archived: z.enum(['true', 'false']).default('false') });

type DirectoryPorts = Pick<GatewayPorts, 'directory' | 'ledger' | 'clock' | 'random'>;

function projectBody({ id, name, createdAtMs, archivedAtMs }: Project) {
  return {
    id,
    object: 'organization.project' as const,
    name,
    created_at: seconds(createdAtMs),
    archived_at: secondsOrNull(archivedAtMs),
    status: archivedAtMs === null ? 'active' : 'archived',
  };
}

/** Throws GatewayError (404). */
export async function knownProject({ directory }: Pick<GatewayPorts, 'directory'>, id: string): Promise<Project> {
  const project = await directory.project(id);
  if (!project) throw notFound('This project');
  return project;
}

/** Throws GatewayError (404, or 400 for an archived one). */
export async function activeProject(ports: Pick<GatewayPorts, 'directory'>, id: string): Promise<Project> {
  const project = await knownProject(ports, id);
  if (project.archivedAtMs !== null)
    throw invalidRequest('The project is archived and can no longer be changed.', null);
  return project;
}

/** The ledger first: a project that is listed can be used. */
export async function createProject(
  { directory, ledger, clock, random }: DirectoryPorts,
  name: string,
): Promise<Project> {
  const project: Project = { id: drawId('proj', random), name, createdAtMs: clock.now(), archivedAtMs: null };
  await ledger.openTenant(project.id);
  await directory.createProject(project, random(CACHE_SALT_BYTES));
  return project;
}

/** Below /v1/organization/projects; the admin key is checked already. */
export function projectRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { directory, ledger, clock, log } = ports;
  const maxBytes = ports.settings.maxBodyBytes;
  app.post('/', async (c) => {
    const { name } = await readJson(c.req.raw, projectBodySchema, maxBytes);
    const project = await createProject(ports, name);
    log.info('project_created', { project: project.id });
    return c.json(projectBody(project));
  });
  app.get('/', async (c) => {
    const includeArchived = checked(projectQuery, c.req.query()).include_archived === 'true';
    const { items, hasMore } = await directory.projects({ ...pageOf(c.req.query()), includeArchived });
    return c.json(listBody(items.map(projectBody), hasMore));
  });
  app.get('/:project', async (c) => c.json(projectBody(await knownProject(ports, c.req.param('project')))));
  app.post('/:project', async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const { name } = await readJson(c.req.raw, projectBodySchema, maxBytes);
    await directory.renameProject(project.id, name);
    return c.json(projectBody({ ...project, name }));
  });
  app.post('/:project/archive', async (c) => {
    const { id } = await knownProject(ports, c.req.param('project'));
    await ledger.archiveTenant(id);
    await directory.archiveProject(id, clock.now());
    log.info('project_archived', { project: id });
    return c.json(projectBody(await knownProject(ports, id)));
  });
  return app;
}
