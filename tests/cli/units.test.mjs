// systemd's units: they are what systemd accepts, ./kijko run is what they start, and an installed stack is started by systemd.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { home, kijko, pidOf, root } from './stack.mjs';

const PARTS = ['postgres', 'rest', 'login', 'sidecar', 'realtime', 'storage', 'caddy', 'rotation'];
const folder = path.join(home, 'units');
const unit = (name) => fs.readFileSync(path.join(folder, name), 'utf8');
const analyze = (...args) => spawnSync('systemd-analyze', args, { encoding: 'utf8' });

describe('units print', () => {
  before(async () => {
    const { code, stderr } = await kijko(['units', 'print', folder]);
    assert.equal(code, 0, stderr);
  });
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  it('writes a unit for each part, the target, the check with its timer, and what logrotate reads', () => {
    const names = [...PARTS, 'check'].map((part) => `kijko-${part}.service`);
    assert.deepEqual(fs.readdirSync(folder).sort(), [...names, 'kijko-check.timer', 'kijko.logrotate', 'kijko.target'].sort());
    for (const name of fs.readdirSync(folder)) assert.doesNotMatch(unit(name).replaceAll('@system-service', ''), /@[A-Z]+@|@/, name);
  });

  it('systemd accepts all of them without a warning', () => {
    const files = fs.readdirSync(folder).filter((name) => !name.endsWith('.logrotate'));
    const { status, stderr } = analyze('verify', ...files.map((name) => path.join(folder, name)));
    assert.equal(stderr, '');
    assert.equal(status, 0);
  });

  it('a unit with a fault is noticed by the same check', () => {
    const broken = path.join(folder, 'kijko-broken.service');
    fs.writeFileSync(broken, unit('kijko-rest.service').replace('Type=exec', 'Type=unheard'));
    try {
      assert.notEqual(analyze('verify', broken).stderr, '');
    } finally {
      fs.rmSync(broken);
    }
  });

  it('each part is confined', () => {
    for (const part of PARTS) {
      const file = path.join(folder, `kijko-${part}.service`);
      const { status, stdout, stderr } = analyze('security', '--offline=true', '--threshold=30', file);
      assert.equal(status, 0, `${part}: ${stdout.split('\n').at(-2)}${stderr}`);
    }
  });

  it('each part starts again after a crash, and does not give up', () => {
    for (const part of PARTS) {
      const text = unit(`kijko-${part}.service`);
      assert.match(text, /^Restart=on-failure$/m, part);
      assert.match(text, /^RestartSec=/m, part);
      assert.match(text, /^StartLimitIntervalSec=0$/m, part);
    }
  });

  it('another prefix names other units', async () => {
    const other = path.join(home, 'units-other');
    assert.equal((await kijko(['units', 'print', other, 'staging'])).code, 0);
    assert.ok(
      fs.readFileSync(path.join(other, 'staging-rest.service'), 'utf8').includes('After=network-online.target staging-postgres.service'),
    );
    fs.rmSync(other, { recursive: true });
  });

  for (const args of [['print'], ['print', 'x', 'Not A Prefix'], ['start'], ['install', 'a', 'b'], ['remove', 'x']]) {
    it(`units ${args.join(' ')} is misuse`, async () => assert.equal((await kijko(['units', ...args])).code, 2));
  }
  it('status and remove fail where nothing is installed', async () => {
    assert.equal((await kijko(['units'])).code, 1);
    assert.equal((await kijko(['units', 'remove'])).code, 1);
  });
});

// What systemd does with the units, as far as ./kijko is concerned: start runs ExecStart as the stack's user, stop ends the process.
const SYSTEMCTL = `#!/bin/bash
echo "$*" >> "$STUB/calls"
part=\${2#kijko-} part=\${part%.service}
file=$KIJKO_HOME/run/$part.pid
[ "$part" != postgres ] || file=$KIJKO_HOME/data/postmaster.pid
pid() { head -n 1 "$file" 2> /dev/null | cut -d' ' -f1; }
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --init-groups --)
case $1 in
  --version) echo 'systemd 254 (254)' ;;
  start)
    kill -0 "$(pid)" 2> /dev/null && exit 0
    env -u KIJKO_YES "\${as[@]}" setsid "$STUB/kijko" run "$part" < /dev/null >> "$KIJKO_HOME/log/$part.log" 2>&1 &
    if [ "$part" = postgres ]; then for _ in {1..1200}; do "$KIJKO_HOME"/pgsql/lib/postgresql/*/bin/pg_isready -q -h 127.0.0.1 -p "$STUB_DB_PORT" && break; sleep 0.1; done; fi ;;
  stop)
    process=$(pid)
    [ -n "$process" ] || exit 0
    kill -s "$([ "$part" = postgres ] && echo INT || echo TERM)" "$process" 2> /dev/null
    while kill -0 "$process" 2> /dev/null && ! grep -q '^State:.Z' "/proc/$process/status"; do sleep 0.1; done
    [ "$part" = postgres ] || rm -f "$file" ;;
esac
exit 0
`;

