// Reports about storage: names, ranges, empty objects, races, links, and what a browser would run.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before } from 'node:test';
import { newTeam } from '../journeys/domain.mjs';
import { as as asUser, raw } from '../journeys/raw_http.mjs';
import { read, storage, tenantBucket } from '../journeys/storage_support.mjs';
import { env } from '../journeys/support.mjs';
import { report } from './report.mjs';

let team;
let bucket;
let open;
before(async () => {
  team = await newTeam();
  [bucket, open] = [await tenantBucket(), await tenantBucket({ public: true })];
});

const files = (person = team.member, id = bucket) => person.client.storage.from(id);
const path = (name) => `${team.orgId}/${name}`;
const encoded = (name) => name.split('/').map(encodeURIComponent).join('/');

async function put(name, body, options) {
  const { error } = await files().upload(path(name), body, options);
  assert.equal(error, null, `${name}: ${error?.message}`);
}

report('storage-1', 'names with letters beyond ASCII are refused with a code of their own, at each call, and store nothing', async () => {
  for (const name of [
    '灯泡.jpeg',
    'über.gpx',
    'e\u0301te\u0301.png',
    'Screenshot 10.15.30\u202FAM.png',
    'a\u0000b',
    'a\u200Bb',
    '😀.png',
  ]) {
    const answer = await storage('POST', `/object/${bucket}/${encoded(path(name))}`, { token: team.member.token, body: 'x' });
    assert.deepEqual([answer.status, answer.body.code ?? answer.body.error], [400, 'InvalidKey'], JSON.stringify(name));
    for (const call of [
      files().move(path('a'), path(name)),
      files().copy(path('a'), path(name)),
      files().createSignedUploadUrl(path(name)),
    ]) {
      const { error } = await call;
      assert.ok(error && String(error.statusCode).startsWith('4'), `${JSON.stringify(name)}: ${error?.statusCode}`);
    }
  }
});

report('storage-2', 'a time as a name, with colons, is stored under that name', async () => {
  const name = `${new Date().toISOString()}.txt`;
  await put(name, 'timed');
  assert.equal(await read(files(), path(name)), 'timed');
  const { data } = await files().list(team.orgId, { search: name });
  assert.deepEqual(
    data.map((one) => one.name),
    [name],
  );
});

report('storage-3', 'a plus is a plus and a space is a space, through upload, copy, move, list and links', async () => {
  for (const [name, body] of [
    ['a+b.txt', 'plus'],
    ['a b.txt', 'space'],
  ]) {
    await put(name, body);
    assert.equal((await files().copy(path(name), path(`copy/${name}`))).error, null);
    assert.equal((await files().move(path(`copy/${name}`), path(`moved/${name}`))).error, null);
    assert.equal(await read(files(), path(`moved/${name}`)), body);
    const { data } = await files().createSignedUrl(path(`moved/${name}`), 60);
    assert.equal(await (await fetch(data.signedUrl)).text(), body, data.signedUrl);
  }
  const { data } = await files().list(`${team.orgId}/moved`);
  assert.deepEqual(data.map(({ name }) => name).sort(), ['a b.txt', 'a+b.txt']);
});

report('storage-4', 'a question mark in a name is part of the name, and never reaches another object', async () => {
  await put('q', 'the short one');
  const raw = (method, name, body) =>
    storage(method, `/object/${method === 'GET' ? 'authenticated/' : ''}${bucket}/${encoded(path(name))}`, {
      token: team.member.token,
      body,
      headers: { 'Content-Type': 'text/plain' },
    });
  for (const name of ['q?.txt', 'q&x=1', 'q=1;v', "q'(1)!*", 'q$@:,']) {
    assert.equal((await raw('POST', name, name)).status, 200, name);
    assert.equal((await raw('GET', name)).bytes.toString(), name);
  }
  assert.equal(await read(files(), path('q')), 'the short one');
  // A fragment and a percent sign are no part of any name.
  for (const name of ['q#1', 'q%41', 'q%2e']) assert.equal((await raw('POST', name, 'x')).body.code ?? 'stored', 'InvalidKey', name);
});

