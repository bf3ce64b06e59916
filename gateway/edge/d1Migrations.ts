// The central steps of migrations.ts as the files that `wrangler d1 migrations apply` reads: wrangler has no other way to apply SQL, and
// keeps its own list of what was applied. `npm run edge:migrations` writes them; a test fails where they differ.
import { CENTRAL_MIGRATIONS } from '../migrations.ts';

/** Name and content of each file, in order; a step that concerns ledgers alone has none. */
export function d1Migrations(): { name: string; text: string }[] {
  return CENTRAL_MIGRATIONS.flatMap((step, index) => {
    const lines = step.split('\n').map((line) => line.replace(/^ {4}/, ''));
    const text = `${lines.join('\n').trim()}\n`;
    return step.trim() === '' ? [] : [{ name: `${String(index + 1).padStart(4, '0')}_schema.sql`, text }];
  });
}

/** For a D1 that is not wrangler's, which takes statements one by one: each ends with a semicolon at the end of a line. */
export function statementsOf(text: string): string[] {
  return text
    .split(/;[^\S\n]*(?:\n|$)/)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '');
}
