// Passwords, keys and the channel that reloads PostgREST are known only where they are needed.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { until } from '../until.mjs';
import { asPostgres, asSidecar, asSuperuser, home, kijko, passwords, pidOf } from './stack.mjs';

describe('passwords', () => {
  const children = (pid) =>
    fs
      .readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((child) => {
        try {
          return Number(/\) \S (\d+)/.exec(fs.readFileSync(`/proc/${child}/stat`, 'utf8'))[1]) === pid;
        } catch {
          return false;
        }
      });
  const read = (pid, file) => {
    try {
      return fs.readFileSync(`/proc/${pid}/${file}`, 'utf8');
    } catch {
      return '';
    }
  };

  it("appear in no process's environment or arguments, except those of the sidecar's logins in the sidecar", async () => {
    // Started anew from a shell that exports every password.
    assert.equal((await kijko(['down'])).code, 0);
    const all = passwords();
    const { code, stderr } = await kijko(['up'], {
      ...Object.fromEntries(Object.entries(all).map(([name, value]) => [`KIJKO_${name}_PASSWORD`, value])),
      OPENAI_API_KEY: '',
      PGPASSWORD: all.ADMIN,
    });
    assert.equal(code, 0, stderr);
    const postmaster = Number(fs.readFileSync(path.join(home, 'data/postmaster.pid'), 'utf8').split('\n')[0]);
    const processes = [
      ['postgres', postmaster],
      ...children(postmaster).map((pid) => ['backend', pid]),
      ...['caddy', 'sidecar', 'rest', 'login'].map((name) => [name, pidOf(name)]),
    ];
    assert.ok(processes.length > 8);
    for (const [name, pid] of processes) {
      const text = read(pid, 'environ') + read(pid, 'cmdline');
      for (const [role, password] of Object.entries(all)) {
        if (name === 'sidecar' && ['SIDECAR', 'GATEWAY'].includes(role)) continue;
        assert.ok(!text.includes(password), `the password of ${role} stands in the process of ${name}`);
      }
      assert.ok(!text.includes('SERVICE_ROLE_KEY') && !text.includes('ADMIN_DB_URL'), name);
    }
    assert.ok(read(pidOf('sidecar'), 'environ').includes('DATABASE_URL='), 'the environment could be read');
  });

  it('and the service key are printed only by status -o env', async () => {
    const { stdout, stderr } = await kijko(['up']);
    const environment = (await kijko(['status', '-o', 'env'])).stdout;
    const serviceKey = /SERVICE_ROLE_KEY="([^"]+)"/.exec(environment)[1];
    for (const text of [stdout, stderr, (await kijko(['status'])).stdout, (await kijko(['help'])).stdout]) {
      assert.ok(!text.includes(serviceKey), 'the service key');
      for (const [name, password] of Object.entries(passwords())) assert.ok(!text.includes(password), name);
    }
    assert.match(stdout, /status -o env/);
  });
});

describe('notify pgrst', () => {
  const call = (name) =>
    fetch(`${process.env.API_URL}/rest/v1/rpc/${name}`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${process.env.SERVICE_ROLE_KEY}` },
    });
  const served = async (name) => {
    const answer = await call(name);
    await answer.text();
    return answer.status === 200;
  };

  it("by any login does nothing: the channel's name is secret, and ./kijko reload asks PostgREST instead", async () => {
    const name = `made_at_${process.pid}`;
    await asPostgres((client) =>
      client.query(`
        create function public.${name}() returns integer language sql as 'select 1';
        grant execute on function public.${name}() to service_role`),
    );
    try {
      const channels = `select query from pg_stat_activity where query ~* '^\\s*listen' and usename not in ('kijko_sidecar', 'kijko_realtime', 'kijko_storage')`;
      const { rows } = await asSuperuser((client) => client.query(channels));
      assert.equal(rows.length, 2, 'both PostgRESTs listen');
      for (const { query } of rows) assert.match(query, /pgrst_[0-9a-f]{32}/);
      assert.deepEqual((await asSidecar((client) => client.query(channels))).rows, [], 'the sidecar cannot see where');
      for (const payload of ['reload schema', 'reload config']) {
        await asSidecar((client) => client.query(`notify pgrst, '${payload}'`));
        await asSidecar((client) => client.query(`select pg_notify('pgrst', $1)`, [payload]));
      }
      assert.equal(await served(name), false);
      assert.equal((await kijko(['reload'])).code, 0);
      await until('PostgREST to have read the schema again', () => served(name), { everyMs: 100 });
    } finally {
      await asPostgres((client) => client.query(`drop function public.${name}()`));
    }
  });
});
