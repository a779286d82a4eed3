// Writes docs/reference/sql.md from a running database: what the schemas public, private and kijko offer, and to whom.
//   DB_URL=… node scripts/sql-reference.mjs FILE           writes FILE
//   DB_URL=… node scripts/sql-reference.mjs --check FILE   exits 1 when FILE is not what it would write
// The output depends on the database's contents alone: names are sorted bytewise, and nothing of the server (owner ids, versions,
// times) is in it.
import { readFile, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import pg from 'pg';

// Owners are left out: an owner has every right, and which role it is does not concern a caller.
const AUDIENCES = [
  'anon',
  'authenticated',
  'service_role',
  'postgres',
  'kijko_sidecar',
  'kijko_gateway',
  'kijko_indexer',
  'authenticator',
  'kijko_login',
  'kijko_login_anon',
  'supabase_auth_admin',
];

const SCHEMAS = [
  {
    name: 'public',
    title: 'Schema public: the API',
    about: 'Served by PostgREST. Tables are subject to row level security: what a caller may see and do is in the policies.',
    tables: true,
  },
  {
    name: 'private',
    title: 'Schema private: worker functions and helpers',
    about: 'Never exposed by PostgREST. `kijko_sidecar` and `kijko_indexer` may call their worker functions, and no others here.',
    tables: true,
  },
  {
    name: 'kijko',
    title: 'Schema kijko: the extension',
    about: 'Not exposed by PostgREST either; SQL and other functions call it.',
    tables: true,
  },
];

const RELATIONS = `
  select c.oid::int, c.relname as name, c.relkind::text as kind, obj_description(c.oid, 'pg_class') as comment, c.relrowsecurity as secured
  from pg_class c
  where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'v', 'm', 'p') and not c.relispartition
  order by c.relname collate "C"`;

const COLUMNS = `
  select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as required,
    case when a.attidentity <> '' then 'identity' when a.attgenerated <> '' then 'generated: ' || pg_get_expr(d.adbin, d.adrelid)
      else pg_get_expr(d.adbin, d.adrelid) end as value,
    col_description(a.attrelid, a.attnum) as comment
  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
  order by a.attnum`;

// Keys and checks. Foreign keys' names say nothing that their definition does not.
const CONSTRAINTS = `
  select pg_get_constraintdef(oid, true) as definition
  from pg_constraint
  where conrelid = $1 and contype in ('p', 'u', 'f', 'c', 'x')
  order by array_position(array['p', 'u', 'f', 'c', 'x']::"char"[], contype), pg_get_constraintdef(oid, true) collate "C"`;

const UNIQUE_INDEXES = `
  select pg_get_indexdef(i.indexrelid) as definition
  from pg_index i
  where i.indrelid = $1 and i.indisunique and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
  order by pg_get_indexdef(i.indexrelid) collate "C"`;

const POLICIES = `
  select p.polname as name,
    case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end as command,
    array(select case r.oid when 0 then 'public' else pg_get_userbyid(r.oid) end from unnest(p.polroles) r (oid) order by 1)::text[] as roles,
    p.polpermissive as permissive,
    pg_get_expr(p.polqual, p.polrelid) as visible, pg_get_expr(p.polwithcheck, p.polrelid) as allowed,
    obj_description(p.oid, 'pg_policy') as comment
  from pg_policy p
  where p.polrelid = $1
  order by array_position(array['r', 'a', 'w', 'd', '*']::"char"[], p.polcmd), p.polname collate "C"`;

const TABLE_GRANTS = `
  select pg_get_userbyid(x.grantee) as role, lower(x.privilege_type) as privilege, null::text as column_name
  from pg_class c, aclexplode(c.relacl) x
  where c.oid = $1 and x.grantee <> c.relowner
  union all
  select pg_get_userbyid(x.grantee), lower(x.privilege_type), a.attname
  from pg_class c join pg_attribute a on a.attrelid = c.oid, aclexplode(a.attacl) x
  where c.oid = $1 and x.grantee <> c.relowner and not a.attisdropped
  order by 1, 2, 3`;

const FUNCTIONS = `
  select p.oid::int, p.proname as name, pg_get_function_arguments(p.oid) as arguments,
    coalesce(pg_get_function_result(p.oid), '') as result, p.prokind::text as kind,
    p.provolatile::text as volatility, p.prosecdef as definer, p.proisstrict and p.pronargs > 0 as strict,
    obj_description(p.oid, 'pg_proc') as comment,
    has_function_privilege('public', p.oid, 'execute') as everybody
  from pg_proc p
  where p.pronamespace = $1::regnamespace and p.prokind in ('f', 'p', 'a', 'w')
    and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'i')
  order by p.proname collate "C", pg_get_function_identity_arguments(p.oid) collate "C"`;

const EXECUTORS = `
  select r.rolname as role
  from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x join pg_roles r on r.oid = x.grantee
  where p.oid = $1 and x.grantee <> p.proowner and r.rolname = any ($2::text[])
  order by array_position($2::text[], r.rolname::text)`;

const TYPES = `
  select t.oid::int, t.typname as name, t.typtype::text as kind, obj_description(t.oid, 'pg_type') as comment,
    format_type(t.typbasetype, t.typtypmod) as base, t.typrelid::int as relation,
    array(select pg_get_constraintdef(c.oid, true) from pg_constraint c where c.contypid = t.oid order by c.conname) as checks,
    array(select e.enumlabel from pg_enum e where e.enumtypid = t.oid order by e.enumsortorder)::text[] as labels
  from pg_type t left join pg_class c on c.oid = t.typrelid
  where t.typnamespace = $1::regnamespace and (t.typtype in ('d', 'e') or (t.typtype = 'c' and c.relkind = 'c'))
  order by t.typname collate "C"`;

const SETTINGS = `
  select name, vartype as type, context, coalesce(boot_val, '') as value, short_desc as about, extra_desc as more
  from pg_settings where name like 'kijko.%'
  order by name collate "C"`;

// ---- markdown

const code = (text) => `\`${String(text).replaceAll(/\s+/g, ' ').replaceAll('|', '\\|')}\``;
const cell = (text) => (text ?? '').replaceAll(/\s+/g, ' ').replaceAll('|', '\\|').trim();
const list = (items) => items.map(code).join(', ');

// Default expressions are printed with the schemas that a reader needs: pg_get_expr leaves out what is in the search path, so
// the session has none.
function tableOf(columns) {
  const lines = ['| Column | Type | Default | |', '|---|---|---|---|'];
  for (const column of columns) {
    const type = code(column.type) + (column.required ? '' : ', optional');
    lines.push(`| ${code(column.name)} | ${type} | ${column.value ? code(column.value) : ''} | ${cell(column.comment)} |`);
  }
  return lines;
}

function policyLine(policy) {
  const parts = [`- ${policy.command} by ${list(policy.roles)}${policy.permissive ? '' : ' (restrictive)'}`];
  if (policy.visible) parts.push(`where ${code(policy.visible)}`);
  if (policy.allowed && policy.allowed !== policy.visible) parts.push(`with check ${code(policy.allowed)}`);
  if (policy.allowed && policy.allowed === policy.visible) parts.push('(the same is checked on the new row)');
  return parts.join(' ') + (policy.comment ? `. ${cell(policy.comment)}` : '');
}

// `select, insert (name, slug)` for each role. A role of the platform that has nothing is not named.
function grantLines(grants) {
  const byRole = new Map();
  for (const { role, privilege, column_name: column } of grants) {
    if (!AUDIENCES.includes(role)) continue;
    if (!byRole.has(role)) byRole.set(role, new Map());
    const privileges = byRole.get(role);
    if (!privileges.has(privilege)) privileges.set(privilege, []);
    if (column) privileges.get(privilege).push(column);
  }
  const order = ['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'];
  return [...byRole.keys()]
    .sort((a, b) => AUDIENCES.indexOf(a) - AUDIENCES.indexOf(b))
    .map((role) => {
      const privileges = [...byRole.get(role)]
        .sort(([a], [b]) => order.indexOf(a) - order.indexOf(b))
        .map(([name, columns]) => (columns.length > 0 ? `${name} (${columns.sort().map(code).join(', ')})` : name));
      return `- ${code(role)}: ${privileges.join(', ')}`;
    });
}

// The comma before a name starts a new parameter; one inside a type or a default does not.
const onePerLine = (parameters) => `\n    ${parameters.replaceAll(/, (?=[a-z_"]+ )/g, ',\n    ')}\n`;

const VOLATILITY = { i: 'immutable', s: 'stable', v: 'volatile' };

function functionLines(fn, executors) {
  const arguments_ = fn.arguments.length > 90 ? onePerLine(fn.arguments) : fn.arguments;
  const table = fn.result.match(/^TABLE\((.*)\)$/);
  const result = table && fn.result.length > 90 ? `TABLE(${onePerLine(table[1])})` : fn.result;
  const traits = [VOLATILITY[fn.volatility]];
  if (fn.strict) traits.push('null in, null out');
  if (fn.definer) traits.push('security definer');
  const may = fn.everybody ? 'everybody' : executors.length > 0 ? list(executors) : 'its owner only';
  return [
    `#### ${fn.name}`,
    '',
    '```sql',
    `${fn.name}(${arguments_})${result ? ` returns ${result}` : ''}`,
    '```',
    '',
    ...(fn.comment ? [cell(fn.comment).replaceAll('\\|', '|'), ''] : []),
    `May execute: ${may}. ${traits.join(', ')[0].toUpperCase()}${traits.join(', ').slice(1)}.`,
    '',
  ];
}

async function relationSection(client, relation) {
  const lines = [`#### ${relation.name}`, ''];
  if (relation.comment) lines.push(cell(relation.comment).replaceAll('\\|', '|'), '');
  lines.push(...tableOf((await client.query(COLUMNS, [relation.oid])).rows), '');
  const rules = (await client.query(CONSTRAINTS, [relation.oid])).rows.map((row) => `- ${code(row.definition)}`);
  const indexes = (await client.query(UNIQUE_INDEXES, [relation.oid])).rows.map(
    (row) => `- ${code(row.definition.replace(/^CREATE UNIQUE INDEX \S+ ON \S+ USING btree/, 'UNIQUE'))}`,
  );
  if (rules.length + indexes.length > 0) lines.push('Keys and checks:', '', ...rules, ...indexes, '');
  const policies = (await client.query(POLICIES, [relation.oid])).rows;
  if (policies.length > 0) lines.push('Policies:', '', ...policies.map(policyLine), '');
  else if (relation.secured) lines.push('Policies: none, so only its owner and roles that bypass row level security see rows.', '');
  const grants = grantLines((await client.query(TABLE_GRANTS, [relation.oid])).rows);
  lines.push(...(grants.length > 0 ? ['Grants:', '', ...grants, ''] : ['Grants: none.', '']));
  return lines;
}

async function typeLines(client, type) {
  const lines = [`#### ${type.name}`, ''];
  if (type.comment) lines.push(cell(type.comment).replaceAll('\\|', '|'), '');
  if (type.kind === 'd') lines.push(`Domain over ${code(type.base)}${type.checks.length > 0 ? `, ${list(type.checks)}` : ''}.`, '');
  if (type.kind === 'e') lines.push(`One of ${list(type.labels)}.`, '');
  if (type.kind === 'c') {
    const { rows } = await client.query(COLUMNS, [type.relation]);
    lines.push(
      '| Field | Type | |',
      '|---|---|---|',
      ...rows.map((row) => `| ${code(row.name)} | ${code(row.type)} | ${cell(row.comment)} |`),
      '',
    );
  }
  return lines;
}

async function schemaSection(client, schema) {
  const exists = (await client.query('select to_regnamespace($1) is not null as yes', [schema.name])).rows[0].yes;
  if (!exists) return [];
  const lines = [`## ${schema.title}`, '', schema.about, ''];
  const types = (await client.query(TYPES, [schema.name])).rows;
  if (types.length > 0) lines.push('### Types', '');
  for (const type of types) lines.push(...(await typeLines(client, type)));
  const relations = (await client.query(RELATIONS, [schema.name])).rows;
  if (relations.length > 0) lines.push('### Tables', '');
  for (const relation of relations) lines.push(...(await relationSection(client, relation)));
  const functions = (await client.query(FUNCTIONS, [schema.name])).rows;
  if (functions.length > 0) lines.push('### Functions', '');
  for (const fn of functions) {
    const { rows } = await client.query(EXECUTORS, [fn.oid, AUDIENCES]);
    lines.push(
      ...functionLines(
        fn,
        rows.map((row) => row.role),
      ),
    );
  }
  return lines;
}

async function errorLines(client) {
  const exists = (await client.query("select to_regclass('kijko.error_codes') is not null as yes")).rows[0].yes;
  if (!exists) return [];
  const { rows } = await client.query('select * from kijko.error_codes order by http_status, code collate "C"');
  return [
    '## Error codes',
    '',
    '| Code | HTTP status | SQLSTATE | Meaning |',
    '|---|---|---|---|',
    ...rows.map((row) => `| ${code(row.code)} | ${row.http_status} | ${code(row.sqlstate)} | ${cell(row.meaning)} |`),
    '',
  ];
}

const WHEN = {
  postmaster: 'at server start',
  sighup: 'on reload',
  superuser: 'by a superuser, in a session',
  user: 'by any role, in a session',
};

async function settingLines(client) {
  const { rows } = await client.query(SETTINGS);
  if (rows.length === 0) return [];
  return [
    '## Settings of the extension',
    '',
    'Those that only a superuser may see are left out: docs/reference/settings.md has all of them.',
    '',
    '| Setting | Type | Default | Set | |',
    '|---|---|---|---|---|',
    ...rows.map((row) => {
      const about = [row.about, row.more].filter(Boolean).map(cell).join(' ');
      return `| ${code(row.name)} | ${row.type} | ${row.value === '' ? '' : code(row.value)} | ${WHEN[row.context] ?? row.context} | ${about} |`;
    }),
    '',
  ];
}

export async function reference(connectionString) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    // One snapshot; and no search path, so that every name in an expression carries its schema.
    await client.query("begin isolation level repeatable read read only; set local search_path = ''");
    const lines = [
      '# SQL reference',
      '',
      "Generated by `scripts/sql-reference.mjs` from the database's own comments, policies and grants. Edit the migrations and generate it",
      'anew; `./kijko test db` refuses a file that is out of date. Trigger functions are left out: they are not called directly.',
      '',
    ];
    for (const schema of SCHEMAS) lines.push(...(await schemaSection(client, schema)));
    lines.push(...(await errorLines(client)), ...(await settingLines(client)));
    return `${lines.join('\n').trimEnd()}\n`;
  } finally {
    await client.end();
  }
}

