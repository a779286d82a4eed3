// Documents at KotaDB's paths, by PyPI's kotadb-client, and as tools of agents.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createKey } from './api_keys_support.mjs';
import { newTeam, ok } from './domain.mjs';
import { env } from './support.mjs';

const PYTHON = fileURLToPath(new URL('../../target/tools/python-tests/bin/python', import.meta.url));
const SCRIPT = fileURLToPath(new URL('documents_python.py', import.meta.url));

/** What the script reports, by its steps. */
async function run(input) {
  assert.ok(existsSync(PYTHON), 'target/tools/python-tests is missing: ./kijko test journeys installs it');
  const script = spawn(PYTHON, [SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'] });
  const [out, err] = [[], []];
  script.stdout.on('data', (part) => out.push(part));
  script.stderr.on('data', (part) => err.push(part));
  script.stdin.end(JSON.stringify(input));
  const code = await new Promise((resolve) => script.on('close', resolve));
  assert.equal(code, 0, Buffer.concat(err).toString());
  const lines = Buffer.concat(out).toString().trim().split('\n');
  return Object.fromEntries(lines.map((line) => JSON.parse(line)).map(({ step, ...result }) => [step, result]));
}

const NOT_SUPPORTED = { status: 400, code: 'not_supported', hints: 1 };

describe('documents at the paths of KotaDB', () => {
  let writer, stranger, reader, hidden, team;
  const send = async (key, method, path, body) => {
    const answer = await fetch(`${env.API_URL}${path}`, {
      method,
      headers: { ...(key && { Authorization: `Bearer ${key}` }), 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, body: text === '' ? null : JSON.parse(text) };
  };
  const tool = async (key, name, args) => {
    const message = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args } };
    const { body } = await send(key, 'POST', '/mcp', message);
    return body.result;
  };
  before(async () => {
    team = await newTeam();
    const keyOf = async (person, ...permissions) => (await createKey(person, { permissions })).secret;
    writer = await keyOf(team.owner, 'files:read', 'files:write');
    reader = await keyOf(team.owner, 'files:read');
    hidden = await keyOf(team.owner, 'skills:read');
    stranger = await keyOf(team.nonMember, 'files:read', 'files:write');
  });

  test('strangers, and keys without the permission, see and change nothing', async () => {
    const [{ id }] = await ok(team.owner.client.from('documents').insert({ path: 'secret.md', content: 'secret' }).select());
    const path = `/api/v1/documents/${id}`;
    for (const key of [undefined, 'kjk_live_wrong'])
      for (const [method, to] of [
        ['GET', path],
        ['PUT', path],
        ['DELETE', path],
        ['GET', '/api/v1/documents'],
        ['GET', '/api/v1/documents/search'],
      ])
        assert.equal((await send(key, method, to, method === 'PUT' ? {} : undefined)).status, 401, `${method} ${to}`);
    for (const key of [stranger, hidden]) {
      for (const [method, body] of [['GET'], ['PUT', { content: 'mine' }], ['DELETE']]) {
        const seen = await send(key, method, path, body);
        assert.ok([403, 404].includes(seen.status), `${method} ${seen.status}`);
        assert.ok(!JSON.stringify(seen.body).includes('secret.md'));
      }
      assert.ok(!JSON.stringify(await send(key, 'GET', '/api/v1/documents')).includes('secret.md'));
    }
    assert.equal((await send(hidden, 'GET', '/api/v1/documents/search?q=secret')).status, 403);
    assert.equal((await send(stranger, 'GET', '/api/v1/documents/search?q=secret')).body.total_count, 0);
    assert.deepEqual([(await send(reader, 'PUT', path, { content: 'x' })).status, (await send(reader, 'DELETE', path)).status], [403, 403]);
    for (const bad of [{ content: [256] }, { content: [255] }, { path: '../x' }, { tags: 'x' }, []])
      assert.equal((await send(writer, 'PUT', path, bad)).status, 400, JSON.stringify(bad));
    for (const query of ['limit=0', 'limit=51', 'offset=-1'])
      assert.equal((await send(writer, 'GET', `/api/v1/documents?${query}`)).status, 400);
    assert.equal((await send(reader, 'GET', path)).body.content, 'secret');
    assert.equal((await send(writer, 'DELETE', path)).status, 200);
  });

  test('the client of KotaDB writes, finds, changes and deletes them', async () => {
    const steps = await run({ url: `${env.API_URL}/api/v1`, key: writer });
    const { ids, ...query } = steps.query;
    assert.equal(ids.length, 1);
    assert.deepEqual(
      { ...steps, query },
      {
        unauthenticated: { status: 401 },
        health: { status: 'healthy' },
        get: { path: 'notes/fox.md', content: 'A brown fox: café', tags: ['plan'], metadata: { a: 1 }, size: 18 },
        query: { total: 1, content: 'A brown fox: café' },
        by_tag: { paths: ['notes/fox.md'] },
        nothing: { total: 0 },
        list: { paths: ['notes/dog.md', 'notes/fox.md'], page: 1 },
        update: { content: 'A red fox', tags: ['plan', 'red'], title: 'Fox' },
        same_path: { status: 409 },
        deleted: { left: ['notes/fox.md'] },
        unknown_000: {},
        unknown_non: {},
        semantic: NOT_SUPPORTED,
        hybrid: NOT_SUPPORTED,
        stats: NOT_SUPPORTED,
      },
    );
  });

  test('agents search and read them', async () => {
    const found = await tool(reader, 'search_documents', { q: 'red', tags: ['plan'] });
    const [{ id, path }] = found.structuredContent.documents;
    assert.equal(path, 'notes/fox.md');
    const read = await tool(reader, 'read_document', { document_id: id });
    assert.equal(read.structuredContent.content, 'A red fox');
    for (const [key, name, args, code] of [
      [hidden, 'search_documents', { q: 'red' }, 'permission_denied'],
      [stranger, 'read_document', { document_id: id }, 'not_found'],
      [reader, 'read_document', { document_id: 'x' }, 'bad_request'],
      [reader, 'search_documents', { q: 1 }, 'bad_request'],
    ]) {
      const { isError, structuredContent } = await tool(key, name, args);
      assert.deepEqual([isError, structuredContent.error.code], [true, code], name);
    }
  });
});
