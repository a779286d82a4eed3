// The chain of the audit log finds what somebody did to it who may do everything: the superuser, with triggers switched off.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import pg from 'pg';
import { newPerson, ok, until } from './domain.mjs';
import { env, sql } from './support.mjs';

const GUARDED = ['public.audit_log', 'private.audit_seals'];
const PLATFORM = 'kijko.platform_org_id()';

/** One run of the job. It gives up when it has waited ten seconds for writers; the next one tries again. */
const seal = () =>
  sql('select private.audit_seal()').catch((error) => {
    if (error.code !== '55P03') throw error;
  });

/** Seals until nothing of the organization is left open, and returns the proof. */
async function sealed(orgId) {
  return until('all entries to be sealed', async () => {
    await seal();
    const [{ proof, count }] = await sql(
      'select private.audit_verify($1) as proof, (select count(*)::integer from public.audit_log where org_id = $1) as count',
      [orgId],
    );
    return proof.entries === count && proof;
  });
}

const verify = async (orgId, ...more) =>
  (await sql(`select private.audit_verify($1${more.map((_, n) => `, $${n + 2}`).join('')}) as proof`, [orgId, ...more]))[0].proof;
const kinds = ({ faults }) => [...new Set(faults.map(({ fault }) => fault))].sort();

/** An organization with entries in three seals at least. */
async function newChain() {
  const person = await newPerson();
  for (const name of ['one', 'two', 'three']) {
    await ok(person.client.from('organizations').update({ name }).eq('id', person.orgId).select().single());
    await sealed(person.orgId);
  }
  const rows = await sql('select id, seq, xid, created_at from public.audit_log where org_id = $1 order by seq', [person.orgId]);
  const seals = await sql('select * from private.audit_seals where organization = $1 order by seal', [person.orgId]);
  assert.ok(seals.length >= 3 && rows.length >= 5);
  return { ...person, rows, seals };
}

/** Runs statements as the superuser with the guards off, shows the verdict, and takes it all back. */
async function tampered(orgId, statements, ...more) {
  const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await client.connect();
  try {
    await client.query('begin');
    for (const table of GUARDED) await client.query(`alter table ${table} disable trigger user`);
    for (const [text, values] of statements) {
      const { rowCount } = await client.query(text, values);
      assert.ok(rowCount > 0, `changed nothing: ${text}`);
    }
    const { rows } = await client.query(`select private.audit_verify($1${more.map((_, n) => `, $${n + 2}`).join('')}) as proof`, [
      orgId,
      ...more,
    ]);
    return rows[0].proof;
  } finally {
    await client.query('rollback');
    await client.end();
  }
}

