// `npm run edge:migrations`: writes the files that D1 is migrated with.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { d1Migrations } from '../gateway/edge/d1Migrations.ts';

const folder = join(import.meta.dirname, '../gateway/edge/d1');
for (const { name, text } of d1Migrations()) writeFileSync(join(folder, name), text);
