// The generated types: what the generator makes of the database, that typed clients compile under --strict with the latest
// TypeScript and that what is said never to be null is not.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { mapProperties, namesIn, refinement, unionOf } from '../../scripts/refine-types.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const here = join(root, 'tests/types');

/** Compiles files with the settings of tsconfig.json; resolves with the compiler's complaints. */
async function compile(files) {
  const { compilerOptions } = JSON.parse(await readFile(join(here, 'tsconfig.json'), 'utf8'));
  const config = join(here, `tsconfig.${process.pid}.json`);
  await writeFile(config, JSON.stringify({ compilerOptions, files }));
  try {
    return await new Promise((resolve, reject) => {
      execFile(join(root, 'node_modules/.bin/tsc'), ['-p', config], { cwd: here }, (error, stdout, stderr) => {
        if (error && !stdout) reject(new Error(`tsc: ${error.message} ${stderr}`));
        else resolve(stdout);
      });
    });
  } finally {
    await rm(config, { force: true });
  }
}

async function compileText(text) {
  const file = `generated.${process.pid}.ts`;
  await writeFile(join(here, file), text);
  try {
    return await compile([file]);
  } finally {
    await rm(join(here, file), { force: true });
  }
}

test('correct use of the typed client compiles, and wrong use does not', async () => {
  assert.equal(await compile(['snippets.ts']), '');
  const wrong = await compileText(`
    import { createClient } from '@supabase/supabase-js';
    import type { Database } from '../../supabase/database.types.ts';
    createClient<Database>('', '').from('executions').select('id').eq('status', 'done');`);
  assert.match(wrong, /error TS/);
});

test('a check on a list of texts becomes a union; any other check does not', () => {
  assert.deepEqual(unionOf(`CHECK ((status = ANY (ARRAY['a'::text, 'it''s, "b"'::text])))`), {
    column: 'status',
    union: `"a" | "it's, \\"b\\""`,
  });
  assert.deepEqual(
    unionOf(
      `CHECK (\nCASE\n    WHEN (x IS NULL) THEN (status = ANY (ARRAY['a'::text, 'b'::text]))\n    ELSE (status = ANY (ARRAY['c'::text, 'b'::text]))\nEND)`,
    ),
    { column: 'status', union: '"a" | "b" | "c"' },
  );
  for (const other of [
    'CHECK ((char_length(name) <= 100))',
    `CHECK (((status = ANY (ARRAY['a'::text])) = (x IS NOT NULL)))`,
    `CHECK ((n = ANY (ARRAY[1, 2])))`,
    `CHECK (((status = ANY (ARRAY['a'::text])) OR (x > 1)))`,
    `CHECK (\nCASE\n    WHEN x THEN (a = ANY (ARRAY['a'::text]))\n    ELSE (b = ANY (ARRAY['b'::text]))\nEND)`,
    `CHECK (\nCASE\n    WHEN x THEN (a = ANY (ARRAY['a'::text]))\n    ELSE true\nEND)`,
  ])
    assert.equal(unionOf(other), undefined, other);
});

test('a comment lists names up to the period', () => {
  assert.deepEqual(namesIn('Something. Nullable: limit, reset_at. Definer: because.', 'Nullable'), ['limit', 'reset_at']);
  assert.deepEqual(namesIn('Not nullable: it never is', 'Nullable'), []);
  assert.deepEqual(namesIn(null, 'Nullable'), []);
});

