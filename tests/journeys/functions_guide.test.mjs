// The server of docs/guides/functions.md, as it is printed there, and who gets past its check.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse, root } from '../docs/markdown.mjs';
import { newPerson, ok } from './domain.mjs';
import { declare, http4xx, invoke, newServer } from './functions_support.mjs';
import { admin, api, env } from './support.mjs';

const { code } = parse('docs/guides/functions.md').blocks.find(({ attributes }) => attributes.file === 'greet.mjs');
let folder, server, url, person;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kijko-example-'));
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  await writeFile(join(folder, 'greet.mjs'), code);
  server = spawn(process.execPath, ['greet.mjs'], { cwd: folder, env: { PATH: process.env.PATH, API_URL: env.API_URL, PORT: '0' } });
  const port = await new Promise((resolve, reject) => {
    server.stdout.once('data', (text) => resolve(Number(text)));
    server.once('exit', () => reject(new Error('the example ended')));
  });
  url = `http://localhost:${port}`;
  person = await newPerson();
  await ok(
    admin()
      .from('functions')
      .insert({ name: 'greet', url, access: 'permission', permission: 'skills:execute', methods: ['POST'] }),
  );
});
after(async () => {
  server?.kill();
  await admin().from('functions').delete().eq('name', 'greet');
  await rm(folder, { recursive: true, force: true });
});

test('nobody gets past the check without an assertion for this function', async () => {
  let another;
  const name = await declare({
    url: await newServer((request, response) => {
      another = request.headers.authorization;
      response.end();
    }),
  });
  await person.client.functions.invoke(name);
  assert.match(another, /^Bearer /);
  for (const authorization of [undefined, 'Bearer x', `Bearer ${person.token}`, `Bearer ${env.ANON_KEY}`, another]) {
    const answer = await fetch(url, { method: 'POST', headers: authorization ? { authorization } : {} });
    assert.equal(answer.status, 401, authorization);
  }
  assert.deepEqual(await invoke(api(), 'greet'), http4xx(401, 'not_identified'));
});

test('a member who may does, and is known', async () => {
  assert.deepEqual(await invoke(person.client, 'greet'), { organization: person.orgId, user: person.user.id });
});