describe('a superuser with the guards off', () => {
  let chain;
  before(async () => {
    chain = await newChain();
    assert.deepEqual(kinds(await verify(chain.orgId)), []);
  });

  const entry = (n) => chain.rows.at(n).id;
  const columns = `action, actor_kind, database_role, target_type, org_id`;
  const attacks = {
    'deletes an entry': [() => [['delete from public.audit_log where id = $1', [entry(1)]]], ['entry_deleted']],
    'changes what was done': [() => [[`update public.audit_log set after = '{}' where id = $1`, [entry(1)]]], ['entry_changed']],
    'changes who did it': [
      () => [['update public.audit_log set created_by = gen_random_uuid() where id = $1', [entry(-1)]]],
      ['entry_changed'],
    ],
    'changes when': [
      () => [[`update public.audit_log set created_at = created_at - interval '1 second' where id = $1`, [entry(1)]]],
      ['entry_changed'],
    ],
    'changes from where': [() => [[`update public.audit_log set address = '192.0.2.1' where id = $1`, [entry(1)]]], ['entry_changed']],
    'changes an erased digest': [
      () => [
        [
          `update public.audit_log set origin_salt = null, address = null, user_agent = null, origin_digest = '\\x00' where id = $1`,
          [entry(1)],
        ],
      ],
      ['entry_changed'],
    ],
    'moves an entry to another organization': [
      () => [[`update public.audit_log set org_id = ${PLATFORM} where id = $1`, [entry(1)]]],
      ['entry_deleted'],
    ],
    'exchanges the numbers of two entries': [
      () => [
        [
          'update public.audit_log as e set seq = o.seq from public.audit_log as o where (e.id, o.id) in (($1, $2), ($2, $1))',
          [entry(0), entry(1)],
        ],
      ],
      ['entry_changed'],
    ],
    'reorders entries within a seal': [
      () => {
        const long = chain.seals.find(({ entry_ids }) => entry_ids.length > 1);
        return [
          [
            `update private.audit_seals set entry_ids = (select array_agg(i order by n desc) from unnest(entry_ids) with ordinality as u (i, n)),
               digests = (select array_agg(d order by n desc) from unnest(digests) with ordinality as u (d, n))
             where organization = $1 and seal = $2`,
            [chain.orgId, long.seal],
          ],
        ];
      },
      ['seal_changed'],
    ],
    'reorders seals': [
      () => [
        ['update private.audit_seals set seal = seal + 100000 where organization = $1 and seal <= 2', [chain.orgId]],
        ['update private.audit_seals set seal = 100003 - seal where organization = $1 and seal > 100000', [chain.orgId]],
      ],
      ['seal_changed'],
    ],
    'inserts an entry in between': [
      () => [
        [
          `insert into public.audit_log (${columns}, xid, seq, created_at)
           select ${columns}, xid, seq - 1, created_at - interval '1 millisecond' from public.audit_log where id = $1`,
          [entry(-1)],
        ],
      ],
      ['entry_inserted'],
    ],
    'inserts an entry into a seal': [
      () => [
        [
          `with made as (
             insert into public.audit_log (${columns}, xid, created_at) select ${columns}, xid, created_at from public.audit_log where id = $1 returning *
           ) update private.audit_seals as s set entry_ids = s.entry_ids || m.id, digests = s.digests || private.audit_entry_digest(m)
           from made as m where s.organization = m.org_id and s.seal = 1`,
          [entry(1)],
        ],
      ],
      ['seal_changed'],
    ],
    'takes a seal out': [
      () => [['delete from private.audit_seals where organization = $1 and seal = 2', [chain.orgId]]],
      ['entry_inserted', 'seal_missing'],
    ],
    'truncates the end': [
      () => [
        ['delete from public.audit_log where id = any ($1)', [chain.seals.at(-1).entry_ids]],
        ['delete from private.audit_seals where organization = $1 and seal = $2', [chain.orgId, chain.seals.at(-1).seal]],
      ],
      ['truncated'],
    ],
    'truncates the beginning': [
      () => [
        ['delete from public.audit_log where id = any ($1)', [chain.seals[0].entry_ids]],
        ['delete from private.audit_seals where organization = $1 and seal = 1', [chain.orgId]],
      ],
      ['seal_missing'],
    ],
    'truncates the beginning, and says it was retention': [
      () => [
        ['delete from public.audit_log where id = any ($1)', [chain.seals[0].entry_ids]],
        ['delete from private.audit_seals where organization = $1 and seal = 1', [chain.orgId]],
        [
          'update private.audit_heads set checkpoint_seal = 1, checkpoint_position = $2, checkpoint_hash = $3 where organization = $1',
          [chain.orgId, chain.seals[0].entry_ids.length, chain.seals[0].hash],
        ],
      ],
      ['checkpoint_unknown'],
    ],
    'deletes everything': [
      () => [
        ['delete from public.audit_log where org_id = $1', [chain.orgId]],
        ['delete from private.audit_seals where organization = $1', [chain.orgId]],
        ['delete from private.audit_heads where organization = $1', [chain.orgId]],
      ],
      ['truncated'],
    ],
    'deletes the head': [() => [['delete from private.audit_heads where organization = $1', [chain.orgId]]], ['truncated']],
  };
  for (const [name, [statements, found]] of Object.entries(attacks)) {
    test(`${name}: ${found.join(', ')}`, async () => {
      const proof = await tampered(chain.orgId, statements());
      assert.equal(proof.ok, false);
      assert.deepEqual(kinds(proof), found, JSON.stringify(proof.faults));
    });
  }

  test('rewrites the end and the head: who noted a head finds it', async () => {
    const last = chain.seals.at(-1);
    const former = chain.seals.at(-2);
    const forged = [
      ['delete from public.audit_log where id = any ($1)', [last.entry_ids]],
      ['delete from private.audit_seals where organization = $1 and seal = $2', [chain.orgId, last.seal]],
      [
        'update private.audit_heads set seal = $2, hash = $3, position = position - $4 where organization = $1',
        [chain.orgId, former.seal, former.hash, last.entry_ids.length],
      ],
    ];
    assert.deepEqual(kinds(await tampered(chain.orgId, forged)), [], 'nothing in the database remembers it');
    assert.deepEqual(kinds(await tampered(chain.orgId, forged, 0, null, last.seal, last.hash.toString('hex'))), ['truncated']);
    assert.deepEqual(kinds(await verify(chain.orgId, 0, null, last.seal, last.hash.toString('hex'))), []);
  });

  test('another chain does not notice', async () => {
    const other = await newPerson();
    await sealed(other.orgId);
    assert.deepEqual(kinds(await tampered(other.orgId, [['delete from public.audit_log where id = $1', [entry(1)]]])), []);
  });
});

