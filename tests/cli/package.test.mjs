// A package: what is in it, what it refuses, and that a stack starts from it where no compiler and no Node.js is.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { freeStackPorts } from '../ports.mjs';
import { kijko, root } from './stack.mjs';

const folder = fs.mkdtempSync('/var/tmp/kijko-package-');
fs.chmodSync(folder, 0o755);
const name = (ending) => fs.readdirSync(folder).find((file) => file.endsWith(ending) && !file.startsWith('altered'));
const at = (...parts) => path.join(folder, ...parts);
const port = await freeStackPorts();

before(async () => {
  const { code, stderr } = await kijko(['package', folder]);
  assert.equal(code, 0, stderr);
});
after(() => fs.rmSync(folder, { recursive: true, force: true }));

// Every program of the system but those that build or run JavaScript.
function withoutToolchain() {
  const bin = at('bin');
  fs.mkdirSync(bin);
  for (const from of ['/usr/bin', '/usr/sbin']) {
    for (const tool of fs.readdirSync(from)) {
      if (!/^(cargo|rustc|rustup|node|npm|npx|gcc|cc|clang|make)(-|$)/.test(tool) && !fs.existsSync(path.join(bin, tool))) {
        fs.symlinkSync(path.join(from, tool), path.join(bin, tool));
      }
    }
  }
  return bin;
}

function call(program, args, environment = {}) {
  const env = { ...process.env, KIJKO_HOME: at('home'), KIJKO_API_PORT: String(port), KIJKO_DB_PORT: '', KIJKO_YES: '1', ...environment };
  for (const secret of Object.keys(env)) if (/_URL$|_KEY$|^TEST_|^KIJKO_TEST/.test(secret)) delete env[secret];
  return new Promise((resolve) => {
    execFile(program, args, { env, timeout: 600_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, stdout, stderr }),
    );
  });
}

/** A small part of the tarball with one change, and with checksums of before or after it. */
function altered(change, checksums = 'after') {
  const [tree, part] = [at('altered'), at('part')];
  if (!fs.existsSync(part)) {
    fs.mkdirSync(part);
    execFileSync('tar', ['-xzf', at(name('.tar.gz')), '-C', part, '--exclude=*/package', '--exclude=*/supabase']);
  }
  fs.rmSync(tree, { recursive: true, force: true });
  fs.cpSync(part, tree, { recursive: true });
  const [top] = fs.readdirSync(tree);
  const sum = () => {
    const script = 'find . -type f -not -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum > ../sums; mv ../sums SHA256SUMS';
    execFileSync('bash', ['-c', script], { cwd: path.join(tree, top) });
  };
  if (checksums === 'before') sum();
  change(path.join(tree, top));
  if (checksums === 'after') sum();
  execFileSync('tar', ['-czf', at('altered.tar.gz'), top], { cwd: tree });
  return at('altered.tar.gz');
}
const fact = (key, value) => (tree) => {
  const file = path.join(tree, 'PACKAGE');
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(new RegExp(`^${key}=.*$`, 'm'), `${key}=${value}`));
};

