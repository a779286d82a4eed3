// Code over HTTP: KotaDB's paths by API key, and /mcp by the client of its own SDK. The journey plays the indexer.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { createKey } from './api_keys_support.mjs';
import { commitOf, indexFiles, newIndexer } from './code_support.mjs';
import { newTeam, ok, setPlan, usageOf } from './domain.mjs';
import { env } from './support.mjs';

const PARSER = 'use std::fs;\n\npub fn parse_config(text: &str) -> Config {\n    parse_line(text)\n}\n\nfn parse_line() {}\n';
const symbol = (ordinal, name, line) => ({
  ordinal,
  parent: null,
  name,
  kind: 'function',
  signature: `fn ${name}`,
  documentation: null,
  exported: ordinal === 0,
  start_line: line,
  start_column: 0,
  end_line: line + 2,
  end_column: 1,
  name_line: line,
  name_column: 3,
});
const FILES = {
  'src/parser.rs': {
    language: 'rust',
    content: PARSER,
    symbols: [symbol(0, 'parse_config', 3), symbol(1, 'parse_line', 7)],
    references: [{ symbol: 0, name: 'parse_line', qualifier: null, kind: 'call', line: 4, column: 4 }],
    imports: [],
  },
  'notes/usage.txt': { language: null, content: 'Call parse_config(x): it fails on `) -> &`.\r\nParse the rest.\n' },
  'src/empty.rs': { language: 'rust', content: '' },
};

