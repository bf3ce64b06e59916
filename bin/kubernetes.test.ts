// What deploy/kubernetes applies is what Kubernetes accepts and what this code does: every object against the schemas of two versions, strictly;
// then what no schema knows, such as that a probe's path is a route and that a drain ends before the pod is killed.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { parseSection } from '../gateway/config.ts';
import { poolSection } from '../pool/config.ts';
import { engineMetricLines } from '../pool/engineMetrics.ts';
import { MUST_HAVE_PYTHON, pipPackage, whyNoPython } from '../test/support/pipPackage.ts';
import { parseConfig } from './config.ts';
import { ENV_ONLY, ENV_OVERRIDES, isForeign } from './configSchema.ts';
import { headOf, OVERLAYS, type Overlay, render, renderedFile } from './kubernetesRender.ts';
import { enrolledSection, gatewaySectionOf, poolSectionOf } from './sections.ts';
import { STOP_MARGIN_MS } from './service.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'deploy/kubernetes');
const scratch = mkdtempSync(join(tmpdir(), 'hearth-kubernetes-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Carries the schemas of each version of Kubernetes. */
const VALIDATOR = 'kubernetes-validate==1.37.0';
/** The oldest that is promised, for a StatefulSet's claims that are kept, and the newest that the validator has. */
const VERSIONS = ['1.32', '1.37'];

interface Meta {
  name: string;
  namespace?: string;
  labels?: Record<string, string>;
}
interface Probe {
  httpGet: { scheme: string; port: string; path: string };
}
interface Container {
  name: string;
  image: string;
  command?: string[];
  ports: { name: string; containerPort: number }[];
  env: { name: string; value?: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[];
  lifecycle?: { preStop: { exec: { command: string[] } } };
  startupProbe: Probe;
  livenessProbe: Probe;
  readinessProbe: Probe;
  securityContext: Record<string, unknown>;
  resources: { requests: Record<string, string>; limits: Record<string, string> };
  volumeMounts: { name: string; mountPath: string; subPathExpr?: string }[];
}
interface PodSpec {
  containers: Container[];
  serviceAccountName: string;
  automountServiceAccountToken: boolean;
  terminationGracePeriodSeconds: number;
  securityContext: Record<string, unknown>;
  volumes: { name: string; secret?: { secretName: string } }[];
}
interface Selector {
  matchLabels: Record<string, string>;
}
/** As much of any object as is looked at. */
interface KubernetesObject {
  kind: string;
  metadata: Meta;
  data?: Record<string, string>;
  spec?: {
    selector?: Selector | Record<string, string>;
    podSelector?: Selector;
    template?: { metadata: Meta; spec: PodSpec };
    serviceName?: string;
    publishNotReadyAddresses?: boolean;
    ports?: { port: number; targetPort: string }[];
    replicas?: number;
    scaleTargetRef?: { kind: string; name: string };
    metrics?: { pods: { metric: { name: string } } }[];
    ingress?: { ports: { port: string }[] }[];
    volumeClaimTemplates?: { metadata: Meta }[];
  };
}

function objectsOf(text: string): KubernetesObject[] {
  return parseAllDocuments(text).map((document) => document.toJS() as KubernetesObject);
}

const textOf = (overlay: Overlay) => readFileSync(renderedFile(folder, overlay), 'utf8');

describe.each(OVERLAYS)('the overlay %s', (overlay) => {
  it('is rendered from what lies beside it', () => {
    expect(textOf(overlay).split('\n')[0], 'run: npm run kubernetes:render').toBe(headOf(folder));
    const now = render(folder, overlay);
    if (now === null) console.log('neither kustomize nor kubectl is here: only the digest of the sources is compared');
    else expect(textOf(overlay)).toBe(now);
  });

  it.for(VERSIONS)('is what Kubernetes %s accepts, with no field that it does not know', (version, { skip }) => {
    const missing = whyNoPython();
    if (missing && MUST_HAVE_PYTHON) throw new Error(missing);
    if (missing) return skip(missing);
    expect(refusalOf(textOf(overlay), version)).toBeNull();
    for (const [field, wrong] of [
      ['failureThreshold:', 'failureTreshold:'],
      ['readOnlyRootFilesystem: true', 'readOnlyRootFilesystem: "yes"'],
      ['kind: StatefulSet', 'kind: StatefullSet'],
    ] as const)
      expect(refusalOf(textOf(overlay).replace(field, wrong), version), wrong).toMatch(/tatefu|Treshold|yes/);
  });

  const objects = objectsOf(textOf(overlay));
  const ofKind = (kind: string) => objects.filter((one) => one.kind === kind);
  const named = (kind: string, name: string) => {
    const found = ofKind(kind).find(({ metadata }) => metadata.name === name);
    if (!found) throw new Error(`there is no ${kind} ${name}`);
    return found;
  };
  const podOf = (kind: string, name: string) => {
    const template = named(kind, name).spec?.template;
    const [container] = template?.spec.containers ?? [];
    if (!template || !container) throw new Error(`${kind} ${name} has no pod`);
    return { labels: template.metadata.labels ?? {}, pod: template.spec, container };
  };
  const gateway = podOf('Deployment', 'hearth-gateway');
  const pool = podOf('StatefulSet', 'hearth-pool');
  const files = ofKind('ConfigMap')[0]?.data ?? {};

  /** As the process in the pod reads it. */
  const configOf = ({ container }: typeof pool) => {
    const name = 'hearth-pool-0';
    const known: Record<string, string> = { HEARTH_POOL_ID: name, POD_NAMESPACE: 'hearth' };
    const env = Object.fromEntries(
      container.env.map((one) => {
        const value = one.value ?? known[one.name] ?? (one.valueFrom?.secretKeyRef ? 'from a secret' : '');
        return [one.name, value.replace(/\$\((\w+)\)/g, (_, key: string) => known[key] ?? `no ${key}`)];
      }),
    );
    const file = env.HEARTH_CONFIG?.split('/').at(-1) ?? '';
    return { env, config: parseConfig(JSON.parse(files[file] ?? 'null'), env, file) };
  };
  const secrets = { adminKey: `sk-admin-${'k'.repeat(40)}`, pepperHex: 'cd'.repeat(32) };
  const gatewayConfig = configOf(gateway);
  const gatewaySection = parseSection(
    gatewaySectionOf({ config: gatewayConfig.config, file: null, ...secrets }, [], null),
  );
  const poolConfig = configOf(pool);
  const { enrolled, pools } = poolConfig.config;
  const own = pools[0];
  if (!enrolled || !own || isForeign(own)) throw new Error('the pool is enrolled, and ours');
  const served = poolSection.parse(
    enrolledSection(
      poolSectionOf(
        { config: poolConfig.config, file: null, adminKey: null, pepperHex: null },
        own,
        { poolId: enrolled.id, keyId: 'k', secretHex: 'ab'.repeat(32) },
        {
          modelPaths: new Map([[poolConfig.config.models[0]?.id ?? '', '/m']]),
          dawnFlags: [],
          tuningFile: '/t',
          port: 9000,
        },
      ),
      enrolled,
    ),
  );

  it('has configurations that the code accepts, and that say the same as the manifests', () => {
    const port = (of: typeof pool, name: string) => of.container.ports.find((one) => one.name === name)?.containerPort;
    expect(port(gateway, 'https')).toBe(gatewaySection.port);
    expect(port(pool, 'https')).toBe(served.port);
    expect(port(pool, 'metrics')).toBe(served.metrics?.port);
    expect(named('Service', 'hearth-pool').spec?.ports?.map((one) => one.port)).toEqual([
      served.port,
      served.metrics?.port,
    ]);
    expect(gatewaySection).toMatchObject({ mode: 'production', host: '0.0.0.0', trustProxy: false, pools: [] });
    for (const [section, { container }] of [[gatewaySection, gateway] as const, [served, pool] as const]) {
      const tls = container.volumeMounts.find((mount) => mount.name === 'tls')?.mountPath;
      expect(section.tls).toEqual({ certFile: `${tls}/tls.crt`, keyFile: `${tls}/tls.key` });
      expect(container.env.find(({ name }) => name === 'NODE_EXTRA_CA_CERTS')?.value).toBe(`${tls}/ca.crt`);
    }
    expect(pool.container.volumeMounts).toContainEqual(
      expect.objectContaining({ mountPath: enrolled.keyFile, subPathExpr: '$(HEARTH_POOL_ID)' }),
    );
    expect(poolConfig.config.adapter).toBe({ dev: 'lavapipe', gpu: 'hardware' }[overlay]);
  });

  it('announces pools by names that lead to them, at a gateway that is reached before it is ready', () => {
    const { host, pathname } = new URL(enrolled.url);
    const set = named('StatefulSet', 'hearth-pool');
    expect(`${host}${pathname}`).toBe(`hearth-pool-0.${set.spec?.serviceName}.hearth.svc:${served.port}/`);
    const heartbeats = new URL(enrolled.gateway);
    const service = named('Service', heartbeats.hostname);
    expect(service.spec).toMatchObject({
      publishNotReadyAddresses: true,
      selector: gateway.labels['app.kubernetes.io/name'] && { 'app.kubernetes.io/name': 'hearth-gateway' },
    });
    expect(service.spec?.ports?.map(({ port }) => String(port))).toContain(heartbeats.port);
  });

  it('reads no variable that the code does not', () => {
    const ours = [...ENV_OVERRIDES.map(({ name }) => name), ...ENV_ONLY.flatMap(({ name }) => name.split(', '))];
    const others = ['NODE_EXTRA_CA_CERTS', 'POD_NAMESPACE', 'NVIDIA_DRIVER_CAPABILITIES'];
    for (const { container } of [gateway, pool])
      for (const { name } of container.env) expect([...ours, ...others]).toContain(name);
  });

  it('probes routes that there are, where they are answered', () => {
    const routes: [typeof pool, string][] = [
      [gateway, readFileSync(join(root, 'gateway/routes/operations.ts'), 'utf8')],
      [pool, readFileSync(join(root, 'pool/door.ts'), 'utf8')],
    ];
    for (const [{ container }, source] of routes)
      for (const { httpGet } of [container.startupProbe, container.livenessProbe, container.readinessProbe]) {
        expect(source).toContain(`app.get('${httpGet.path}'`);
        expect(httpGet).toMatchObject({ scheme: 'HTTPS', port: 'https' });
      }
  });

  it('lets a drain end before the pod is killed', () => {
    for (const [{ pod, container }, drainMs] of [
      [gateway, gatewaySection.drainMs] as const,
      [pool, served.drainMs] as const,
    ]) {
      const waits = Number(container.lifecycle?.preStop.exec.command[1] ?? 0) * 1000;
      expect(pod.terminationGracePeriodSeconds * 1000).toBeGreaterThan(waits + drainMs + STOP_MARGIN_MS);
    }
  });

  it('selects what it means to, and scales by a series that pools have', () => {
    const pods = [gateway.labels, pool.labels];
    const matches = (selector: Record<string, string>) =>
      pods.filter((labels) => Object.entries(selector).every(([key, value]) => labels[key] === value)).length;
    for (const { kind, metadata, spec } of objects) {
      const selector = spec?.selector ?? spec?.podSelector;
      if (!selector || kind === 'PersistentVolumeClaim') continue;
      const labels = 'matchLabels' in selector ? (selector.matchLabels as Record<string, string>) : selector;
      expect(matches(labels as Record<string, string>), `${kind} ${metadata.name}`).toBe(
        metadata.name === 'hearth-nothing-else' ? 2 : 1,
      );
    }
    const [scaler] = ofKind('HorizontalPodAutoscaler');
    expect(scaler === undefined).toBe(overlay === 'dev');
    if (!scaler) return;
    const { scaleTargetRef: target, metrics } = scaler.spec ?? {};
    expect(named(target?.kind ?? '', target?.name ?? '').spec?.replicas, 'the autoscaler owns it').toBeUndefined();
    expect(exportedSeries()).toContain(metrics?.[0]?.pods.metric.name);
  });

  it('gives its pods no more than they need', () => {
    const { version }: { version: string } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    expect(ofKind('Secret')).toEqual([]);
    for (const { pod, container } of [gateway, pool]) {
      expect(container.image).toMatch(new RegExp(`^[a-z0-9./-]+:${version}$`));
      expect(pod.automountServiceAccountToken).toBe(false);
      expect(named('ServiceAccount', pod.serviceAccountName)).toMatchObject({ automountServiceAccountToken: false });
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
      expect(container.securityContext).toEqual({
        ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
      });
      expect(Object.keys(container.resources.requests)).toEqual(['cpu', 'memory']);
      expect(container.resources.limits.memory).toBeDefined();
      // What the image's variables name must be writable.
      for (const path of ['/var/lib/hearth', '/var/cache/hearth', '/run/hearth', '/tmp'])
        expect(container.volumeMounts.map((mount) => mount.mountPath)).toContain(path);
      const wanted = [
        ...pod.volumes.flatMap(({ secret }) => secret?.secretName ?? []),
        ...container.env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef?.name ?? []),
      ];
      const readme = readFileSync(join(folder, 'README.md'), 'utf8');
      for (const name of wanted)
        expect(readme, 'how it is made').toMatch(new RegExp(`secret \\w+ ${name}\\b|secretName: ${name}\\b`));
    }
  });
});

/** What the validator says; null: nothing, of which it also says that it knows a schema for each object. */
function refusalOf(text: string, version: string): string | null {
  const file = join(scratch, 'objects.yaml');
  writeFileSync(file, text);
  const { status, stdout, stderr } = spawnSync(
    'python3',
    ['-m', 'kubernetes_validate', '--kubernetes-version', version, '--strict', '--quiet', file],
    { encoding: 'utf8', env: { ...process.env, PYTHONPATH: pipPackage(VALIDATOR) } },
  );
  const said = `${stdout}${stderr}`;
  return status === 0 && said === '' ? null : said;
}

/** Names of the series of an engine. */
function exportedSeries(): string[] {
  const none = { count: 0, sum: 0, buckets: [] };
  const lines = engineMetricLines(
    {
      engines: [
        {
          ...{ models: ['m'], running: 0, waiting: 0, waiting_tokens: 0, wasted_positions: 0, steps: 0 },
          ...{ prompt_tokens: 0, cached_tokens: 0, output_tokens: 0, drafted_tokens: 0, accepted_draft_tokens: 0 },
          ...{ preemptions: 0, evictions: 0, blocks: { total: 0, free: 0, cached: 0, used: 0 }, tenants: [] },
          ...{ attribution: { pairs: [], has_more: false }, reuse_gap_ms: none, lifetime_ms: none },
          ...{ reuse_gap_blocks: none, lifetime_blocks: none },
        },
      ],
      tiers: null,
    },
    0,
  );
  return lines.flatMap((line) => /^(\w+)\{/.exec(line)?.[1] ?? []);
}
