// Every code block of the documentation runs, or says why it cannot; and a wrong one is noticed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { documentation, faultsOf, notRun, pageOf } from './examples.mjs';
import { stack } from './stack.mjs';

test('every code block of the documentation runs or is read', async (t) => {
  const pages = documentation();
  const { faults, counts } = await faultsOf(pages, stack);
  for (const [what, count] of Object.entries(counts).sort()) t.diagnostic(`${what}: ${count}`);
  for (const { file, line, attributes } of notRun(pages)) t.diagnostic(`not run: ${file}:${line}: ${attributes.norun}`);
  assert.deepEqual(faults, []);
  assert.ok(pages.length > 30);
});

/** A page of one block. */
const block = (info, ...lines) => ['# Page', '', `\`\`\`${info}`, ...lines, '```', ''].join('\n');

const RIGHT = {
  'a program': block('ts', "const { data } = await supabase.from('projects').select('name').eq('org_id', orgId)"),
  'a program that is refused': block('ts fails=not_found', "await supabase.rpc('revoke_invitation', { id: orgId })"),
  'a later block that uses an earlier one': `${block('js', 'const twice = 2')}${block('js', 'console.assert(twice === 2)')}`,
  SQL: block('sql as=postgres', "select name from organizations where id = :'org'"),
  'SQL as a member': block('sql as=owner', "insert into projects (name) values ('Mine')"),
  'SQL that fails': block('sql as=owner fails=invalid_cron', "select preview_cron('61 * * * *')"),
  shell: block('sh run', 'curl -sf "$API_URL/rest/v1/plans?select=code" -H "apikey: $ANON_KEY" > /dev/null'),
  'shell that is not run': block('sh norun="needs a server"', './kijko test lint', 'deploy/docker/make-secrets.sh'),
  JSON: block('json', '{"a": 1}'),
  configuration: block('conf', "shared_preload_libraries = 'kijko'"),
  'a query': block('promql', 'max by (kind) (kijko_queue_oldest_seconds) > 300 and on (kind) kijko_queue_jobs{state="running"} == 0'),
  diagram: block('mermaid', 'flowchart LR'),
};

const WRONG = {
  'a column that is not there': block('ts', "await supabase.from('projects').select('names').eq('nam', orgId)"),
  'an argument of the wrong type': block('ts', "await supabase.rpc('can', { org: 1, permission: 'skills:write' })"),
  'the same in a block that is not run': block('ts norun="needs a browser"', "await supabase.rpc('no_such_function')"),
  'a request that is refused': block('js', "await supabase.rpc('leave_organization', { org_id: bobId })"),
  'a request that should be refused and is not': block('js fails=conflict', "await supabase.from('projects').select().eq('org_id', orgId)"),
  'a list without its organization': block('js', "await supabase.from('projects').select('name')"),
  'an assertion that does not hold': block('ts', 'console.assert(orgId === userId)'),
  'an exception': block('js', "throw new Error('no')"),
  'a file of an example that no test runs': block('js file=worker.mjs', 'const one = 1'),
  'a program that no test runs': block('python', 'one = 1'),
  'SQL without a role': block('sql', 'select 1'),
  'SQL of a column that is not there': block('sql as=postgres', 'select nmae from organizations'),
  'SQL that the role may not': block('sql as=owner', 'select * from private.roles'),
  'SQL that does not fail as it says': block('sql as=owner fails=not_found', 'select 1'),
  'SQL that fails in another way': block('sql as=owner fails=not_found', "select preview_cron('61 * * * *')"),
  'a variable that is not there': block('sql as=postgres', "select :'nobody'"),
  'shell that fails': block('sh run', 'false', 'true'),
  'a command of ./kijko that is not there': block('sh norun="needs a server"', './kijko upp'),
  'a test area that is not there': block('sh norun="takes an hour"', './kijko test everything'),
  'a script that is not there': block('sh norun="needs a server"', 'deploy/docker/make-secret.sh'),
  'a path that nothing serves': block('sh norun="needs a server"', 'curl $API_URL/rest/v2/plans'),
  'a function that is not there': block('sh norun="needs a server"', 'curl $API_URL/rest/v1/rpc/usage_sumary'),
  'shell with a wrong quote': block('sh norun="needs a server"', "echo '"),
  'no reason': block('sh norun', 'true'),
  'shell that says nothing': block('sh', 'true'),
  'shell that says both': block('sh run norun="needs a server"', 'true'),
  'JSON with a comma too many': block('json', '{"a": 1,}'),
  'YAML that does not parse': block('yaml', 'a: [1', 'b'),
  'TOML that does not parse': block('toml', 'a = '),
  'a setting that is not there': block('conf', 'kijko.no_such_setting = 1'),
  'a label that its metric has not': block('promql', 'kijko_queue_jobs{status="running"} > 1'),
  'a label to group by that no metric has': block('promql', 'sum by (state) (kijko_queue_oldest_seconds)'),
  'a metric that is not there': block('promql', 'kijko_no_such_metric > 1'),
  'a diagram that is none': block('mermaid', 'picture'),
  'a language that nobody checks': block('cobol', 'STOP RUN'),
  'no language': block('', 'anything'),
  'an attribute that means nothing': block('json skip', '{}'),
};

/** The faults of pages that are named by what they show. */
async function faultsByName(examples) {
  const names = Object.keys(examples);
  const { faults } = await faultsOf(
    names.map((name, n) => pageOf(`page${n}.md`, examples[name])),
    stack,
  );
  return names.map((name, n) => [name, faults.filter((fault) => fault.startsWith(`page${n}.md:`))]);
}

test('right examples have no faults', async () => {
  for (const [name, faults] of await faultsByName(RIGHT)) assert.deepEqual(faults, [], name);
});

test('wrong examples do, and the fault names the line', async () => {
  for (const [name, faults] of await faultsByName(WRONG)) {
    assert.ok(faults.length > 0, name);
    assert.match(faults[0], /^page\d+\.md:[34]:/, name);
  }
});
