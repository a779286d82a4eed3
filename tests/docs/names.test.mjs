// What the documentation names exists, and its tables say what the database says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { adminSql, sql } from '../journeys/support.mjs';
import { labelsOfMetrics } from './data.mjs';
import { documentation } from './examples.mjs';
import { files, read, spansOf, tableRows } from './markdown.mjs';
import { benchmarks, commands, isRoute } from './shell.mjs';

const cells = (file, heading) => tableRows(file, heading);
const namesOf = (cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name);
const sorted = (names) => [...names].sort();

test('every name with a schema exists', async () => {
  const schemas = ['public', 'private', 'kijko', 'auth', 'auth_api', 'cron'];
  const rows = await adminSql(
    `
    with relations as (select c.oid, n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where n.nspname = any ($1))
    select nspname || '.' || relname as name from relations
    union select nspname || '.' || relname || '.' || a.attname from relations as r join pg_attribute as a on a.attrelid = r.oid and a.attnum > 0
    union select n.nspname || '.' || p.proname from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace where n.nspname = any ($1)
    union select n.nspname || '.' || t.typname from pg_type as t join pg_namespace as n on n.oid = t.typnamespace where n.nspname = any ($1)
    union select name from pg_settings where name ~ '^(kijko|cron)[.]'`,
    [schemas],
  );
  // Attributes of spans look alike.
  const sources = ['sidecar/src/llm/semconv.rs', 'sidecar/src/domains/observability/line.rs'];
  const attributes = sources.flatMap((file) => read(file).match(/(?<=")kijko\.[a-z_.]+(?=")/g));
  const known = new Set([...rows.map(({ name }) => name), ...attributes]);
  const faults = [];
  for (const { file, text } of documentation()) {
    for (const { span, line } of spansOf(text)) {
      for (const [name, schema] of span.matchAll(/(?<![\w.@/-])([a-z_]+)\.[a-z_]+(?:\.[a-z_]+)?(?![\w*./…])/g)) {
        if (schemas.includes(schema) && !known.has(name) && !/^kijko\.(so|control|target|conf)$/.test(name))
          faults.push(`${file}:${line}: ${name}`);
      }
    }
  }
  assert.deepEqual(faults, []);
  assert.ok(known.size > 1000);
});

test('errors: the codes of the API and their HTTP status', async () => {
  const rows = await sql('select code, http_status from kijko.error_codes');
  assert.deepEqual(
    sorted(
      cells('docs/reference/errors.md', 'API')
        .flatMap(([code, http]) => namesOf(code).map((name) => `${name} ${http}`))
        .slice(0, rows.length),
    ),
    sorted(rows.map(({ code, http_status }) => `${code} ${http_status}`)),
  );
});