describe('a stack that systemd runs', () => {
  // Where the stack's user can enter; the checkout may be elsewhere.
  let stub;
  let environment;
  const calls = () => fs.readFileSync(path.join(stub, 'calls'), 'utf8').split('\n');
  before(() => {
    stub = fs.mkdtempSync('/var/tmp/kijko-systemd-');
    fs.chmodSync(stub, 0o755);
    for (const entry of ['kijko', 'scripts', 'deploy', 'sql'])
      fs.cpSync(path.join(root, entry), path.join(stub, entry), { recursive: true });
    fs.writeFileSync(path.join(stub, 'systemctl'), SYSTEMCTL, { mode: 0o755 });
    fs.writeFileSync(path.join(stub, 'calls'), '', { mode: 0o666 });
    const database = String(new URL(process.env.DB_URL).port);
    environment = { PATH: `${stub}:${process.env.PATH}`, STUB: stub, STUB_DB_PORT: database };
    for (const part of PARTS) fs.closeSync(fs.openSync(path.join(home, 'log', `${part}.log`), 'a'));
    if (process.getuid() === 0) execFileSync('chown', ['-R', 'postgres:', path.join(home, 'log'), path.join(home, 'run')]);
    fs.writeFileSync(path.join(home, 'systemd'), 'kijko\n');
  });
  after(async () => {
    await kijko(['down'], environment);
    fs.rmSync(path.join(home, 'systemd'), { force: true });
    fs.rmSync(stub, { recursive: true, force: true });
    assert.equal((await kijko(['up'])).code, 0);
  });

  it('restart asks systemd, and the part is what ./kijko run became', async () => {
    const former = pidOf('rest');
    const { code, stderr } = await kijko(['restart', 'rest'], environment);
    assert.equal(code, 0, stderr);
    assert.deepEqual(
      calls().filter((call) => call.includes('rest')),
      ['stop kijko-rest.service', 'start kijko-rest.service'],
    );
    assert.notEqual(pidOf('rest'), former);
    assert.match(fs.readFileSync(`/proc/${pidOf('rest')}/cmdline`, 'utf8'), /postgrest/);
    assert.equal((await kijko(['status'], environment)).code, 0);
  });

  it('restart of everything goes through systemd for each part', async () => {
    const { code, stderr } = await kijko(['restart'], environment);
    assert.equal(code, 0, stderr);
    for (const part of PARTS) assert.ok(calls().includes(`start kijko-${part}.service`), part);
    assert.equal((await kijko(['status'], environment)).code, 0);
    const { stdout } = await kijko(['check', '--verbose'], { ...environment, KIJKO_CHECK_DISK_PERCENT: '0' });
    assert.match(stdout, /^ok +database /m);
  });

  it('run refuses a second process of a part, and what is no part', async () => {
    assert.equal((await kijko(['run', 'rest'], environment)).code, 1);
    assert.equal((await kijko(['run', 'nobody'], environment)).code, 2);
    assert.equal((await kijko(['run'], environment)).code, 2);
  });
});

describe('KIJKO_LOG_MEGABYTES=0', () => {
  it('leaves the logs to another program', async () => {
    assert.equal((await kijko(['restart', 'rotation'], { KIJKO_LOG_MEGABYTES: '0' })).code, 0);
    const { code, stdout } = await kijko(['status'], { KIJKO_LOG_MEGABYTES: '0' });
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^rotation +off/m);
    assert.equal((await kijko(['status'])).code, 1);
    assert.equal((await kijko(['restart', 'rotation'])).code, 0);
    assert.equal((await kijko(['status'])).code, 0);
  });
});
