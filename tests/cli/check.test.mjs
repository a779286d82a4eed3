// ./kijko check: what it finds, what it prints, and how it exits, for ./kijko's callers and for Nagios.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { asPostgres, asSuperuser, home, kijko, passwords, pidOf } from './stack.mjs';

// The machine's disk is not what is tested, and other files leave dead jobs.
const CALM = { KIJKO_CHECK_DISK_PERCENT: '0', KIJKO_CHECK_DEAD_HOURS: '0' };

async function check(args = [], environment = {}) {
  const { code, stdout, stderr } = await kijko(['check', ...args], { ...CALM, ...environment });
  return { code, line: stdout.trimEnd(), stderr };
}

const sidecarStatus = async () => (await (await fetch(`${process.env.SIDECAR_OPERATORS_URL}/ready`)).json()).status;

/** Each check's level, by its name, and all that was printed. */
async function levels(environment = {}) {
  const { line } = await check(['--verbose'], environment);
  const lines = line
    .split('\n')
    .slice(1)
    .map((text) => text.trim().split(/ +/));
  return { seen: Object.fromEntries(lines.map(([level, name]) => [name, level])), line };
}

describe('check on a stack that is well', () => {
  // Jobs of kinds that no worker knows, which the worker's own tests leave.
  before(() => asPostgres((client) => client.query(`delete from public.jobs where kind ~ '^test(\\.|$)'`)));
  it('prints one line and exits 0', async () => {
    // Failed events of Stripe that an earlier file has left, for example, are a warning of the sidecar's own.
    const degraded = (await sidecarStatus()) === 'degraded';
    const { code, line } = await check();
    assert.equal(code, degraded ? 1 : 0, line);
    assert.match(line, degraded ? /^WARNING: sidecar-ready: degraded[^;]*$/ : /^OK: \d+ checks$/);
    assert.equal((await check(['--nagios'])).code, code);
  });
  it('looks at every part, and at what an operator would', async () => {
    const { seen, line } = await levels();
    const names = ['database', 'passwords', 'rest', 'login', 'sidecar', 'caddy', 'rotation', 'sidecar-ready', 'disk', 'keys'];
    for (const name of [
      ...names,
      'queue',
      'leases',
      'dead-jobs',
      'billing',
      'erasures',
      'slots',
      'partitions',
      'vacuum',
      'schedule',
      'runs',
    ]) {
      const warned = name === 'sidecar-ready' && (await sidecarStatus()) === 'degraded';
      assert.equal(seen[name], warned ? 'warning' : 'ok', `${name}: ${line}`);
    }
  });
  it('refuses what it does not know: 2, and 3 for Nagios, which reads 2 as critical', async () => {
    assert.equal((await check(['--loud'])).code, 2);
    assert.equal((await check(['--loud', '--nagios'])).code, 3);
    assert.equal((await check([], { KIJKO_CHECK_QUEUE_SECONDS: 'soon' })).code, 2);
  });
});