describe('code over HTTP', () => {
  const indexer = newIndexer();
  let team, repository, secret, hidden;
  const send = async (key, path, body, headers = {}) => {
    const answer = await fetch(`${env.API_URL}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { ...(key && { Authorization: `Bearer ${key}` }), 'Content-Type': 'application/json', ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, body: text === '' ? null : JSON.parse(text) };
  };
  const lines = ({ body }) => body.matches.map(({ path, line, column }) => `${path}:${line}:${column}`).sort();

  before(async () => {
    team = await newTeam();
    await setPlan(team.owner.orgId, 'TEAMS');
    const clone_url = `https://github.com/acme/r-${randomUUID()}`;
    repository = await ok(team.owner.client.from('repositories').insert({ clone_url }).select().single());
    const queued = await ok(team.owner.client.rpc('index_repository', { repository_id: repository.id }));
    const job = await indexer.claim(queued);
    await indexer.call(job, 'begin');
    assert.equal(await indexFiles(indexer, job, FILES, commitOf(clone_url)), 'succeeded');
    ({ secret } = await createKey(team.owner, { permissions: ['repositories:read', 'repositories:write'] }));
    ({ secret: hidden } = await createKey(team.owner, { permissions: ['skills:read'] }));
  });

  test('strangers and keys without the permission find nothing', async () => {
    const { secret: stranger } = await createKey(team.nonMember, { permissions: ['repositories:read'] });
    const search = (key, fields) => send(key, '/api/v1/search/code', { query: 'parse_config', ...fields });
    assert.deepEqual((await search(stranger)).body.matches, []);
    for (const [key, status, type] of [
      [null, 401, undefined],
      [`kjk_live_${'x'.repeat(38)}`, 401, undefined],
      [hidden, 403, 'permission_denied'],
    ]) {
      const { status: answered, body } = await search(key);
      assert.equal(answered, status, JSON.stringify(body));
      assert.equal(body.error_code, status);
      if (type) assert.equal(body.error_type, type);
    }
    const { status, body } = await search(stranger, { repository_id: repository.id });
    assert.deepEqual([status, body.error_type], [404, 'not_found']);
    const place = `repository_id=${repository.id}`;
    for (const [path, ofStranger, ofColleague] of [
      [`files/symbols/src/parser.rs?${place}`, 404, 404],
      ['symbols/parse_config/callers', 200, 403],
      ['symbols/search?query=parse', 200, 403],
      ['symbols?pattern=parse', 200, 403],
      ['codebase-overview', 200, 403],
      ['repositories', 200, 200],
    ]) {
      const seen = await send(stranger, `/api/v1/${path}`);
      assert.equal(seen.status, ofStranger, path);
      assert.ok(!/parser\.rs.*line|fn parse/.test(JSON.stringify(seen.body)) && !JSON.stringify(seen.body).includes(repository.id), path);
      assert.equal((await send(hidden, `/api/v1/${path}`)).status, ofColleague, path);
    }
    assert.deepEqual((await send(hidden, '/api/v1/repositories')).body.repositories, []);
  });

  test('literals and expressions find lines with their places', async () => {
    const search = (fields) => send(secret, '/api/v1/search/code', fields);
    const before = Number((await usageOf(team.owner)).code_searches?.used ?? 0);
    assert.deepEqual(lines(await search({ query: 'PARSE_config' })), ['notes/usage.txt:1:5', 'src/parser.rs:3:7']);
    const after = Number((await usageOf(team.owner)).code_searches.used);
    assert.equal(after - before, 1);
    assert.deepEqual(lines(await search({ query: 'PARSE_config', match_case: true })), []);
    assert.deepEqual(lines(await search({ query: 'parse', whole_word: true })), ['notes/usage.txt:2:0']);
    assert.deepEqual(lines(await search({ query: ') -> ' })), ['notes/usage.txt:1:35', 'src/parser.rs:3:30']);
    const found = await search({ query: String.raw`fn\s+parse_[a-z]+\(`, regex: true, context: 1, languages: ['rust'] });
    assert.deepEqual(lines(found), ['src/parser.rs:3:4', 'src/parser.rs:7:0']);
    const [first] = found.body.matches;
    assert.deepEqual([first.before, first.content, first.after], [[''], PARSER.split('\n')[2], ['    parse_line(text)']]);
    assert.deepEqual([first.repository_id, first.repository, first.branch], [repository.id, repository.full_name, 'main']);
    assert.deepEqual(lines(await search({ query: '^.', regex: true, path: 'notes/' })), ['notes/usage.txt:1:0', 'notes/usage.txt:2:0']);
    assert.deepEqual((await search({ query: 'parse_config', format: 'simple' })).body.results.sort(), ['notes/usage.txt', 'src/parser.rs']);
    for (const query of ['', '(', 'a\nb', String.raw`\w{300}`, '('.repeat(60) + ')'.repeat(60), 'x'.repeat(1001)]) {
      assert.equal((await search({ query, regex: true })).status, 400, query);
    }
    assert.equal((await search({ query: 'a', limit: 'many' })).body.error_type, 'validation_error');
  });

  test('pages of one line each are the whole answer', async () => {
    const pages = [];
    let after = null;
    for (let page = 0; page < 9; page += 1) {
      const { body } = await send(secret, '/api/v1/search/code', { query: '[a-z]', regex: true, limit: 1, context: 0, after });
      pages.push(...lines({ body }));
      after = body.next;
      if (after === null) break;
    }
    const { body } = await send(secret, '/api/v1/search/code', { query: '[a-z]', regex: true, limit: 50 });
    assert.equal(body.next, null);
    assert.deepEqual([pages.sort(), new Set(pages).size], [lines({ body }), 6]);
    assert.equal((await send(secret, '/api/v1/search/code', { query: 'a', after: 'nonsense' })).status, 400);
    assert.equal((await send(secret, '/api/v1/search/code', { query: 'a', after: '0.0.nonsense' })).status, 422);
  });

  test('a repository is registered once, and its job is followed', async () => {
    const git_url = `https://gitlab.com/acme/r-${randomUUID()}`;
    const register = (key, fields) => send(key, '/api/v1/repositories', fields);
    assert.equal((await register(hidden, { git_url })).status, 403);
    const [first, again] = [await register(secret, { git_url, branch: 'trunk' }), await register(secret, { git_url })];
    assert.equal(first.body.status, 'accepted', JSON.stringify(first.body));
    assert.deepEqual(again.body, first.body);
    const { job_id, repository_id } = first.body;
    const { body } = await send(secret, `/api/v1/index/status?job_id=${job_id}`);
    assert.deepEqual([body.job.id, body.job.status, body.job.branch], [job_id, 'queued', 'trunk']);
    const { body: known } = await send(secret, '/api/v1/repositories');
    assert.equal(known.repositories.find(({ id }) => id === repository_id).url, `${git_url}.git`);
    const { status, body: unknown } = await send(secret, `/api/v1/index/status?job_id=${randomUUID()}`);
    assert.deepEqual([status, unknown.error_type, unknown.error_code], [404, 'not_found', 404]);
    assert.equal((await register(secret, { path: '/etc' })).body.error_type, 'local_path_indexing_disabled');
    assert.equal((await register(secret, {})).body.error_type, 'validation_error');
  });

  test('the symbols of a file, and what is indexed', async () => {
    const { body } = await send(secret, `/api/v1/files/symbols/src/parser.rs?repository_id=${repository.id}`);
    assert.equal(body.file, 'src/parser.rs');
    const places = (symbols) => symbols.map(({ name, kind, start_line, end_line }) => [name, kind, start_line, end_line]);
    const [config, line] = [
      ['parse_config', 'function', 3, 5],
      ['parse_line', 'function', 7, 9],
    ];
    assert.deepEqual(places(body.symbols), [config, line]);
    const { body: searched } = await send(secret, '/api/v1/search/symbols', { pattern: 'parse_c*', symbol_type: 'Function' });
    assert.deepEqual([places(searched.matches), searched.matches[0].file_path], [[config], 'src/parser.rs']);
    const { body: listed } = await send(secret, '/api/v1/symbols?pattern=parse_');
    assert.deepEqual(places(listed.matches), [config, line]);
    const { body: own } = await send(secret, '/api/v1/symbols/search?query=PARSE_LINE&kind=function,class&language=rust&limit=1');
    assert.deepEqual(
      own.symbols.map(({ name, match }) => [name, match]),
      [['parse_line', 'exact']],
    );
    assert.equal((await send(secret, '/api/v1/symbols')).status, 400);
    const { body: used } = await send(secret, '/api/v1/symbols/parse_line/callers');
    assert.deepEqual(
      used.callers.map(({ caller, file_path, line_number, resolution }) => [caller, file_path, line_number, resolution]),
      [['parse_config', 'src/parser.rs', 4, 'same_file']],
    );
    const { body: affected } = await send(secret, '/api/v1/symbols/parse_line/impact');
    assert.deepEqual([affected.impacts[0].affected_symbol, affected.total_count], ['parse_config', 1]);
    const { body: overview } = await send(secret, `/api/v1/codebase-overview?repository_id=${repository.id}`);
    assert.deepEqual([overview.overview_data.languages, overview.overview_data.symbols], [{ rust: 2 }, { function: 2 }]);
  });

  describe('agents', () => {
    const connect = async (key) => {
      const client = new Client({ name: 'journey', version: '1' });
      const requestInit = { headers: { Authorization: `Bearer ${key}` } };
      await client.connect(new StreamableHTTPClientTransport(new URL(`${env.API_URL}/mcp`), { requestInit }));
      return client;
    };
    const call = async (client, name, args) => {
      const { content, structuredContent, isError } = await client.callTool({ name, arguments: args });
      assert.deepEqual(JSON.parse(content[0].text), structuredContent);
      return { isError, value: structuredContent };
    };

    test('a wrong key cannot connect, and one without the permission is told so', async () => {
      await assert.rejects(connect(`kjk_live_${'x'.repeat(38)}`), { code: 401 });
      const client = await connect(hidden);
      const { isError, value } = await call(client, 'search_code', { q: 'parse_config' });
      assert.deepEqual([isError, value.error.code], [true, 'permission_denied']);
      assert.deepEqual((await call(client, 'list_repositories', {})).value.repositories, []);
    });

    test('tools are listed with their arguments and called', async () => {
      const client = await connect(secret);
      const { tools } = await client.listTools();
      assert.deepEqual(tools.find(({ name }) => name === 'read_code_file').inputSchema.required, ['repository_id', 'path']);
      const found = await call(client, 'search_code', { q: 'fn parse_[a-z]+', regex: true, path: 'src/' });
      assert.deepEqual(lines({ body: found.value }), ['src/parser.rs:3:4', 'src/parser.rs:7:0']);
      const place = { repository_id: repository.id, path: 'src/parser.rs' };
      const read = await call(client, 'read_code_file', { ...place, start_line: 3, end_line: 3 });
      assert.deepEqual([read.value.content, read.value.lines], [PARSER.split('\n')[2], 8]);
      const files = await call(client, 'list_code_files', { repository_id: repository.id, n: 2 });
      assert.deepEqual(
        files.value.files.map(({ path }) => path),
        ['notes/usage.txt', 'src/empty.rs'],
      );
      assert.equal((await call(client, 'list_file_symbols', place)).value.symbols.length, 2);
      assert.equal((await call(client, 'search_symbols', { q: 'parse_line' })).value.symbols[0].match, 'exact');
      assert.equal((await call(client, 'symbol_graph', { symbol: 'parse_line' })).value.edges[0].source_symbol, 'parse_config');
      assert.equal((await call(client, 'code_overview', {})).value.repositories[0].files, 3);
      const job = await call(client, 'index_repository', { repository_id: repository.id });
      const seen = await call(client, 'get_indexing_job', { indexing_job_id: job.value.id });
      assert.equal(seen.value.status, 'queued');
      await client.close();
    });

    test('wrong arguments are told to the model, wrong messages to the program', async () => {
      const client = await connect(secret);
      for (const [name, args, code] of [
        ['read_code_file', { repository_id: repository.id }, 'bad_request'],
        ['read_code_file', { repository_id: repository.id, path: 'src/parser.rs', start_line: '5' }, 'bad_request'],
        ['read_code_file', { repository_id: repository.id, path: 'a', sudo: true }, 'bad_request'],
        ['read_code_file', { repository_id: randomUUID(), path: 'src/parser.rs' }, 'not_found'],
        ['search_code', { q: '(', regex: true }, 'bad_request'],
        ['get_indexing_job', { indexing_job_id: randomUUID() }, 'not_found'],
      ]) {
        const { isError, value } = await call(client, name, args);
        assert.deepEqual([isError, value.error.code], [true, code], `${name} ${JSON.stringify(args)}`);
      }
      await assert.rejects(client.callTool({ name: 'drop_tables', arguments: {} }), { code: -32602 });
      for (const [message, headers, status, code] of [
        [{ jsonrpc: '2.0', id: 1, method: 'resources/list' }, {}, 200, -32601],
        [[{ jsonrpc: '2.0', id: 1, method: 'ping' }], {}, 400, -32600],
        [{ jsonrpc: '1.0', id: 1, method: 'ping' }, {}, 400, -32600],
        [{ jsonrpc: '2.0', id: 1, method: 'ping' }, { 'MCP-Protocol-Version': '1999-01-01' }, 400, -32600],
      ]) {
        const { status: answered, body } = await send(secret, '/mcp', message, headers);
        assert.deepEqual([answered, body.error.code], [status, code], JSON.stringify(message));
      }
      assert.equal((await send(secret, '/mcp')).status, 405);
      assert.equal((await send(secret, '/mcp', { jsonrpc: '2.0', method: 'notifications/initialized' })).status, 202);
    });
  });
});
