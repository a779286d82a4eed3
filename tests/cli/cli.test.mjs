// The entry script as an operator meets it, on the running test stack: misuse, state, drift, crashed parts, busy ports.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { home, kijko, letRequestsRollBack, logs, pidOf, port, requestsRollBack, root } from './stack.mjs';

describe('misuse and failure have different exit codes', () => {
  for (const args of [
    ['no-such-command'],
    ['status', '-x'],
    ['up', 'now'],
    ['up', '--with'],
    ['up', '--with', 'nothing'],
    ['logs', 'nobody'],
    ['test', 'no-such-area'],
    ['down', 'please'],
    ['models'],
    ['models', 'import', 'no-such-file'],
    ['types', '--help'],
    ['types', 'a', 'b'],
    ['demo', '--help'],
    ['openapi', '--help'],
    ['package', '--help'],
  ]) {
    it(`./kijko ${args.join(' ')} exits 2 and says why`, async () => {
      const { code, stderr } = await kijko(args);
      assert.equal(code, 2);
      assert.match(stderr, /kijko: /);
    });
  }
  it("./kijko types writes the types into a frontend's own folder", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-types-'));
    const file = path.join(folder, 'database.types.ts');
    try {
      const { code, stderr } = await kijko(['types', file]);
      assert.equal(code, 0, stderr);
      assert.equal(fs.readFileSync(file, 'utf8'), fs.readFileSync(path.join(root, 'supabase/database.types.ts'), 'utf8'));
      assert.deepEqual(fs.readdirSync(folder), ['database.types.ts']);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
  it('a port that is not a number is misuse', async () => {
    assert.equal((await kijko(['status'], { KIJKO_API_PORT: 'http' })).code, 2);
    assert.equal((await kijko(['status'], { KIJKO_API_PORT: '80' })).code, 2);
  });
  it('trusted proxies that are not addresses are misuse', async () => {
    const { code, stderr } = await kijko(['status'], { KIJKO_TRUSTED_PROXIES: "all'" });
    assert.equal(code, 2);
    assert.match(stderr, /KIJKO_TRUSTED_PROXIES/);
  });
  it('help exits 0', async () => {
    const { code, stdout } = await kijko(['help']);
    assert.equal(code, 0);
    assert.match(stdout, /\.\/kijko COMMAND/);
  });
});

describe('models import', () => {
  const prices = path.join(root, 'tests/fixtures/litellm_prices.json');
  it('imports prices, reports what it skipped and why, and changes nothing the second time', async () => {
    const first = await kijko(['models', 'import', prices]);
    assert.equal(first.code, 0, first.stderr);
    assert.match(first.stdout, /^\d added, \d changed, \d unchanged, 6 skipped$/m);
    assert.match(first.stdout, /^skipped, an explanation, no model \(1\): sample_spec$/m);
    assert.match((await kijko(['models', 'import', prices])).stdout, /^0 added, 0 changed, 5 unchanged, 6 skipped$/m);
  });
  it('a file that is not a price list fails', async () => {
    const { code, stderr } = await kijko(['models', 'import', path.join(root, 'README.md')]);
    assert.equal(code, 1);
    assert.match(stderr, /nothing was imported/);
  });
});

describe('status', () => {
  it('shows every part running, healthy and with a version', async () => {
    const { code, stdout } = await kijko(['status']);
    assert.equal(code, 0, stdout);
    for (const part of ['postgres', 'rest', 'login', 'sidecar', 'caddy']) {
      assert.match(stdout, new RegExp(`^${part} +running +\\d+ +ok +\\d+\\.\\d+|^${part} +running +\\d+ +ok +v?\\d+\\.\\d+`, 'm'));
    }
  });
  it('-o env prints NAME="value" lines that a shell can read', async () => {
    const { code, stdout } = await kijko(['status', '-o', 'env']);
    assert.equal(code, 0);
    const lines = stdout.trim().split('\n');
    assert.ok(
      lines.every((line) => /^[A-Z_]+="[^"$`\\]+"$/.test(line)),
      stdout,
    );
    const names = lines.map((line) => line.split('=')[0]);
    for (const name of ['API_URL', 'DB_URL', 'ADMIN_DB_URL', 'ANON_KEY', 'SERVICE_ROLE_KEY']) assert.ok(names.includes(name), name);
  });
});

describe('secrets', () => {
  it("are readable only by the stack's user", () => {
    assert.equal(fs.statSync(path.join(home, 'secrets')).mode & 0o077, 0);
    for (const name of fs.readdirSync(path.join(home, 'secrets'))) {
      assert.equal(fs.statSync(path.join(home, 'secrets', name)).mode & 0o077, 0, name);
    }
  });
  it('appear in no log', () => {
    const passwords = fs.readFileSync(path.join(home, 'secrets', 'passwords'), 'utf8').match(/[0-9a-f]{48}/g);
    assert.equal(passwords.length, 9);
    for (const { name, text } of logs())
      for (const password of passwords) assert.ok(!text.includes(password), `a password stands in ${name}`);
  });
});

describe('up on a running stack', () => {
  it('keeps processes and keys, and ends what a killed test has left', async () => {
    const names = ['rest', 'login', 'sidecar', 'realtime', 'storage', 'caddy'];
    const pids = names.map(pidOf);
    const keys = fs.readFileSync(path.join(home, 'secrets', 'api_keys'), 'utf8');
    await letRequestsRollBack();
    const { code, stderr } = await kijko(['up']);
    assert.equal(code, 0, stderr);
    assert.equal(await requestsRollBack(), false);
    assert.deepEqual(names.map(pidOf), pids);
    assert.equal(fs.readFileSync(path.join(home, 'secrets', 'api_keys'), 'utf8'), keys);
  });

  it('status reports a crashed part, and up starts it again', async () => {
    process.kill(pidOf('rest'), 'SIGKILL');
    const crashed = await kijko(['status']);
    assert.equal(crashed.code, 1);
    assert.match(crashed.stdout, /^rest +crashed/m);
    assert.equal((await kijko(['up'])).code, 0);
    assert.equal((await kijko(['status'])).code, 0);
  });

  describe('with another checkout of the same stack', () => {
    let copy;
    const upInCopy = () =>
      new Promise((resolve) => {
        execFile(
          path.join(copy, 'kijko'),
          ['up'],
          {
            env: { ...process.env, KIJKO_HOME: home, KIJKO_API_PORT: port, KIJKO_YES: '1' },
            timeout: 600_000,
          },
          (error, _stdout, stderr) => resolve({ code: error ? error.code : 0, stderr }),
        );
      });

    before(() => {
      copy = fs.mkdtempSync('/var/tmp/kijko-copy-');
      fs.chmodSync(copy, 0o755);
      for (const entry of [
        'kijko',
        'scripts',
        'sql',
        'supabase',
        'deploy',
        'kijko_ext',
        'Cargo.toml',
        'Cargo.lock',
        'package.json',
        'package-lock.json',
        'services',
        'sidecar',
      ]) {
        fs.cpSync(path.join(root, entry), path.join(copy, entry), { recursive: true, preserveTimestamps: true });
      }
      for (const entry of ['node_modules', 'target']) fs.symlinkSync(path.join(root, entry), path.join(copy, entry));
    });
    after(() => fs.rmSync(copy, { recursive: true, force: true }));

    it('up applies a migration that was added', async () => {
      const version = '20991231235959';
      fs.writeFileSync(
        path.join(copy, `supabase/migrations/${version}_later.sql`),
        "comment on schema private is 'changed by a later migration';\n",
      );
      const client = new pg.Client({ connectionString: process.env.DB_URL });
      await client.connect();
      try {
        const was = (await client.query("select obj_description('private'::regnamespace) as text")).rows[0].text;
        const { code, stderr } = await upInCopy();
        assert.equal(code, 0, stderr);
        const now = (await client.query("select obj_description('private'::regnamespace) as text")).rows[0].text;
        assert.equal(now, 'changed by a later migration');
        await client.query(`comment on schema private is ${client.escapeLiteral(was)}`);
        await client.query('delete from supabase_migrations.schema_migrations where version = $1', [version]);
      } finally {
        await client.end();
        fs.rmSync(path.join(copy, `supabase/migrations/${version}_later.sql`));
      }
    });

    it('up refuses an edited migration, names it and leaves the stack running', async () => {
      const name = fs.readdirSync(path.join(copy, 'supabase/migrations')).find((file) => file.endsWith('_projects.sql'));
      fs.appendFileSync(path.join(copy, 'supabase/migrations', name), '\nselect 1;\n');
      const { code, stderr } = await upInCopy();
      assert.equal(code, 1, stderr);
      assert.match(stderr, new RegExp(name.replaceAll('.', '\\.')));
      assert.match(stderr, /reset/);
      assert.equal((await kijko(['status'])).code, 0);
    });
  });
});

describe('ports', () => {
  let server;
  before(
    () =>
      new Promise((resolve) => {
        server = net.createServer().listen(0, '127.0.0.1', resolve);
      }),
  );
  after(() => server.close());

  it('a busy port is named with the variable that changes it, and nothing keeps running', async () => {
    const elsewhere = fs.mkdtempSync('/var/tmp/kijko-busy-');
    fs.chmodSync(elsewhere, 0o755);
    try {
      const busy = server.address().port;
      const { code, stderr } = await kijko(['up'], { KIJKO_HOME: elsewhere, KIJKO_API_PORT: '54000', KIJKO_DB_PORT: String(busy) });
      assert.equal(code, 1, stderr);
      assert.match(stderr, new RegExp(`port ${busy} `));
      assert.match(stderr, /KIJKO_DB_PORT/);
      assert.ok(!fs.existsSync(path.join(elsewhere, 'data', 'postmaster.pid')));
    } finally {
      fs.rmSync(elsewhere, { recursive: true, force: true });
    }
  });
});
