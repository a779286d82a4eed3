// ./kijko prompts: a folder of prompts goes round without a difference, by a key over HTTP.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { differences, diffLines, format, parse, withVersion } from '../../scripts/prompts_files.mjs';
import { createKey } from './api_keys_support.mjs';
import { newTeam, ok } from './domain.mjs';
import { env } from './support.mjs';

const PROGRAM = resolve(import.meta.dirname, '../../scripts/prompts.mjs');
const rpc = (person, name, body) => ok(person.client.rpc(name, body).setHeader('x-org-id', person.orgId));
// What the format itself could be mistaken for.
const HARD = [
  { path: 'plain', type: 'text', engine: 'plain', content: '---\nversion: 7\n---\n\n\n' },
  { path: 'support/summarise', type: 'text', content: 'Zoë {{ n }}\r\n\ttab\\ "quoted"\n', model: 'echo/echo', tags: ['a', 'b: c'] },
  {
    path: 'support/deep/chat',
    type: 'chat',
    content: [
      { role: 'system', content: '=== user\n\\=== user\n\\\\=== x\n' },
      { type: 'placeholder', name: 'history' },
      { role: 'user', content: '' },
      { role: 'assistant', content: '\n\n=== placeholder x' },
    ],
    description: 'null',
    parameters: { temperature: 0.5, stop: ['a\nb:'], deep: { input_schema: 'x' } },
    input_schema: { type: 'object', properties: { history: { type: 'array' } } },
  },
];

describe('the format of files', () => {
  test('what a file says goes round', () => {
    for (const prompt of HARD) {
      const text = format({ version: 3, engine: 'minijinja', tags: [], parameters: {}, input_schema: { type: 'object' }, ...prompt });
      const read = parse(text);
      assert.deepEqual(read.content, prompt.content);
      assert.equal(read.version, 3);
      assert.equal(format(read), text);
      assert.equal(parse(withVersion(text, 12)).version, 12);
    }
    const read = parse('---\ntype: text\nmodel: echo/echo\n---\nHello\n');
    assert.deepEqual([read.content, read.model, read.version, read.engine], ['Hello', 'echo/echo', undefined, 'minijinja']);
    assert.deepEqual(differences(read, { ...read, parameters: { a: 1 } }), ['parameters']);
    assert.equal(parse(withVersion(read.text, 1)).version, 1);
    // An editor's line ends say nothing.
    const windows = '---\r\ntype: chat\r\n---\r\n=== user\r\nHello\r\nthere\r\n';
    assert.deepEqual(parse(windows).content, [{ role: 'user', content: 'Hello\nthere' }]);
    assert.deepEqual(parse(withVersion(windows, 4)).content, parse(windows).content);
    assert.equal(parse('---\r\nversion: 3\r\n---\r\nHello\r\n').content, 'Hello');
  });

  test('what is wrong in a file is named', () => {
    for (const [text, wanted] of [
      ['Hello', /front matter/],
      ['---\nversion: 1\nHello', /front matter/],
      ['---\ncolour: red\n---\n', /unknown key colour/],
      ['---\nversion: 1\nversion: 2\n---\n', /twice/],
      ['---\ndescription: two words\n---\n', /JSON, or a word/],
      ['---\ntype: chat\n---\nHello\n', /before the first message/],
    ]) {
      assert.throws(() => parse(text), wanted, text);
    }
    assert.deepEqual(diffLines('a\nb\nc', 'a\nx\nc'), ['- b', '+ x']);
  });
});