describe('a package', () => {
  let checkout;
  let PATH;
  before(() => {
    // The scripts alone, without what was built.
    checkout = at('checkout');
    for (const entry of ['kijko', 'scripts']) fs.cpSync(path.join(root, entry), path.join(checkout, entry), { recursive: true });
    PATH = withoutToolchain();
  });
  after(async () => {
    await call(path.join(checkout, 'kijko'), ['down'], { PATH });
  });
  const from = (file, environment = {}) => call(path.join(checkout, 'kijko'), ['up', '--from', file], { PATH, ...environment });

  it('has checksums that fit', () => {
    execFileSync('sha256sum', ['--check', '--strict', name('.sha256')], { cwd: folder, stdio: 'ignore' });
  });

  it('holds no secret, no path of this checkout and no sources', () => {
    const listed = execFileSync('tar', ['-tzf', at(name('.tar.gz'))], { encoding: 'utf8' });
    assert.doesNotMatch(listed, /\/secrets\/|node_modules|\.rs$|\/\.env$|\/\.kijko/m);
    for (const part of [
      'package/bin/kijko-sidecar',
      'package/bin/kijko-realtime',
      'package/bin/kijko-storage',
      'package/bin/kijko-indexer',
      'package/bin/postgrest',
      'deploy/systemd/',
      'PACKAGE',
      'SHA256SUMS',
    ]) {
      assert.ok(listed.includes(part), part);
    }
  });

  it('is refused when a file was changed, added, or has no checksum', async () => {
    const append = (tree) => fs.appendFileSync(path.join(tree, 'kijko'), '\n');
    assert.equal((await from(altered(append, 'before'))).code, 1);
    const add = (tree) => fs.writeFileSync(path.join(tree, 'scripts/more.sh'), '');
    assert.equal((await from(altered(add, 'before'))).code, 1);
    assert.ok(!fs.existsSync(at('home/package')));
  });

  for (const [what, key, value, words] of [
    ['another major version of PostgreSQL', 'pg_major', '12', /PostgreSQL 12/],
    ['another architecture', 'arch', 'sparc', /sparc/],
    ['a newer system', 'glibc', '9.99', /glibc 9\.99/],
  ]) {
    it(`is refused when it is for ${what}, before anything was changed`, async () => {
      const { code, stderr } = await from(altered(fact(key, value)));
      assert.equal(code, 1);
      assert.match(stderr, words);
      assert.ok(!fs.existsSync(at('home/package')));
      assert.ok(!fs.existsSync(at('home/data')));
    });
  }

  it('is refused when it is none', async () => {
    assert.equal((await from(at('nothing.tar.gz'))).code, 2);
    assert.equal((await from(path.join(root, 'README.md'))).code, 1);
  });

  it('starts a stack without a toolchain', async () => {
    assert.equal((await call(path.join(checkout, 'kijko'), ['up'], { PATH })).code, 1, 'a checkout needs Rust');
    const { code, stderr } = await from(at(name('.tar.gz')));
    assert.equal(code, 0, stderr);
    const status = await call(path.join(checkout, 'kijko'), ['status'], { PATH });
    assert.equal(status.code, 0, status.stdout);
    const health = await fetch(`http://127.0.0.1:${port}/health`);
    assert.equal(health.status, 200);
  });

  it('serves the later commands, too: psql, restart, check and up', async () => {
    const run = (...args) => call(path.join(checkout, 'kijko'), args, { PATH, KIJKO_CHECK_DISK_PERCENT: '0' });
    const plans = await run('psql', '-Atc', 'select count(*) > 2 from plans');
    assert.equal(plans.stdout.trim(), 't', plans.stderr);
    assert.equal((await run('restart', 'sidecar')).code, 0);
    assert.equal((await run('check')).code, 0);
    const again = await run('up');
    assert.equal(again.code, 0, again.stderr);
    const program = fs.readlinkSync(at('home/package'));
    assert.match(program, /kijko-.*-pg\d+/);
  });

  it('refuses a package of another major for the cluster that is there', async () => {
    fs.writeFileSync(at('home/data/PG_VERSION.kept'), '');
    const { code, stderr } = await from(altered(fact('pg_major', '99')));
    assert.equal(code, 1);
    assert.match(stderr, /cluster/);
  });
});

