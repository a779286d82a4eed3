// docker-compose.yml: Caddy writes the log of requests with the few rights of its container, and the sidecar's user reads it, also after
// a rotation.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, it } from 'node:test';
import { parse } from 'yaml';
import { freePort } from '../ports.mjs';
import { until } from '../until.mjs';
import { root } from './stack.mjs';

const { caddy, sidecar } = parse(fs.readFileSync(path.join(root, 'docker-compose.yml'), 'utf8'), { merge: true }).services;
const image = fs.readFileSync(path.join(root, 'deploy/docker/sidecar.Dockerfile'), 'utf8');
const isRoot = process.getuid() === 0;
// Who is not root stands for all of them: then only the rights are looked at.
const group = isRoot ? 999 : process.getgid();

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-access-log-'));
const logs = path.join(folder, 'logs');
let program;
after(() => {
  program?.kill();
  fs.rmSync(folder, { recursive: true });
});

it('the sidecar reads what Caddy logs, in each file', async () => {
  assert.equal(caddy.environment.KIJKO_ACCESS_LOG, sidecar.environment.KIJKO_ACCESS_LOG);
  assert.ok(caddy.volumes.includes('requests:/var/log/kijko') && sidecar.volumes.includes('requests:/var/log/kijko:ro'));
  const [, user, groupOfFolder, mode] = image.match(/^RUN install -d -o (\d+) -g (\d+) -m (\d+) \/var\/log\/kijko$/m);
  assert.equal(sidecar.user, `${user}:${groupOfFolder}`);
  assert.deepEqual(caddy.group_add, [groupOfFolder]);

  fs.chmodSync(folder, 0o755);
  fs.mkdirSync(logs);
  fs.chmodSync(logs, Number.parseInt(mode, 8));
  if (isRoot) fs.chownSync(logs, Number(user), Number(groupOfFolder));
  const [shell, flag, script] = caddy.command;
  const command = script
    .replaceAll('/var/log/kijko', logs)
    .replace('/etc/caddy/Caddyfile', path.join(root, 'deploy/Caddyfile'))
    .replace(`chgrp ${groupOfFolder}`, `chgrp ${group}`);
  const rights = ['--groups', `0,${groupOfFolder}`, '--inh-caps=-all', '--bounding-set=-all,+net_bind_service', '--no-new-privs'];
  const confined = isRoot ? ['setpriv', ...rights] : ['env'];
  const port = await freePort();
  program = spawn(confined[0], [...confined.slice(1), shell, flag, command], {
    stdio: 'inherit',
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      KIJKO_SITE: `http://:${port}`,
      KIJKO_ACCESS_LOGGING: caddy.environment.KIJKO_ACCESS_LOGGING,
      KIJKO_ACCESS_LOG: path.join(logs, 'access.log'),
      KIJKO_ACCESS_LOG_SIZE: '1MB',
    },
  });
  const ask = (name) => fetch(`http://127.0.0.1:${port}/unknown/${name}`);
  await until('Caddy to answer', () => ask('first').catch(() => null));
  const names = Array.from({ length: 120 }, (_, n) => `n${n}-${'x'.repeat(12_000)}`);
  await Promise.all(names.map(ask));

  const files = () => fs.readdirSync(logs).map((name) => path.join(logs, name));
  const logged = () => {
    const reader = isRoot ? ['setpriv', '--reuid', user, '--regid', groupOfFolder, '--clear-groups', 'cat'] : ['cat'];
    const text = execFileSync(reader[0], [...reader.slice(1), ...files()], { encoding: 'utf8', maxBuffer: 1e8 });
    return names.map((name) => text.includes(name));
  };
  await until('all requests to be logged', () => logged().every(Boolean), { everyMs: 500 });
  assert.ok(files().length > 1, 'it was rotated');
  for (const file of files()) {
    const { mode: rightsOfFile, gid } = fs.statSync(file);
    assert.deepEqual([rightsOfFile & 0o777, gid], [0o640, group], file);
  }
});
