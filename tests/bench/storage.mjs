// Uploads and downloads of 10 MB objects, beside Debian's nginx with the same files on the same disk: wrk with 8 connections, in
// rounds, in another order each time. nginx asks nobody who may do what, keeps no row and no hash, and flushes nothing to the disk.
//
//   ./kijko bench storage       KIJKO_BENCH_SECONDS=5   KIJKO_BENCH_ROUNDS=3
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort } from '../ports.mjs';
import { HOME, killStorageServices, StorageService } from '../storage_service.mjs';
import { until } from '../until.mjs';
import { median, ROUNDS } from './limits/load.mjs';

const { API_URL, ADMIN_DB_URL, SERVICE_ROLE_KEY } = process.env;
const SECONDS = Number(process.env.KIJKO_BENCH_SECONDS ?? 5);
const CONNECTIONS = 8;
const OBJECT = 10_000_000;
const run = promisify(execFile);
const shuffled = (values) => [...values].sort(() => Math.random() - 0.5);
const bytes = randomBytes(OBJECT);
const headers = { Authorization: `Bearer ${SERVICE_ROLE_KEY}`, 'Content-Type': 'application/octet-stream' };

const work = fs.mkdtempSync(path.join(HOME, 'bench-storage-'));
const folder = path.join(HOME, 'storage');
const owner = fs.statSync(folder);
const asOwner = process.getuid() === 0 ? { uid: owner.uid, gid: owner.gid } : {};
if (asOwner.uid !== undefined) fs.chownSync(work, owner.uid, owner.gid);

/** nginx as its package configures it, but for the folders: downloads by sendfile, uploads by its dav module. */
async function startNginx() {
  const port = await freePort();
  for (const name of ['upload', 'temp']) {
    fs.mkdirSync(path.join(work, name));
    if (asOwner.uid !== undefined) fs.chownSync(path.join(work, name), owner.uid, owner.gid);
  }
  const file = path.join(work, 'nginx.conf');
  fs.writeFileSync(
    file,
    `daemon off; worker_processes auto; pid ${work}/nginx.pid; error_log ${work}/error.log;
events { worker_connections 768; }
http {
  access_log off; sendfile on; tcp_nopush on; types_hash_max_size 2048; default_type application/octet-stream;
  client_body_temp_path ${work}/temp; proxy_temp_path ${work}/temp; fastcgi_temp_path ${work}/temp; uwsgi_temp_path ${work}/temp; scgi_temp_path ${work}/temp;
  client_max_body_size 50m;
  server {
    listen 127.0.0.1:${port};
    location /objects/ { alias ${folder}/; }
    location /upload/ { root ${work}; dav_methods PUT; }
  }
}
`,
  );
  const child = spawn('nginx', ['-e', `${work}/error.log`, '-c', file], { ...asOwner, stdio: 'ignore' });
  const url = `http://127.0.0.1:${port}`;
  await until('nginx', () => {
    assert.equal(child.exitCode, null, `nginx ended: ${work}/error.log`);
    return fetch(url).then(
      () => true,
      () => false,
    );
  });
  return { url, stop: () => child.kill() };
}

/** Megabytes a second. */
async function rate(address, script) {
  const file = path.join(work, 'wrk.lua');
  fs.writeFileSync(file, script);
  const { stdout } = await run('wrk', ['-t1', `-c${CONNECTIONS}`, `-d${SECONDS}s`, '--timeout', '60s', '-s', file, address]);
  assert.doesNotMatch(stdout, /Non-2xx|Socket errors/, stdout);
  return (Number(/Requests\/sec:\s+([0-9.]+)/.exec(stdout)[1]) * OBJECT) / 1e6;
}

const lua = (method, paths, body) => `
${body ? `local file = io.open("${work}/bytes", "rb"); wrk.body = file:read("*a"); file:close()` : ''}
local paths = { ${paths.map((name) => `"${name}"`).join(', ')} }
local next = 0
wrk.headers["Authorization"] = "${headers.Authorization}"
wrk.headers["Content-Type"] = "${headers['Content-Type']}"
local requests = {}
init = function() for n, path in ipairs(paths) do requests[n] = wrk.format("${method}", path) end end
request = function() next = next % #paths + 1; return requests[next] end
`;

const admin = new pg.Client({ connectionString: ADMIN_DB_URL });
await admin.connect();
const bucket = `bench-${randomUUID()}`;
await admin.query('insert into storage.buckets (id, name) values ($1, $1)', [bucket]);
fs.writeFileSync(path.join(work, 'bytes'), bytes);
// Bytes that are replaced go at once: otherwise the run would fill the disk.
const service = await StorageService.start({ variables: { KIJKO_STORAGE_KEEP_DELETED_DAYS: '0', KIJKO_STORAGE_SWEEP_SECONDS: '1' } });
const nginx = await startNginx();
const names = Array.from({ length: CONNECTIONS }, (_, n) => `${bucket}/${n}`);
for (const name of names) {
  const answer = await fetch(`${service.url}/object/${name}`, { method: 'POST', headers, body: bytes });
  assert.equal(answer.status, 200, await answer.text());
}
const { rows } = await admin.query('select version from storage.objects where bucket_id = $1', [bucket]);
const files = rows.map(({ version }) => `/objects/${version.slice(0, 2)}/${version.slice(2, 4)}/${version}`);
const edge = new URL(API_URL).origin;
const objects = (prefix) => names.map((name) => `${prefix}/object/${name}`);
// Uploads go to other names: nginx serves the downloads by their versions, which must stay.
const targets = (prefix) => objects(prefix).map((name) => `${name}-new`);
const uploads = names.map((_, n) => `/upload/${n}`);

const runs = [
  ['download', 'nginx', () => rate(nginx.url, lua('GET', files))],
  ['download', 'kijko', () => rate(service.url, lua('GET', objects('')))],
  ['download', 'kijko through Caddy', () => rate(edge, lua('GET', objects('/storage/v1')))],
  ['upload', 'nginx', () => rate(nginx.url, lua('PUT', uploads, true))],
  ['upload', 'kijko', () => rate(service.url, lua('PUT', targets(''), true))],
  ['upload', 'kijko through Caddy', () => rate(edge, lua('PUT', targets('/storage/v1'), true))],
];
const figures = new Map();
try {
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const [what, who, measure] of shuffled(runs)) {
      const figure = await measure();
      const name = `${what} ${who}`;
      // The first round warms caches.
      if (round > 0) figures.set(name, [...(figures.get(name) ?? []), figure]);
    }
  }
  console.log(`MB/s of ${OBJECT / 1e6} MB objects on ${CONNECTIONS} connections, medians of ${ROUNDS} runs of ${SECONDS} s:`);
  for (const what of ['download', 'upload']) {
    const base = median(figures.get(`${what} nginx`));
    for (const who of ['nginx', 'kijko', 'kijko through Caddy']) {
      const all = figures.get(`${what} ${who}`);
      const each = all.map(Math.round).join(' ');
      console.log(
        `${what.padEnd(9)} ${who.padEnd(20)} ${Math.round(median(all))}   (${each}), ${(median(all) / base).toFixed(2)} of nginx`,
      );
    }
  }
  console.log(
    `load of the machine at the end: ${os
      .loadavg()
      .map((value) => value.toFixed(1))
      .join(' ')}`,
  );
} finally {
  nginx.stop();
  await killStorageServices();
  await admin.end();
  fs.rmSync(work, { recursive: true, force: true });
}