describe('the chain', () => {
  test('is checked in parts, too', async () => {
    const { orgId, seals } = await newChain();
    const first = await verify(orgId, 0, 1);
    assert.deepEqual([first.ok, first.last_seal, first.is_complete], [true, 1, false]);
    const rest = await verify(orgId, 1);
    assert.deepEqual([rest.ok, rest.seals, rest.is_complete], [true, seals.length - 1, true]);
  });

  test('an open transaction holds up what it writes, and what came after it is not lost', async () => {
    const person = await newPerson();
    await sealed(person.orgId);
    const slow = new pg.Client({ connectionString: env.DB_URL });
    await slow.connect();
    await slow.query('begin');
    await slow.query(`update public.organizations set slug = 's-' || id where id = $1`, [person.orgId]);
    const writes = (name) => sql(`insert into public.custom_roles (org_id, name) values ($1, $2)`, [person.orgId, name]);
    const other = await newPerson();
    await ok(other.client.from('organizations').update({ name: 'quick' }).eq('id', other.orgId).select().single());
    await seal();
    await slow.query('commit');
    await slow.end();
    await writes('after');
    for (const { orgId } of [person, other]) {
      const proof = await sealed(orgId);
      assert.deepEqual([proof.ok, kinds(proof)], [true, []]);
    }
    const actions = await sql(
      `select e.action from private.audit_seals as s cross join lateral unnest(s.entry_ids) as i (id) join public.audit_log as e on e.id = i.id where s.organization = $1`,
      [person.orgId],
    );
    assert.deepEqual(
      actions
        .filter(({ action }) => /organization.updated|role.created/.test(action))
        .map(({ action }) => action)
        .sort(),
      ['organization.updated', 'role.created'],
    );
  });

  test('two sealers at once make one chain', async () => {
    const person = await newPerson();
    await Promise.all(
      Array.from({ length: 4 }, async (_, n) => {
        await sql(`insert into public.custom_roles (org_id, name) values ($1, $2)`, [person.orgId, `role ${n}`]);
        await seal();
      }),
    );
    const proof = await sealed(person.orgId);
    assert.deepEqual([proof.ok, proof.fault_count], [true, 0]);
  });

  test('goes on in another cluster, where transactions are counted anew', async () => {
    const person = await newPerson();
    await sealed(person.orgId);
    await sql('update private.audit_cursor set cluster = 1');
    await sql('update private.audit_heads set cluster = 1, horizon = $2 where organization = $1', [person.orgId, '1152921504606846976']);
    await ok(person.client.from('organizations').update({ name: 'restored' }).eq('id', person.orgId).select().single());
    const proof = await sealed(person.orgId);
    assert.deepEqual([proof.ok, kinds(proof)], [true, []]);
    const [{ twice }] = await sql(
      'select count(*) - count(distinct i.id) as twice from private.audit_seals as s cross join unnest(s.entry_ids) as i (id) where s.organization = $1',
      [person.orgId],
    );
    assert.equal(Number(twice), 0);
    await ok(person.client.from('organizations').update({ name: 'and on' }).eq('id', person.orgId).select().single());
    assert.equal((await sealed(person.orgId)).ok, true);
  });

  test('erasure of a person leaves it whole', async () => {
    const person = await newPerson();
    const { orgId } = person;
    const other = await newPerson();
    await sql(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'owner')`, [orgId, other.user.id]);
    await ok(person.client.from('organizations').update({ name: 'by them' }).eq('id', orgId).select().single());
    await sealed(orgId);
    await sql('delete from auth.users where id = $1', [person.user.id]);
    await until('the erasure', async () => {
      await sql('select private.audit_erase()');
      const [{ left }] = await sql(
        'select count(*)::integer as left from public.audit_log where created_by = $1 and num_nonnulls(address, user_agent, origin_salt) > 0',
        [person.user.id],
      );
      return left === 0;
    });
    const proof = await sealed(orgId);
    assert.equal(proof.ok, true, JSON.stringify(proof.faults));
    assert.ok(proof.erased > 0);
  });

  test('retention leaves a checkpoint that the chain continues', async () => {
    const { orgId, seals } = await newChain();
    // Time travel would take the rest of the stack along: the entries grow old instead, and their chain is made anew.
    const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    await client.connect();
    await client.query('begin');
    for (const table of GUARDED) await client.query(`alter table ${table} disable trigger user`);
    await client.query('delete from private.audit_seals where organization = $1', [orgId]);
    await client.query('delete from private.audit_heads where organization = $1', [orgId]);
    await client.query(`update public.audit_log set created_at = created_at - interval '100 days' where org_id = $1`, [orgId]);
    for (const table of GUARDED) await client.query(`alter table ${table} enable trigger user`);
    for (const table of ['public.audit_log', 'private.audit_seals']) {
      for (const kind of ['guard', 'truncate']) {
        await client.query(`alter table ${table} enable always trigger ${table.split('.')[1]}_${kind}`);
      }
    }
    for (const { entry_ids } of seals) {
      await client.query('select private.audit_seal_entries($1, $2, c.horizon, c.base_seq, c.cluster) from private.audit_cursor as c', [
        orgId,
        entry_ids,
      ]);
      await client.query(`update private.audit_heads set cluster = 0 where organization = $1`, [orgId]);
    }
    await client.query('commit');
    await client.end();
    await sql(`select private.audit_purge_organization($1)`, [orgId]);
    const proof = await sealed(orgId);
    assert.deepEqual([proof.ok, kinds(proof)], [true, []], JSON.stringify(proof));
    assert.equal(proof.checkpoint.seal, seals.length - 1, 'the last seal stays');
    const [{ entries }] = await sql(
      `select count(*)::integer as entries from public.audit_log where org_id = $1 and action <> 'audit.purged'`,
      [orgId],
    );
    assert.equal(entries, seals.at(-1).entry_ids.length);
    const purged = async () => (await sql('select private.audit_purge_organization($1) as n', [orgId]))[0].n;
    assert.equal(await purged(), seals.at(-1).entry_ids.length, 'it goes when another one has followed');
    const rest = await sealed(orgId);
    assert.deepEqual([rest.ok, kinds(rest), rest.entries], [true, [], 2], 'the two entries about it');
    assert.equal(await purged(), 0);
  });

  test('an organization that is gone leaves nothing but its end', async () => {
    const person = await newPerson();
    const organization = await ok(person.client.rpc('create_organization', { name: 'Short' }));
    await sealed(organization.id);
    await ok(person.client.from('organizations').delete().eq('id', organization.id).select());
    await until('the log to go', async () => {
      await seal();
      await sql('select private.audit_purge_organization($1)', [organization.id]);
      const [{ left }] = await sql(
        `select (select count(*) from public.audit_log where org_id = $1)::integer
          + (select count(*) from private.audit_seals where organization = $1)::integer as left`,
        [organization.id],
      );
      return left === 0;
    });
    const end = await sql(`select created_by from public.audit_log where action = 'organization.deleted' and target_id = $1`, [
      organization.id,
    ]);
    assert.deepEqual(end, [{ created_by: person.user.id }]);
  });
});