describe('./kijko prompts', () => {
  let team;
  let key;
  let home;
  before(async () => {
    team = await newTeam();
    key = (await createKey(team.owner, { permissions: ['prompts:read', 'prompts:write'], rate_limit: 600 })).secret;
    home = await mkdtemp(join(tmpdir(), 'kijko-prompts-'));
  });
  after(() => rm(home, { recursive: true, force: true }));

  const run = (args, environment = {}) =>
    new Promise((done) => {
      const variables = { ...process.env, KIJKO_URL: env.API_URL, KIJKO_API_KEY: key, ...environment };
      execFile(process.execPath, [PROGRAM, ...args], { env: variables }, (error, stdout, stderr) =>
        done({ code: error ? error.code : 0, stdout, stderr }),
      );
    });
  const folder = (name) => join(home, name);
  const contents = async (name) => {
    const files = (await readdir(folder(name), { recursive: true })).filter((file) => file.endsWith('.prompt.md')).sort();
    return Promise.all(files.map(async (file) => [file, await readFile(join(folder(name), file), 'utf8')]));
  };

  test('misuse exits 2, and a key that may not 1', async () => {
    for (const args of [[], ['push'], ['sing', '.'], ['pull', '.', '.'], ['diff', '.', '--force'], ['push', '.', '--colour']]) {
      assert.equal((await run(args)).code, 2, args.join(' '));
    }
    assert.equal((await run(['diff', '.'], { KIJKO_API_KEY: '' })).code, 2);
    const { secret: other } = await createKey(team.owner, { permissions: ['skills:read'] });
    const answer = await run(['diff', folder('none')], { KIJKO_API_KEY: other });
    assert.deepEqual([answer.code, /prompts:read/.test(answer.stderr)], [1, true], answer.stderr);
    const { secret: stranger } = await createKey(team.nonMember, { permissions: ['prompts:read'] });
    await rpc(team.member, 'push_prompt', { path: 'not/yours', content: 'x' });
    assert.match((await run(['diff', folder('none')], { KIJKO_API_KEY: stranger })).stdout, /0 the same, 0 different/);
    await rpc(team.member, 'delete_prompt', { path: 'not/yours' });
    assert.equal((await run(['diff', folder('none')], { KIJKO_URL: 'http://127.0.0.1:1' })).code, 1);
  });

  test('a folder goes round without a difference', async () => {
    for (const prompt of HARD) await rpc(team.member, 'push_prompt', prompt);
    assert.equal((await run(['diff', folder('a')])).code, 1, 'the folder lacks them');
    const pulled = await run(['pull', folder('a')]);
    assert.equal(pulled.code, 0, pulled.stderr);
    assert.equal((await contents('a')).length, HARD.length);
    const same = await run(['diff', folder('a')]);
    assert.deepEqual([same.code, same.stdout], [0, `${HARD.length} the same, 0 different\n`]);
    const before = await contents('a');
    const pushed = await run(['push', folder('a')]);
    assert.deepEqual([pushed.code, pushed.stdout], [0, `0 pushed, ${HARD.length} were the same, 0 failed\n`]);
    assert.equal((await run(['pull', folder('a')])).code, 0);
    assert.deepEqual(await contents('a'), before);
    // Into another organization and back.
    const { secret: theirs } = await createKey(team.nonMember, { permissions: ['prompts:read', 'prompts:write'] });
    await cp(folder('a'), folder('b'), { recursive: true });
    for (const [file, text] of await contents('b')) await writeFile(join(folder('b'), file), text.replace(/^version: .*\n/m, ''));
    const moved = await run(['push', folder('b'), '--message', 'moved'], { KIJKO_API_KEY: theirs });
    assert.equal(moved.code, 0, moved.stdout + moved.stderr);
    assert.equal((await run(['pull', folder('c')], { KIJKO_API_KEY: theirs })).code, 0);
    // With the versions that they have here, which say nothing there.
    await rpc(team.nonMember, 'delete_prompt', { path: 'plain' });
    await rpc(team.nonMember, 'push_prompt', { path: 'plain', content: 'x' });
    await rpc(team.nonMember, 'delete_prompt', { path: 'support/summarise' });
    for (const [file, text] of before) await writeFile(join(folder('b'), file), text.replace(/^version: .*$/m, 'version: 9'));
    const versioned = await run(['push', folder('b'), '--prefix', 'support'], { KIJKO_API_KEY: theirs });
    assert.deepEqual([versioned.code, /there is no version 9/.test(versioned.stderr)], [1, true], versioned.stdout + versioned.stderr);
    const forced = await run(['push', folder('b'), '--force'], { KIJKO_API_KEY: theirs });
    assert.equal(forced.code, 0, forced.stdout + forced.stderr);
    assert.equal((await run(['diff', folder('b')], { KIJKO_API_KEY: theirs })).code, 0);
    assert.deepEqual(
      (await contents('c')).map(([, text]) => text),
      before.map(([, text]) => text),
    );
  });

  test('a change is pushed with its message and label, and its file gets the version', async () => {
    const file = join(folder('a'), 'plain.prompt.md');
    await writeFile(
      file,
      withVersion(format({ ...HARD[0], content: 'New {{a}}', tags: [], parameters: {}, input_schema: { type: 'object' } }), 1),
    );
    const different = await run(['diff', folder('a')]);
    assert.equal(different.code, 1);
    assert.match(different.stdout, /plain differs from version 1\n {2}content:\n[\s\S]*\+ New \{\{a\}\}/);
    assert.match((await run(['push', folder('a'), '--dry-run'])).stdout, /plain would be pushed\n1 to push/);
    const pushed = await run(['push', folder('a'), '--message', 'shorter', '--label', 'staging']);
    assert.equal(pushed.code, 0, pushed.stdout + pushed.stderr);
    assert.match(await readFile(file, 'utf8'), /^version: 2$/m);
    const prompt = await rpc(team.viewer, 'get_prompt', { path: 'plain', label: 'staging' });
    assert.deepEqual([prompt.version, prompt.content, prompt.message], [2, 'New {{a}}', 'shorter']);
    await rpc(team.owner, 'set_prompt_settings', { require_approval: true });
    const asked = await run(['push', folder('a'), '--label', 'production', '--prefix', 'support']);
    assert.match(asked.stdout, /support\/summarise: production waits for the approval [0-9a-f-]{36}/, asked.stderr);
  });

  test('a stale file is refused with what differs, and nothing is pushed', async () => {
    const file = join(folder('a'), 'plain.prompt.md');
    await rpc(team.member, 'push_prompt', { path: 'plain', content: 'Theirs {{a}}', engine: 'plain' });
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace('New', 'Mine'));
    await writeFile(join(folder('a'), 'other.prompt.md'), '---\ntype: text\n---\nOther\n');
    const refused = await run(['push', folder('a')]);
    assert.equal(refused.code, 1);
    assert.match(
      refused.stdout,
      /plain is of version 2, and the newest is 3; from which it differs in:\n {2}content:\n {4}- Theirs \{\{a\}\}\n {4}\+ Mine/,
    );
    assert.equal((await rpc(team.viewer, 'list_prompts', { path: 'other' })).total, 0);
    const forced = await run(['push', folder('a'), '--force']);
    assert.equal(forced.code, 0, forced.stdout + forced.stderr);
    assert.equal((await rpc(team.viewer, 'get_prompt', { path: 'plain', label: 'latest' })).content, 'Mine {{a}}');
    assert.equal((await run(['diff', folder('a')])).code, 0);
  });

  test('what a prompt says commands no terminal, and hides nothing', async () => {
    await rpc(team.member, 'push_prompt', { path: 'tricky/one', content: 'tab\t\u001b[2Jgone\u202e\rlast' });
    await mkdir(join(folder('d'), 'tricky'), { recursive: true });
    await writeFile(join(folder('d'), 'tricky/one.prompt.md'), '---\ntype: text\n---\nx\n');
    const shown = await run(['diff', folder('d'), '--prefix', 'tricky']);
    assert.match(shown.stdout, /- tab\t\\u001b\[2Jgone\\u202e\\u000dlast/);
    await rpc(team.member, 'delete_prompt', { path: 'tricky/one' });
  });

  test('a file with a fault is named, and stops all', async () => {
    await writeFile(join(folder('a'), 'bad.prompt.md'), 'no front matter');
    const answer = await run(['push', folder('a')]);
    assert.deepEqual([answer.code, /bad\.prompt\.md: it begins with front matter/.test(answer.stderr)], [1, true], answer.stderr);
    await rm(join(folder('a'), 'bad.prompt.md'));
    await writeFile(join(folder('a'), 'empty.prompt.md'), '---\ntype: text\n---\n');
    const empty = await run(['push', folder('a')]);
    assert.deepEqual([empty.code, /empty: .*content: empty/.test(empty.stderr)], [1, true], empty.stderr);
  });
});