describe('the Debian packages', () => {
  const deb = (prefix) => at(fs.readdirSync(folder).find((file) => file.startsWith(prefix) && file.endsWith('.deb')));
  const field = (file, name) => execFileSync('dpkg-deb', ['--field', file, name], { encoding: 'utf8' }).trim();

  it('are one of the extension for its major version, and one of the stack', () => {
    const extension = deb('postgresql-');
    const [, major] = /postgresql-(\d+)-kijko/.exec(extension);
    assert.match(field(extension, 'Depends'), new RegExp(`postgresql-${major}, libc6 \\(>= [0-9.]+\\)`));
    const files = execFileSync('dpkg-deb', ['--contents', extension], { encoding: 'utf8' });
    assert.match(files, new RegExp(`/usr/lib/postgresql/${major}/lib/kijko\\.so`));
    assert.match(files, new RegExp(`/usr/share/postgresql/${major}/extension/kijko\\.control`));
    const stack = deb('kijko_');
    assert.match(field(stack, 'Depends'), new RegExp(`postgresql-${major}-cron.*caddy`));
    assert.match(execFileSync('dpkg-deb', ['--contents', stack], { encoding: 'utf8' }), /rw-r----- root\/root .*\/etc\/kijko\/kijko\.env/);
  });

  it('are unpacked by dpkg, and /usr/bin/kijko answers', () => {
    const place = at('unpacked');
    execFileSync('dpkg-deb', ['--extract', deb('kijko_'), place]);
    assert.ok(fs.existsSync(path.join(place, 'usr/lib/kijko/PACKAGE')));
    assert.match(execFileSync(path.join(place, 'usr/lib/kijko/kijko'), ['help'], { encoding: 'utf8' }), /kijko COMMAND/);
    assert.equal(fs.readlinkSync(path.join(place, 'usr/lib/kijko/.env')), '/etc/kijko/kijko.env');
  });

  it('are installed, removed and purged by dpkg: the stack stops, its data stay, and settings go with the purge', () => {
    const place = at('installed');
    const inside = (...parts) => path.join(place, ...parts);
    for (const part of ['var/lib/dpkg/info', 'var/lib/dpkg/updates']) fs.mkdirSync(inside(part), { recursive: true });
    fs.writeFileSync(inside('var/lib/dpkg/status'), '');
    // A file system of its own: what the packages depend on is not in it, and their scripts run outside.
    const options = ['--root', place, '--force-depends', '--force-not-root', '--force-script-chrootless', '--log', at('dpkg.log')];
    const dpkg = (...args) => execFileSync('dpkg', [...options, ...args], { encoding: 'utf8', stdio: 'pipe', env: environment() });
    const stack = deb('kijko_');

    assert.match(dpkg('--install', deb('postgresql-'), stack), /set \/etc\/kijko\/kijko\.env, then 'kijko up'/);
    const settings = inside('etc/kijko/kijko.env');
    assert.equal(fs.statSync(settings).mode & 0o777, 0o640);
    if (process.getuid() === 0) assert.equal(fs.statSync(settings).gid, Number(execFileSync('id', ['-g', 'postgres'])));
    assert.equal(execFileSync('dpkg', ['--root', place, '--verify', 'kijko'], { encoding: 'utf8' }), '');

    // Settings of an operator, and a stack that runs.
    fs.appendFileSync(settings, 'KIJKO_PUBLIC_URL=https://api.example.com\n');
    fs.mkdirSync(inside('var/lib/kijko/data'), { recursive: true });
    const calls = at('calls');
    const record = () => fs.writeFileSync(inside('usr/bin/kijko'), `#!/bin/sh\necho "$@" >> ${calls}\n`);
    record();
    assert.match(dpkg('--install', stack), /takes the new version into use/);
    assert.match(fs.readFileSync(settings, 'utf8'), /api\.example\.com/);
    assert.ok(!fs.existsSync(calls), 'an upgrade stops nothing');

    record();
    fs.writeFileSync(inside('var/lib/kijko/systemd'), 'kijko\n');
    dpkg('--remove', 'kijko');
    assert.equal(fs.readFileSync(calls, 'utf8'), 'units remove\ndown\n');
    assert.ok(!fs.existsSync(inside('usr/lib/kijko')));
    assert.match(fs.readFileSync(settings, 'utf8'), /api\.example\.com/);
    dpkg('--purge', 'kijko');
    assert.ok(!fs.existsSync(settings));
    assert.ok(fs.existsSync(inside('var/lib/kijko/data')));
  });

  // Only root can give a file to another group.
  function environment() {
    if (process.getuid() === 0) return process.env;
    const stub = at('stub');
    fs.mkdirSync(stub, { recursive: true });
    fs.writeFileSync(path.join(stub, 'chgrp'), '#!/bin/sh\n', { mode: 0o755 });
    return { ...process.env, PATH: `${stub}:${process.env.PATH}:/usr/sbin:/sbin` };
  }
});
