// `npm run config:schema`: writes hearth.schema.json and renews the tables of docs/configuration.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { schemaText, withTables } from './configDocs.ts';

const schema = new URL('../hearth.schema.json', import.meta.url);
const document = new URL('../docs/configuration.md', import.meta.url);
writeFileSync(schema, schemaText());
writeFileSync(document, withTables(readFileSync(document, 'utf8')));