test('errors: the codes of login and their HTTP status', () => {
  const used = new Set(
    files('sql/platform/*_auth_api*.sql')
      .map(read)
      .flatMap((text) => [
        ...[...text.matchAll(/\b([45]\d\d), '([a-z0-9_]+)'/g)].map(([, status, code]) => `${code} ${status}`),
        ...[...text.matchAll(/\breject_too_many\([^']*'([a-z_]+)'/g)].map(([, code]) => `${code} 429`),
      ]),
  );
  const refusals = files('sidecar/src/login/**.rs')
    .map(read)
    .flatMap((text) => [...text.matchAll(/\brefuse\(&?headers, ([45]\d\d), "([a-z0-9_]+)"/g)]);
  assert.ok(refusals.length > 2);
  for (const [, status, code] of refusals) used.add(`${code} ${status}`);
  const documented = cells('docs/reference/errors.md', 'Login').flatMap(([codes, statuses]) =>
    namesOf(codes).flatMap((code) => statuses.split(', ').map((status) => `${code} ${status}`)),
  );
  assert.deepEqual(sorted(new Set(documented)), sorted(used));
});

test('errors: the codes of executions', () => {
  const documented = cells('docs/reference/errors.md', 'Error codes of executions').flatMap(([code]) => namesOf(code));
  const sources = files('sidecar/src/**.rs', 'services/**.rs', 'supabase/migrations/*.sql').map((file) => ({ file, text: read(file) }));
  const unused = documented.filter((code) => !sources.some(({ text }) => text.includes(`"${code}"`) || text.includes(`'${code}'`)));
  assert.deepEqual(unused, [], 'each documented code is somewhere in the source');
  const faults = sources
    .filter(({ file }) => file.endsWith('llm/error.rs'))
    .flatMap(({ text }) => [...text.matchAll(/Self::\w+ => "([a-z_]+)"/g)].map(([, code]) => code));
  assert.ok(faults.length > 10);
  assert.deepEqual(
    faults.filter((code) => !documented.includes(code)),
    [],
    'each fault of a model is documented',
  );
});

test('storage: the codes of its refusals', () => {
  const documented = cells('docs/guides/storage.md', 'Refusals').flatMap(([code]) => namesOf(code));
  const codes = files('services/storage/src/**.rs').flatMap((file) =>
    [...read(file).matchAll(/\brefusal\(\s*"(\w+)"/g)].map(([, code]) => code),
  );
  assert.ok(codes.length > 10);
  assert.deepEqual(
    [...new Set(codes)].filter((code) => !documented.includes(code)),
    [],
  );
});

test('settings: those of login', async () => {
  const rows = await adminSql(
    `select attname as name from pg_attribute where attrelid = 'auth_api.settings'::regclass and attnum > 0 and attname <> 'id'`,
  );
  assert.deepEqual(
    sorted(cells('docs/operations/login.md', 'Settings').flatMap(([name]) => namesOf(name))),
    sorted(rows.map(({ name }) => name)),
  );
});

test('settings: those of the extension', async () => {
  const rows = await adminSql(`select name from pg_settings where name like 'kijko.%'`);
  const documented = cells('docs/reference/settings.md', 'Extension').flatMap(([name]) => namesOf(name));
  assert.deepEqual(sorted(documented), sorted(rows.map(({ name }) => name)));
});

test('settings: those of the environment are those of .env.example', () => {
  const example = [...read('.env.example').matchAll(/^#?([A-Z][A-Z0-9_]+)=/gm)].map(([, name]) => name);
  const documented = ['Indexer', 'The stack', 'Realtime', 'Sidecar', 'Storage'].flatMap((heading) =>
    cells('docs/reference/settings.md', heading).flatMap(([name]) => namesOf(name)),
  );
  assert.deepEqual(sorted(documented), sorted(example));
});

test('permissions: which role adds which', async () => {
  const rows = await sql(`
    select p.permission, (array_agg(r.role order by r.rank))[1] as lowest
    from private.role_permissions as p join private.roles as r using (role) group by 1`);
  const lowest = new Map(rows.map(({ permission, lowest }) => [permission, lowest]));
  const documented = cells('docs/guides/tenancy.md', 'Ask for permissions');
  assert.ok(documented.length >= 4);
  for (const [role, permissions] of documented) for (const name of namesOf(permissions)) assert.equal(lowest.get(name), role, name);
});

test('guides: the tables of functions name functions and their arguments', async () => {
  const rows = await sql(`
    select proname as name, proargnames as arguments from pg_proc where pronamespace = 'public'::regnamespace`);
  let documented = 0;
  for (const { file, text } of documentation().filter(({ file }) => file.startsWith('docs/guides/'))) {
    if (!text.includes('\n## Functions\n')) continue;
    for (const [name] of cells(file, 'Functions')) {
      for (const signature of namesOf(name)) {
        const [, called, list] = signature.match(/^(\w+)\((.*)\)$/) ?? [];
        const wanted = list === '' ? [] : list.split(', ').map((argument) => argument.split(' ')[0]);
        const found = rows.some((row) => row.name === called && wanted.every((argument) => row.arguments?.includes(argument)));
        assert.ok(found, `${file}: ${signature}`);
        documented += 1;
      }
    }
  }
  const callable = await sql(`
    select distinct p.proname as name from pg_proc as p
    where p.pronamespace = 'public'::regnamespace and p.prorettype <> 'trigger'::regtype and p.proname <> 'before_request'
      and has_function_privilege('authenticated', p.oid, 'execute')
      and not exists (select from pg_class as c where c.reltype = p.proargtypes[0])`);
  const guides = documentation().filter(({ file }) => file.startsWith('docs/guides/'));
  assert.deepEqual(
    callable.map(({ name }) => name).filter((name) => !guides.some(({ text }) => text.includes(`\`${name}(`))),
    [],
    'each function that a user may call is in a guide',
  );
  assert.ok(documented >= 20);
});

test('plans: the rates and the times that the guides name', async () => {
  const plans = await sql('select code, rate_per_minute, statement_seconds, max_organizations from public.plans');
  const requests = read('docs/guides/requests.md').replaceAll('\n', ' ');
  for (const { code, rate_per_minute, statement_seconds } of plans) {
    assert.ok(requests.includes(`${code} ${rate_per_minute.toLocaleString('en-US')}`), `the rate of ${code}`);
    assert.ok(requests.includes(`${code} ${statement_seconds} s`), `the time of ${code}`);
  }
});

test('vat: the rates that the migrations make, each with its source', async () => {
  const rows = await adminSql(`
    select r.country || '|' || r.region || '|' || r.valid_from || '|' || trim_scale(r.basis_points / 100.0) || '|' || r.source as row from private.vat_rates as r`);
  const documented = cells('docs/operations/vat.md', 'Rates').map((row) => row.join('|'));
  assert.deepEqual(sorted(documented), sorted(rows.map(({ row }) => row)));
});

test('queue: the scheduled jobs', async () => {
  const rows = await adminSql(`select jobname as name from cron.job`);
  const documented = cells('docs/internals/queue.md', 'Scheduled jobs').flatMap(([name]) => namesOf(name));
  assert.deepEqual(sorted(documented), sorted(rows.map(({ name }) => name)));
});

test('commands: those of ./kijko', () => {
  const documented = cells('docs/operations/operator.md', 'Commands').flatMap(
    ([command]) => command.match(/\.\/kijko ([a-z]+)/)?.[1] ?? [],
  );
  assert.deepEqual(sorted(new Set(documented)), sorted([...commands].filter((name) => name !== 'help')));
});

test('roles: those of the architecture exist', async () => {
  const roles = new Set((await adminSql('select rolname as name from pg_roles')).map(({ name }) => name));
  const documented = cells('docs/architecture.md', 'Who may do what').flatMap(([role]) => namesOf(role));
  assert.deepEqual(
    documented.filter((role) => !roles.has(role)),
    [],
  );
  assert.ok(documented.length >= 9);
});

const rust = () => files('sidecar/src/*.rs', 'services/*/src/*.rs').map((file) => ({ file, text: read(file).split('#[cfg(test)]')[0] }));

test('sidecar and realtime: the settings that they read', () => {
  const reads = rust().flatMap(({ text }) =>
    [...text.matchAll(/\b\w+\.(?:text|parsed|number|seconds|millis|flag)\(\s*"([A-Z][A-Z0-9_]+)"/g)].map(([, name]) => name),
  );
  const documented = ['Sidecar', 'Realtime', 'Storage', 'Indexer']
    .flatMap((part) => cells('docs/reference/settings.md', part))
    .flatMap(([name]) => namesOf(name));
  assert.ok(reads.length >= 15);
  assert.deepEqual(
    reads.filter((name) => !documented.includes(name)),
    [],
  );
});

const prefixOf = (file) => (/^services\/(realtime|storage)\//.exec(file) ? `/${/^services\/(\w+)/.exec(file)[1]}/v1` : '');

test('sidecar and realtime: their routes, and that Caddy passes on the public ones', () => {
  const routed = rust()
    .filter(({ file }) => !/tests?(\.rs$|\/)/.test(file))
    .flatMap(({ file, text }) => [...text.matchAll(/\.route\(\s*"(\/[^"]*)"/g)].map(([, path]) => prefixOf(file) + path));
  const endpoints = [
    ...cells('docs/operations/sidecar.md', 'Endpoints'),
    ...cells('docs/operations/realtime.md', 'Endpoints'),
    ...cells('docs/operations/storage.md', 'Endpoints'),
  ].flatMap(([audience, path]) => namesOf(path).map((name) => ({ audience, path: name.replace(/^[A-Z]+ /, '') })));
  assert.ok(routed.length >= 4);
  assert.deepEqual(
    routed.filter((route) => !endpoints.some(({ path }) => path === route)),
    [],
    'each route is documented',
  );
  assert.deepEqual(
    endpoints.filter(({ path }) => !path.endsWith('*') && !routed.includes(path)),
    [],
    'each documented path is a route',
  );
  for (const { audience, path } of endpoints) assert.equal(isRoute(path), audience !== 'operators', `deploy/Caddyfile and ${path}`);
});

test('sidecar: the labels of its metrics', async () => {
  const labelsOf = labelsOfMetrics();
  const response = await fetch(`${process.env.SIDECAR_OPERATORS_URL}/metrics`);
  const samples = [...(await response.text()).matchAll(/^(kijko_\w+)(?:\{(.*)\})? \S+$/gm)];
  const faults = samples.flatMap(([sample, name, labels = '']) => {
    const metric = labelsOf.has(name) ? name : name.replace(/_(?:bucket|sum|count)$/, '');
    const found = [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label).filter((label) => label !== 'le');
    return `${sorted(found)}` === `${sorted(labelsOf.get(metric) ?? ['not documented'])}` ? [] : [sample];
  });
  assert.ok(samples.length >= 10, `${response.status}, ${samples.length} samples`);
  assert.deepEqual(faults, []);
});

test('sidecar: its kinds of jobs are in a guide', () => {
  const kinds = rust().flatMap(({ text }) => [...text.matchAll(/const KIND: &'static str = "([^"]+)"/g)].map(([, kind]) => kind));
  const guides = documentation().filter(({ file }) => file.startsWith('docs/guides/'));
  assert.ok(kinds.length >= 1);
  assert.deepEqual(
    kinds.filter((kind) => !guides.some(({ text }) => text.includes(`\`${kind}\``))),
    [],
  );
});

test('requests: the rate limit policies that the migrations make', async () => {
  const rows = await adminSql('select distinct name from kijko.rate_limit_policies');
  const page = read('docs/internals/request.md');
  assert.deepEqual(
    rows.map(({ name }) => name).filter((name) => !page.includes(`\`${name}\``)),
    [],
  );
});

// The actions of the product by group; ingestion of projects is not here yet.
const ENDPOINTS = {
  Projects:
    'list, create, get, update, delete, archive, restore, list repositories, add a repository, remove a repository, ' +
    'upload a file, list files, download a file, delete a file, ' +
    "list members, add a member, change a member's role, remove a member, start ingestion, ingestion status, cancel ingestion, validate",
  Skills:
    'list, create, get, update, delete, execute, test, bulk update, bulk delete, export, import, duplicate, ' +
    'list versions, restore a version, statistics',
  Habits: 'list, create, get, update, delete, toggle, run now, validate cron, preview next runs, statistics, its executions',
  Reflexes:
    'list, create, get, update, delete, toggle, receive a webhook, test with a payload, rotate the secret, deliveries, redeliver, statistics',
  Executions: 'list, detail with events, cancel, retry, statistics by skill, statistics by period',
};

test('endpoints: each has its call', () => {
  const sections = read('docs/guides/endpoints.md').split(/^## /m).slice(1);
  for (const [group, names] of Object.entries(ENDPOINTS)) {
    const section = sections.find((text) => text.startsWith(`${group}\n`));
    const calls = [...section.matchAll(/^\/\/ (.+)$/gm)].map(([, name]) => name);
    assert.deepEqual(sorted(calls), sorted(names.split(', ')), group);
  }
});

test('login: its endpoints', () => {
  const served = [...read('sql/platform/69_auth_api_handle.sql').matchAll(/when '[A-Z]+ (\/[^']+)' then/g)].map(([, path]) => path);
  const guide = cells('docs/guides/login.md', 'Methods').map(([, request]) => request.replaceAll('[/{id}]', '` `/admin/users/{id}'));
  assert.ok(served.length >= 20);
  assert.deepEqual(
    served.filter((path) => !guide.some((request) => new RegExp(`[ \`]${path.replace(/[.{}]/g, '\\$&')}[\`?]`).test(request))),
    [],
  );
});

test('login: every method of supabase-js is on the page, with what it does or why it does not work', () => {
  const { auth } = createClient('http://127.0.0.1', 'key', { realtime: { transport: class {} }, auth: { persistSession: false } });
  const methodsOf = (object, prefix = '') => {
    const names = new Set();
    for (let level = object; level !== Object.prototype; level = Object.getPrototypeOf(level)) {
      for (const name of Object.getOwnPropertyNames(level)) if (typeof object[name] === 'function') names.add(name);
    }
    // Written in TypeScript as private or protected, or not a method of the API.
    const inner = ['constructor', 'logger', 'fetch', 'isThrowOnErrorEnabled', 'fetchJwk', 'linkIdentityOAuth', 'linkIdentityIdToken'];
    return [...names]
      .filter((name) => !name.startsWith('_') && !/Ethereum|Solana/.test(name) && !inner.includes(name))
      .map((name) => prefix + name);
  };
  const { mfa, oauth, passkey, admin } = auth;
  const methods = [
    ...methodsOf(auth),
    ...Object.entries({ mfa, oauth, passkey, admin }).flatMap(([name, part]) => methodsOf(part, `${name}.`)),
    ...['mfa', 'oauth', 'passkey', 'customProviders'].flatMap((name) => methodsOf(admin[name], `admin.${name}.`)),
  ];
  assert.ok(methods.length > 60);
  const documented = new Set(
    read('docs/guides/login.md')
      .split('\n')
      .flatMap((line) => (line.startsWith('| `') ? namesOf(line.split('|')[1]) : [])),
  );
  assert.deepEqual(
    methods.filter((name) => !documented.has(name)),
    [],
  );
});

test('benchmarks: each is on the page', () => {
  const page = read('docs/benchmarks.md');
  assert.ok(benchmarks.size >= 3);
  assert.deepEqual(
    [...benchmarks].filter((name) => !name.includes('_') && !page.includes(`./kijko bench ${name}`)),
    [],
  );
});
