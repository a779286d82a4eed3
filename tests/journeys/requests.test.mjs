// The request path: how every request is counted, what its headers report, and why it is refused.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { call, newPerson, slowDown, until, usageOf } from './domain.mjs';
import { adminSql, http, sql } from './support.mjs';

const get = (person, headers = {}) => http('GET', '/rest/v1/projects?select=id', { token: person.token, headers });
const recorded = async (person) => {
  const [{ n }] = await sql(`select coalesce(max(u.used), 0)::integer as n from kijko.usage($1) as u where u.meter = 'api_requests'`, [
    person.orgId,
  ]);
  return n;
};
/** The count in the ledger, once it has reached this much and stays the same: counts are written each second, on a busy machine later. */
async function settled(person, atLeast) {
  let last;
  await until(
    `${atLeast} requests in the ledger`,
    async () => {
      const now = await recorded(person);
      const same = now === last;
      last = now;
      return same && now >= atLeast;
    },
    { everyMs: 1_000 },
  );
  return last;
}

describe('requests are counted', () => {
  test('whatever becomes of them: read, written, or refused by a policy, a function or the rate', async () => {
    const person = await newPerson();
    const before = await settled(person, 1);
    assert.equal((await get(person)).status, 200);
    const { error } = await person.client.from('projects').insert({ name: 'Counted' });
    assert.equal(error, null);
    assert.ok((await http('GET', '/rest/v1/projects?select=nothing', { token: person.token })).status >= 400);
    assert.ok((await call(person, 'run_habit', { habit_id: person.orgId })).status >= 400);
    assert.equal((await settled(person, before + 4)) - before, 4);
    await slowDown(person.orgId);
    const answers = await Promise.all(Array.from({ length: 70 }, () => get(person)));
    assert.ok(answers.some((answer) => answer.status === 429));
    assert.equal((await settled(person, before + 74)) - before, 74);
  });

  test("usage_summary reports them for the caller's organization only", async () => {
    const [person, other] = [await newPerson(), await newPerson()];
    for (let n = 0; n < 5; n += 1) await get(person);
    await settled(person, 6);
    const { api_requests: used } = await usageOf(person);
    assert.ok(used.used >= 5);
    assert.deepEqual([used.limit, used.remaining], [100_000, 100_000 - used.used]);
    assert.ok((await usageOf(other)).api_requests.used < 5);
  });

  test('requests without an organization or without a user are not counted', async () => {
    const person = await newPerson();
    await sql('delete from private.active_organizations where user_id = $1', [person.user.id]);
    const before = await settled(person, 1);
    assert.equal((await get(person)).status, 200);
    assert.equal(await settled(person, before), before);
  });
});

describe('the quota of requests', () => {
  test('when used up, requests fail with quota_exceeded and Retry-After, and are counted', async () => {
    const person = await newPerson('PRO');
    const used = await settled(person, 1);
    await sql(`select kijko.set_limit($1, 'api_requests', 'month', $2)`, [person.orgId, used + 3]);
    for (const remaining of ['2', '1', '0']) {
      const answer = await get(person);
      assert.equal(answer.status, 200, answer.text);
      assert.match(answer.headers.get('ratelimit'), new RegExp(`"api_requests";r=${remaining};t=`));
      assert.equal(answer.headers.get('x-ratelimit-remaining'), null, 'X-RateLimit-* come with refusals');
    }
    const refused = await get(person);
    assert.equal(refused.status, 429);
    assert.equal(refused.body.code, 'quota_exceeded');
    assert.deepEqual(Object.keys(refused.body).sort(), ['code', 'details', 'hint', 'message']);
    assert.ok(Number(refused.headers.get('retry-after')) > 0);
    assert.match(refused.headers.get('ratelimit'), /"api_requests";r=0;t=\d+/);
    const header = (name) => refused.headers.get(`x-ratelimit-${name}`);
    assert.deepEqual([header('remaining'), header('resource')], ['0', 'api_requests']);
    assert.equal(await settled(person, used + 4), used + 4);
    await sql(`select kijko.set_limit($1, 'api_requests', 'month', $2)`, [person.orgId, used + 100]);
    assert.equal((await get(person)).status, 200, 'a raised limit counts at once');
  });
});

describe('headers', () => {
  test('every response reports its limits in both formats, readable by browsers', async () => {
    const person = await newPerson();
    const answer = await get(person);
    assert.equal(answer.status, 200);
    assert.match(
      answer.headers.get('ratelimit-policy'),
      /^"requests";q=600;w=60, "user_requests";q=600;w=60, "api_requests";q=100000;w=\d+$/,
    );
    assert.match(answer.headers.get('ratelimit'), /^"requests";r=\d+;t=\d+, "user_requests";r=\d+;t=\d+, "api_requests";r=\d+;t=\d+$/);
    assert.equal(answer.headers.get('x-ratelimit-limit'), null);
    const exposed = answer.headers.get('access-control-expose-headers').split(', ');
    for (const name of ['RateLimit', 'RateLimit-Policy', 'X-RateLimit-Limit', 'X-RateLimit-Resource', 'Retry-After'])
      assert.ok(exposed.includes(name), name);
    const anonymous = await http('GET', '/rest/v1/projects?select=id');
    assert.match(anonymous.headers.get('ratelimit-policy') ?? '"requests";q=600;w=60', /^"requests";q=600;w=60$/);
  });
});

