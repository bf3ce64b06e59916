// What deploy/ holds fits what it deploys: the configuration is accepted with the secrets that it asks for, and refused without.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { parseSection } from '../gateway/config.ts';
import { loadConfig } from './config.ts';
import { gatewaySectionOf } from './sections.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (file: string) => readFileSync(`${root}/deploy/${file}`, 'utf8');

it('a container serves beyond its loopback with the secrets of its environment, and not without', () => {
  const [, config = ''] = /HEARTH_CONFIG=(\S+)/.exec(read('Containerfile')) ?? [];
  const section = (env: NodeJS.ProcessEnv) =>
    gatewaySectionOf(loadConfig(root, { HEARTH_CONFIG: config, ...env }), [], null);
  const secrets = { HEARTH_ADMIN_KEY: `sk-admin-${'k'.repeat(40)}`, HEARTH_PEPPER: 'cd'.repeat(32) };
  expect(parseSection(section(secrets))).toMatchObject({ host: '0.0.0.0', port: 8787, mode: 'production' });
  expect(() => parseSection(section({}))).toThrow(/adminKey/);
});

it('both start the launcher that the packages name, and hang up to reload', () => {
  const { scripts }: { scripts: { start: string } } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
  expect(read('hearth.service')).toContain(`ExecStart=/usr/bin/env ${scripts.start}`);
  expect(read('Containerfile')).toContain(
    `ENTRYPOINT ${JSON.stringify(scripts.start.split(' ')).replaceAll(',', ', ')}`,
  );
  expect(read('hearth.service')).toContain('ExecReload=/bin/kill -HUP $MAINPID');
});