describe('check finds', () => {
  const finds = async (name, level, environment) => {
    const { code, line } = await check([], environment);
    assert.equal(code, 1, line);
    assert.equal(line.split('\n').length, 1);
    assert.match(line, new RegExp(`^${level.toUpperCase()}: .*${name}: `));
    assert.equal((await check(['--nagios'], environment)).code, level === 'critical' ? 2 : 1);
    return line;
  };

  it('a full disk', () => finds('disk', 'critical', { KIJKO_CHECK_DISK_PERCENT: '400' }));

  it('a full disk of its own of the objects', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-check-'));
    fs.writeFileSync(
      path.join(folder, 'df'),
      `#!/bin/sh\nfor last; do :; done\ncase $last in */objects) printf 'x\\nx 100 98 2 98%% x\\n' ;; *) printf 'x\\nx 100 50 50 50%% x\\n' ;; esac\n`,
      { mode: 0o755 },
    );
    try {
      const disk = {
        PATH: `${folder}:${process.env.PATH}`,
        KIJKO_STORAGE_DIR: path.join(folder, 'objects'),
        KIJKO_CHECK_DISK_PERCENT: '15',
      };
      assert.match(await finds('disk', 'critical', disk), /2 % free in .*\/objects/);
      assert.equal((await levels({ ...disk, KIJKO_STORAGE_DIR: folder })).seen.disk, 'ok');
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });

  it('a missing file of keys', () => finds('keys', 'critical', { KIJKO_SEAL_KEY_FILE: path.join(home, 'secrets/nowhere') }));

  it('a file of keys that others may read, which Postgres refuses', async () => {
    const file = path.join(home, 'secrets/check-open.keys');
    fs.writeFileSync(file, 'x');
    try {
      fs.chmodSync(file, 0o644);
      assert.match(await finds('keys', 'critical', { KIJKO_SEAL_KEY_FILE: file }), /check-open\.keys is open to other users/);
      fs.chmodSync(file, 0o640); // a group may read it, as the secrets of Docker
      assert.equal((await levels({ KIJKO_SEAL_KEY_FILE: file })).seen.keys, 'ok');
    } finally {
      fs.rmSync(file);
    }
  });

  it('a signing secret of Stripe that fits no delivery, until one fits', async () => {
    const secret = { STRIPE_WEBHOOK_SECRET: 'whsec_of_another_endpoint' };
    const deliver = (key) => {
      const body = JSON.stringify({ id: `evt_check${Date.now()}`, object: 'event', type: 'check.none', created: 1, data: { object: {} } });
      const at = Math.floor(Date.now() / 1000);
      const signature = createHmac('sha256', key).update(`${at}.${body}`).digest('hex');
      return fetch(`${process.env.API_URL}/webhooks/stripe`, {
        method: 'POST',
        body,
        headers: { 'stripe-signature': `t=${at},v1=${signature}` },
      });
    };
    assert.equal((await kijko(['restart', 'sidecar'])).code, 0); // its counters begin at 0
    assert.equal((await deliver('whsec_wrong')).status, 400);
    assert.match(await finds('stripe', 'warning', secret), /1 deliveries were refused/);
    assert.equal((await levels()).seen.stripe, undefined, 'not where Stripe is not used');
    assert.equal((await deliver(process.env.STRIPE_WEBHOOK_SECRET_LOCAL)).status, 200);
    assert.equal((await levels(secret)).seen.stripe, 'ok');
  });

  it('keys that expire soon', () => finds('keys', 'warning', { KIJKO_CHECK_EXPIRY_DAYS: '36500' }));

  it('a certificate that is not shown', () => finds('certificate', 'critical', { KIJKO_PUBLIC_URL: 'https://127.0.0.1:9' }));

  it('a part that crashed', async () => {
    process.kill(pidOf('login'), 'SIGKILL');
    await finds('login', 'critical');
    assert.equal((await kijko(['restart', 'login'])).code, 0);
  });

  it('a replication slot that nobody reads', async () => {
    await asSuperuser((client) => client.query("select pg_create_physical_replication_slot('check_unused', true)"));
    await finds('slots', 'warning');
    await asSuperuser((client) => client.query("select pg_drop_replication_slot('check_unused')"));
  });

  it('partitions that end', async () => {
    await asSuperuser((client) =>
      client.query(`create schema check_parts;
        create table check_parts.events (at timestamptz not null) partition by range (at);
        create table check_parts.events_1 partition of check_parts.events for values from ('2020-01-01') to ('2020-02-01')`),
    );
    try {
      assert.match(await finds('partitions', 'critical'), /check_parts\.events/);
    } finally {
      await asSuperuser((client) => client.query('drop schema check_parts cascade'));
    }
  });

  it('subscriptions that are not what Stripe has', async () => {
    await asPostgres((client) =>
      client.query(`insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false);
        insert into private.billing_comparisons (customer_id, livemode, organization_id, compared_at, differences, differs_since)
        values ('cus_check', false, kijko.platform_org_id(), now(), '["sub_check is active here and canceled at Stripe"]', now() - interval '1 hour')`),
    );
    try {
      assert.match(await finds('billing', 'warning'), /billing_problems/);
    } finally {
      await asPostgres((client) =>
        client.query(`delete from private.billing_comparisons where customer_id = 'cus_check'; delete from private.billing_account`),
      );
    }
  });

  it('jobs that wait, leases that ended and jobs that were given up', async () => {
    const org = await asPostgres(async (client) => (await client.query('select kijko.platform_org_id() as id')).rows[0].id);
    const insert = (columns, values) =>
      asPostgres((client) => client.query(`insert into jobs (org_id, kind, ${columns}) values ($1, 'check.none', ${values})`, [org]));
    await insert('run_at', "clock_timestamp() - interval '10 minutes'");
    await insert('status, attempt, locked_by, locked_until', "'running', 1, 'nobody', clock_timestamp() - interval '10 minutes'");
    const dead = async () => Number(/dead-jobs +(\d+) in /.exec((await levels({ KIJKO_CHECK_DEAD_HOURS: '1' })).line)?.[1] ?? 0);
    const former = await dead();
    await insert('status, attempt, error_code, finished_at', "'dead', 5, 'internal', clock_timestamp()");
    await insert('status, attempt, error_code, finished_at', "'dead', 1, 'invalid_input', clock_timestamp()");
    try {
      assert.equal((await dead()) - former, 1, 'an input that a tenant got wrong is no fault that an operator mends');
      const { stdout } = await kijko(['jobs', 'dead', '--kind', 'check.none']);
      assert.match(stdout, /tenant +\| invalid_input/);
      assert.match(stdout, /operator +\| internal/);
      const { seen, line } = await levels({ KIJKO_CHECK_DEAD_HOURS: '1' });
      assert.match(line, /of the kind check\.none, waits for \d+ s/);
      // pg_cron takes the lease back once a minute, and could have done so by now.
      assert.ok(['warning', 'ok'].includes(seen.leases));
      assert.equal(seen['dead-jobs'], 'warning');
      assert.equal(seen.queue, 'warning');
      assert.equal((await levels({ KIJKO_CHECK_QUEUE_CRITICAL_SECONDS: '400' })).seen.queue, 'critical');
    } finally {
      await asPostgres((client) => client.query("delete from jobs where kind = 'check.none'"));
    }
  });
});