describe('a session that was revoked', () => {
  test('is refused from the next request on', async () => {
    const person = await newPerson();
    assert.equal((await get(person)).status, 200);
    await adminSql('select kijko.revoke_session(s.id) from auth.sessions as s where s.user_id = $1', [person.user.id]);
    const refused = await Promise.all(Array.from({ length: 20 }, () => get(person)));
    assert.deepEqual([...new Set(refused.map((answer) => `${answer.status} ${answer.body.code}`))], ['401 not_identified']);
  });

  test('is accepted when the revocation was rolled back', async () => {
    const person = await newPerson();
    await adminSql(`do $$ begin
      perform kijko.revoke_session(s.id) from auth.sessions as s where s.user_id = '${person.user.id}';
      raise exception 'no';
    end $$`).catch(() => {});
    assert.equal((await get(person)).status, 200);
  });
});

describe('policies', () => {
  // A tier of this test's own: other journeys run at the same time.
  const TIER = `journey-${process.pid}`;
  after(() => sql(`select kijko.drop_rate_limit_policy(n, $1) from unnest(array['requests', 'writes']) as n`, [TIER]));

  test('a policy in shadow mode only counts; an enforced one refuses what it names', async () => {
    const person = await newPerson();
    await sql(`select kijko.set_tier($1, $3), kijko.set_tier(kijko.subject('user', $2), $3)`, [person.orgId, person.user.id, TIER]);
    await sql(`select kijko.set_rate_limit_policy('requests', 'organization', 1000, '1 minute', $1)`, [TIER]);
    const writes = (shadow) =>
      sql(`select kijko.set_rate_limit_policy('writes', 'user', 1, '1 hour', $1, method => 'POST', route => '/rpc/*', shadow => $2)`, [
        TIER,
        shadow,
      ]);
    const figure = async () => {
      const [{ value }] = await adminSql(`select value::integer from kijko.stats() where metric = 'request.shadow_refused'`);
      return value;
    };
    await writes(true);
    const before = await figure();
    for (let n = 0; n < 4; n += 1) {
      const answer = await call(person, 'org_ids', {});
      assert.equal(answer.status, 200);
      assert.doesNotMatch(answer.headers.get('ratelimit-policy'), /writes/);
    }
    assert.equal((await figure()) - before, 3);

    await writes(false);
    const refused = await call(person, 'org_ids', {});
    assert.equal(refused.status, 429, refused.text);
    assert.equal(refused.body.code, 'rate_limited');
    assert.match(refused.headers.get('ratelimit-policy'), /"requests";q=1000;w=60, "user_requests";q=600;w=60, "writes";q=1;w=3600/);
    assert.equal(refused.headers.get('x-ratelimit-resource'), 'writes');
    assert.equal((await get(person)).status, 200, 'a GET is none of its business');
  });
});

describe('requests that the sidecar takes', () => {
  test('refusals are limited by route and by the address that the proxy saw', async () => {
    await sql(`select kijko.set_rate_limit_policy('journey', 'address', 3, '1 hour', 'external', route => '/webhooks/journey/*')`);
    try {
      const knock = (n) => http('POST', '/webhooks/journey/1', { body: {}, headers: { 'X-Forwarded-For': `192.0.2.${n}` } });
      for (let n = 0; n < 3; n += 1) assert.equal((await knock(n)).status, 404);
      const limited = await knock(3);
      assert.deepEqual([limited.status, limited.body.code], [429, 'rate_limited']);
      assert.match(limited.body.details, /^journey: more than 3 in 3600 s$/);
      assert.ok(Number(limited.headers.get('retry-after')) > 1_000);
      assert.match(limited.headers.get('ratelimit-policy'), /"journey";q=3;w=3600/);
      assert.equal(limited.headers.get('x-ratelimit-remaining'), '0');
      assert.equal((await http('POST', '/webhooks/other', { body: {} })).status, 404);
    } finally {
      await sql(`select kijko.drop_rate_limit_policy('journey', 'external')`);
    }
  });
});

describe('a member', () => {
  test('who was removed is refused from the next request on, and accepted again after joining', async () => {
    const [owner, member] = [await newPerson('PRO'), await newPerson()];
    const ask = () => get(member, { 'x-org-id': owner.orgId });
    assert.equal((await ask()).status, 403);
    for (let round = 0; round < 5; round += 1) {
      await sql(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'member')`, [owner.orgId, member.user.id]);
      // Often enough that every connection of PostgREST knows it.
      const answers = await Promise.all(Array.from({ length: 12 }, ask));
      assert.deepEqual([...new Set(answers.map((answer) => answer.status))], [200]);
      await sql('delete from public.memberships where org_id = $1 and user_id = $2', [owner.orgId, member.user.id]);
      assert.equal((await ask()).status, 403);
    }
  });
});
