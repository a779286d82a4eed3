// Writes docs/reference/processing.md, the register of processing, from private.processing_register.
//   DB_URL=… node scripts/processing-register.mjs FILE           writes FILE
//   DB_URL=… node scripts/processing-register.mjs --check FILE   exits 1 when FILE is not what it would write
import { readFileSync, writeFileSync } from 'node:fs';
import pg from 'pg';

const HEAD = `# Register of processing

Made from \`private.processing_register\` by \`scripts/processing-register.mjs\`. Do not edit it. It
is the record of processing activities of GDPR Article 30, as far as the database knows it: what is
kept of whom, why, for how long, and what an [export and an erasure](../guides/privacy.md) do with
it.

- **Export**: of the person, or only that of an [organization](../glossary.md) of which nobody else
  is a member.
- **Erasure**: with the person (the row goes, or the column is emptied), with the organization, by
  the end of a retention time, or not at all.
`;

const client = new pg.Client({ connectionString: process.env.DB_URL });
await client.connect();
const { rows } = await client.query(
  `select table_name, subject, purpose, columns, export, erasure, kept_for, reason from private.processing_register
   where table_name !~ '^(auth|auth_api|storage|storage_service|kijko)[.]' or table_name ~ '^(auth[.](users|identities|sessions|mfa_factors)|storage[.]objects)$'
   order by table_name collate "C", subject collate "C", purpose collate "C"`,
);
await client.end();

/** Lines of at most 100 columns. */
const wrap = (text) => text.replace(/(.{1,100})(?:\s+|$)/g, '$1\n').trimEnd();
const cell = (text) => String(text).replaceAll('|', '\\|').replaceAll('\n', ' ');
const tables = Map.groupBy ? Map.groupBy(rows, (row) => row.table_name) : new Map();
if (!Map.groupBy) for (const row of rows) tables.set(row.table_name, [...(tables.get(row.table_name) ?? []), row]);
const sections = [...tables].map(([table, lines]) => {
  const [{ kept_for: kept, reason }] = lines;
  return [
    `## ${table}`,
    '',
    ...(kept ? [wrap(`Kept: ${kept}. Why: ${reason}.`), ''] : []),
    '| Whose | Why | Columns | Export | Erasure |',
    '|---|---|---|---|---|',
    ...lines.map((line) =>
      [
        '',
        line.subject,
        cell(line.purpose),
        line.columns
          .split(', ')
          .map((name) => `\`${name}\``)
          .join(', '),
        line.export,
        line.erasure,
        '',
      ]
        .join(' | ')
        .trim(),
    ),
    '',
  ].join('\n');
});
const text = `${HEAD}\n${sections.join('\n')}`;
const file = process.argv.at(-1);
if (process.argv[2] !== '--check') writeFileSync(file, text);
else if (readFileSync(file, 'utf8') !== text) {
  process.stderr.write(`${file} is not what the database says. Write it anew: node scripts/processing-register.mjs ${file}\n`);
  process.exit(1);
}