report('storage-5', 'an underscore or a percent sign in a search is itself', async () => {
  for (const name of ['w/a_b.txt', 'w/axb.txt', 'w/ab.txt']) await put(name, 'x');
  const names = async (folder, options) => (await files().list(`${team.orgId}/${folder}`, options)).data.map(({ name }) => name);
  assert.deepEqual(await names('w', { search: 'a_' }), ['a_b.txt']);
  for (const search of ['%', '%b', 'a%', '_', '\\']) assert.deepEqual(await names('w', { search }), [], search);
  assert.deepEqual(await names('_'), []);
  const second = await storage('POST', `/object/list-v2/${bucket}`, { token: team.member.token, body: { prefix: `${team.orgId}/w/a_` } });
  assert.deepEqual(
    second.body.objects.map(({ name }) => name),
    [path('w/a_b.txt')],
  );
});

report('storage-6', 'an empty object is stored, read, copied and signed, and has no range', async () => {
  await put('empty', new Uint8Array(0), { contentType: 'application/octet-stream' });
  assert.equal(await read(files(), path('empty')), '');
  assert.equal((await files().copy(path('empty'), path('empty-2'))).error, null);
  const { data: info } = await files().info(path('empty-2'));
  assert.equal(info.size, 0);
  const { data } = await files().createSignedUrl(path('empty-2'), 60);
  const whole = await fetch(data.signedUrl);
  assert.deepEqual([whole.status, whole.headers.get('content-length')], [200, '0']);
  const range = await fetch(data.signedUrl, { headers: { Range: 'bytes=0-' } });
  assert.deepEqual([range.status, range.headers.get('content-range')], [416, 'bytes */0']);
});

report('storage-7', 'ranges: the last bytes, beyond the end, backwards, and several', async () => {
  await put('digits', '0123456789', { contentType: 'text/plain' });
  const get = async (range) => {
    const answer = await storage('GET', `/object/authenticated/${bucket}/${path('digits')}`, {
      token: team.member.token,
      headers: { Range: range },
    });
    return [answer.status, answer.status === 416 ? '' : answer.bytes.toString(), answer.headers.get('content-range')];
  };
  for (const [range, ...expected] of [
    ['bytes=0-3', 206, '0123', 'bytes 0-3/10'],
    ['bytes=-3', 206, '789', 'bytes 7-9/10'],
    ['bytes=-30', 206, '0123456789', 'bytes 0-9/10'],
    ['bytes=8-99', 206, '89', 'bytes 8-9/10'],
    ['bytes=9-', 206, '9', 'bytes 9-9/10'],
    ['bytes=10-', 416, '', 'bytes */10'],
    ['bytes=-0', 416, '', 'bytes */10'],
    // What is no range is ignored (RFC 9110).
    ['bytes=5-2', 200, '0123456789', null],
    ['bytes=abc', 200, '0123456789', null],
    ['lines=0-3', 200, '0123456789', null],
  ]) {
    assert.deepEqual(await get(range), expected, range);
  }
  const [status] = await get('bytes=0-1,4-5');
  assert.ok([200, 206].includes(status), 'several ranges: one of them, all of them, or the whole');
});

report('storage-8', 'of uploads of a free name at the same moment one succeeds, and its bytes are there', async () => {
  const name = path(`race-${randomUUID()}`);
  const bodies = Array.from({ length: 8 }, (_, n) => `${n}`.repeat(20_000));
  const answers = await Promise.all(bodies.map((body) => files().upload(name, body)));
  const won = answers.flatMap(({ error }, n) => (error === null ? [n] : []));
  assert.equal(won.length, 1);
  for (const { error } of answers.filter((answer) => answer.error)) assert.equal(error.statusCode, '409');
  assert.equal(await read(files(), name), bodies[won[0]]);
});