const GENERATED = `export type Json = string | { [key: string]: Json | undefined };

export type Database = {
  public: {
    Tables: { t: { Row: { kind: string; "odd name": string | null; n: number; sum: Json | null; parent: { kind: string } | null }; Insert: { kind?: string }; ComputedFields: never } };
    Views: { v: { Row: { id: string | null; data: Json | null; note: string | null } } };
    Functions: {
      f: { Args: { since?: string; n: number }; Returns: { limit: number; kind: string }[] };
      g: { Args: Record<PropertyKey, never>; Returns: string };
      h: { Args: { id: string }; Returns: { kind: string }; SetofOptions: { to: "t" } };
      o: { Args: { a: Json }; Returns: Json } | { Args: { a: Json; b?: string }; Returns: Json };
    };
  };
};

export const Constants = { public: { Enums: {} } } as const;
`;
const known = {
  checked: [{ relation: 't', definition: `CHECK ((kind = ANY (ARRAY['a'::text, 'b'::text])))` }],
  views: [{ name: 'v', comment: 'A view. Never null: id, data.' }],
  functions: [
    { name: 'f', comment: 'Nullable: limit.', relation: null, nullable_arguments: ['since'] },
    { name: 'g', comment: 'Nullable: result.', relation: null, nullable_arguments: [] },
    { name: 'h', comment: '', relation: 't', nullable_arguments: [] },
    { name: 'sum', comment: '', relation: null, computed_of: 't', nullable_arguments: [] },
    { name: 'parent', comment: '', relation: 't', computed_of: 't', nullable_arguments: [] },
    { name: 'o', comment: '', relation: null, nullable_arguments: [] },
    { name: 'o', comment: '', relation: null, nullable_arguments: ['b'] },
  ],
};

test('unions and nullability change only the properties they name', () => {
  const { refine, unmet } = refinement(known);
  const refined = mapProperties(GENERATED, refine);
  assert.equal(
    refined,
    GENERATED.replace('Row: { kind: string;', 'Row: { kind: "a" | "b";')
      .replace('sum: Json | null', 'sum: Json')
      .replace('parent: { kind: string }', 'parent: { kind: "a" | "b" }')
      .replace('kind?: string', 'kind?: "a" | "b"')
      .replace('id: string | null; data: Json | null', 'id: string; data: NonNullable<Json>')
      .replace('since?: string', 'since?: string | null')
      .replace('limit: number', 'limit: number | null')
      .replace('Returns: string', 'Returns: string | null')
      .replace('Returns: { kind: string }', 'Returns: { kind: "a" | "b" }')
      .replace('b?: string', 'b?: string | null'),
  );
  assert.equal(unmet.size, 0);
  assert.equal(
    mapProperties(GENERATED, (_, type) => type),
    GENERATED,
  );
});

test('a comment that names a missing column is reported', () => {
  const { refine, unmet } = refinement({ ...known, views: [{ name: 'v', comment: 'Never null: id, ghost.' }] });
  mapProperties(GENERATED, refine);
  assert.deepEqual([...unmet], ['v.ghost']);
});

// ---- what is said of nulls, against rows
const pool = new pg.Pool({ connectionString: process.env.ADMIN_DB_URL, max: 1 });
after(() => pool.end());

test('columns of views declared never null have no null, whatever happens to a job', async () => {
  const session = await pool.connect();
  try {
    await session.query('begin');
    const {
      rows: [{ id: org }],
    } = await session.query(`insert into public.organizations (name) values ('types') returning id`);
    await session.query(`select private.jobs_enqueue($1, 'types_test', max_attempts => 1) from generate_series(1, 4)`, [org]);
    const { rows: jobs } = await session.query(`select id, attempt from private.jobs_claim('w', '1 minute', 3, array['types_test'])`);
    assert.equal(jobs.length, 3);
    await session.query(`select private.jobs_complete('w', $1)`, [JSON.stringify([jobs[0]])]);
    await session.query(`select private.jobs_fail('w', $1, 'x', 'y', true)`, [jobs[1].id]);
    await session.query(`select private.jobs_cancel($1)`, [jobs[2].id]);
    await session.query(`select kijko.record_usage($1, 'code_searches', 1, now() - n * interval '1 day') from generate_series(0, 8) as n`, [
      org,
    ]);
    const { rows: views } = await session.query(`
      select c.relname as name, obj_description(c.oid, 'pg_class') as comment from pg_class as c
      where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'`);
    for (const { name, comment } of views) {
      const columns = namesIn(comment, 'Never null');
      assert.ok(columns.length > 0, `${name} says which columns are never null`);
      const {
        rows: [{ rows, nulls }],
      } = await session.query(
        `select count(*)::int as rows, count(*) filter (where num_nulls(${columns.map((c) => `"${c}"`)}) > 0)::int as nulls from public."${name}" where org_id = $1`,
        [org],
      );
      assert.ok(rows >= 8, `${name} has rows`);
      assert.equal(nulls, 0, name);
    }
  } finally {
    await session.query('rollback');
    session.release();
  }
});
