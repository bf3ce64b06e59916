// `npm run kubernetes:render`: writes deploy/kubernetes/rendered. Needs kustomize, or kubectl.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { OVERLAYS, render, renderedFile } from './kubernetesRender.ts';

const folder = fileURLToPath(new URL('../deploy/kubernetes', import.meta.url));
for (const overlay of OVERLAYS) {
  const text = render(folder, overlay);
  if (text === null) {
    console.error('hearth: neither kustomize nor kubectl is there; install one of them.');
    process.exit(1);
  }
  writeFileSync(renderedFile(folder, overlay), text);
}