// ---- command line

// The first place where the two differ, as a hint: the whole difference is what `git diff` shows after writing the file.
function firstDifference(have, want) {
  const [haveLines, wantLines] = [have.split('\n'), want.split('\n')];
  const at = wantLines.findIndex((line, n) => line !== haveLines[n]);
  const line = at === -1 ? wantLines.length : at;
  const heading = wantLines.slice(0, line + 1).findLast((text) => text.startsWith('#')) ?? '';
  return [
    `line ${line + 1}, under '${heading}':`,
    `  file:     ${haveLines[line] ?? '(ends here)'}`,
    `  database: ${wantLines[line] ?? '(ends here)'}`,
  ].join('\n');
}

function misuse() {
  process.stderr.write('usage: DB_URL=postgres://… node scripts/sql-reference.mjs [--check] FILE\n');
  return 2;
}

async function main(args) {
  const check = args[0] === '--check';
  const [file, ...more] = check ? args.slice(1) : args;
  if (!file || more.length > 0 || !process.env.DB_URL) return misuse();
  const want = await reference(process.env.DB_URL);
  if (!check) {
    await writeFile(file, want);
    return 0;
  }
  const have = await readFile(file, 'utf8').catch(() => '');
  if (have === want) return 0;
  process.stderr.write(
    `${file} is not what the database says. ${firstDifference(have, want)}\nWrite it anew: node scripts/sql-reference.mjs ${file}\n`,
  );
  return 1;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = await main(process.argv.slice(2));