describe('a wrong password', () => {
  const PARTS = { rest: ['authenticator', 'AUTHENTICATOR'], login: ['kijko_login', 'LOGIN'], sidecar: ['kijko_sidecar', 'SIDECAR'] };
  const setPassword = (role, password) => asSuperuser((client) => client.query(`alter role ${role} password '${password}'`));
  after(async () => {
    for (const [name, [role, variable]] of Object.entries(PARTS)) {
      await setPassword(role, passwords()[variable]);
      assert.equal((await kijko(['restart', name])).code, 0);
    }
    assert.ok((await check(['--nagios'])).code < 2);
  });

  for (const [name, [role]] of Object.entries(PARTS)) {
    it(`of ${role} is named by restart at once, in the log of ${name}, and by check`, async () => {
      await setPassword(role, 'another');
      const { code, stderr } = await kijko(['restart', name]);
      assert.equal(code, 1, stderr);
      assert.match(stderr, new RegExp(`password of ${role} `));
      const log = fs.readFileSync(path.join(home, 'log', `${name}.log`), 'utf8');
      assert.match(log, new RegExp(`password authentication failed for user \\\\?"${role}`));
      const { code: found, line } = await check(['--nagios']);
      assert.equal(found, 2);
      assert.match(line, new RegExp(`^CRITICAL: .*passwords: .*${role}`));
      assert.ok(!line.includes('another'));
    });
  }
});

describe('check without a database', () => {
  after(async () => {
    assert.equal((await kijko(['up'])).code, 0);
  });
  it('says so and ends', async () => {
    assert.equal((await kijko(['down'])).code, 0);
    const { code, line } = await check(['--nagios']);
    assert.equal(code, 2);
    assert.match(line, /^CRITICAL: database: /);
  });
  it('says that there is no stack', async () => {
    const { code, line } = await check([], { KIJKO_HOME: path.join(home, 'no-stack') });
    assert.equal(code, 1);
    assert.match(line, /^CRITICAL: stack: /);
    fs.rmSync(path.join(home, 'no-stack'), { recursive: true });
  });
});