report('storage-9', 'what a browser would run is never shown by us, however its type is written', async () => {
  for (const type of [
    'image/svg+xml',
    'IMAGE/SVG+XML; charset=utf-8',
    'text/html;x=y',
    'application/xhtml+xml',
    'text/xml',
    'application/xslt+xml',
    'text/html\t',
    'multipart/related',
    'text/javascript',
  ]) {
    const name = path(`page-${randomUUID()}`);
    const stored = await storage('POST', `/object/${open}/${name}`, {
      token: team.member.token,
      body: '<script>1</script>',
      headers: { 'Content-Type': type },
    });
    assert.equal(stored.status, 200, `${type}: ${stored.bytes}`);
    const { headers } = await fetch(`${env.API_URL}/storage/v1/object/public/${open}/${name}`);
    assert.equal(headers.get('x-content-type-options'), 'nosniff', type);
    assert.ok(
      /^attachment/.test(headers.get('content-disposition') ?? '') || /sandbox/.test(headers.get('content-security-policy') ?? ''),
      `${type}: ${headers.get('content-disposition')} ${headers.get('content-security-policy')}`,
    );
    assert.doesNotMatch(headers.get('content-security-policy') ?? '', /allow-(scripts|same-origin)/);
  }
});

report('storage-10', 'a move needs the right to change the object and to write at its target', async () => {
  await put('stays', 'here');
  assert.notEqual((await files(team.viewer).move(path('stays'), path('gone'))).error, null);
  const away = await newTeam();
  assert.notEqual((await files().move(path('stays'), `${away.orgId}/taken`)).error, null);
  assert.notEqual((await files().copy(path('stays'), `${away.orgId}/taken`)).error, null);
  assert.equal(await read(files(), path('stays')), 'here');
  assert.equal((await read(files(away.owner), `${away.orgId}/taken`)).code, 'NoSuchKey');
});

report('storage-11', 'a link that is signed for one object opens no other, whatever is done to its path', async () => {
  await put('sign/one', 'one');
  await put('sign/two', 'two');
  const { data } = await files().createSignedUrl(path('sign/one'), 60);
  const url = new URL(data.signedUrl);
  for (const other of ['sign/two', 'sign/one/../two', 'sign/one%2f..%2ftwo', 'sign//two', 'sign/one?x=/two', 'sign/one;/../two']) {
    const answer = await fetch(
      `${url.origin}/storage/v1/object/sign/${bucket}/${team.orgId}/${other}${other.includes('?') ? '&' : '?'}${url.searchParams}`,
    );
    assert.notEqual(await answer.text(), 'two', other);
  }
  const tampered = url.searchParams.get('token').replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'));
  assert.equal((await fetch(`${url.origin}${url.pathname}?token=${tampered}`)).status, 400);
});

report('storage-12', 'a name that is a path upwards, absolute, or has empty parts is refused, or was tidied on the way', async () => {
  // As it is: fetch would tidy the path. Caddy tidies dots that are not encoded (RFC 3986, 6.2.2.3), before any policy is asked.
  for (const name of ['..', '.', 'a/../b', 'a/./b', 'a//b', '/a', 'a/', '%2e%2e', 'a/%2e%2e/b', '..%2fb', 'a%5C..%5Cb', '%2fa']) {
    const headers = [...asUser(team.member.token), ['Content-Type', 'text/plain'], ['x-upsert', 'true']];
    const { status, body } = await raw('POST', env.API_URL, `/storage/v1/object/${bucket}/${team.orgId}/${name}`, headers, 'x');
    if (status !== 200) assert.ok(status >= 400 && status < 500, `${name}: ${status} ${JSON.stringify(body)}`);
    else assert.match(body.Key, /^[\w-]+(\/(?!\.{1,2}(\/|$))[^/\\]+)*$/, name);
    if (name.includes('%')) assert.notEqual(status, 200, name);
  }
});
