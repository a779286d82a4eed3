// Keys of programs that poll flags by entity tag: what they are told once the key is revoked or narrowed.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createKey } from './api_keys_support.mjs';
import { newTeam, ok, withinRate } from './domain.mjs';
import { http } from './support.mjs';

const ORIGIN = 'https://shop.example';
const byKey = (secret, method, path, options = {}) =>
  http(method, `/api/v1/flags/${path}`, {
    ...options,
    headers: { Authorization: secret, Origin: ORIGIN, 'Content-Type': 'application/json', ...options.headers },
  });

describe('keys of flags', () => {
  let team;
  before(async () => {
    team = await newTeam();
    await ok(team.member.client.from('feature_flags').insert({ name: 'checkout', org_id: team.orgId }).select());
  });

  for (const [kind, fields] of [
    ['service', {}],
    ['publishable', { kind: 'publishable', origins: [ORIGIN] }],
  ]) {
    test(`a ${kind} key that is revoked or loses its permission is told of no flag, changed or not`, async () => {
      const ways = [
        ['GET', 'client/features'],
        ['GET', 'environments/development/client/features'],
        ['POST', 'ofrep/v1/evaluate/flags', { context: { targetingKey: 'b' } }],
        ['POST', 'ofrep/v1/evaluate/flags/checkout', { context: { targetingKey: 'b' } }],
        ['GET', 'frontend?userId=b'],
      ];
      const ask = (key, [method, path, body], tag) => byKey(key, method, path, { body, headers: tag ? { 'If-None-Match': tag } : {} });
      const known = async (key) => {
        const tags = [];
        for (const way of ways) {
          const first = await ask(key, way);
          assert.equal(first.status, 200, first.text);
          assert.equal(first.headers.get('cache-control'), 'private, no-cache', way[1]);
          const tag = first.headers.get('etag');
          if (tag) assert.equal((await ask(key, way, tag)).status, 304, way[1]);
          tags.push(tag ?? '"x"');
        }
        return tags;
      };
      const refusedNow = async (key, tags, status) => {
        for (const [n, way] of ways.entries()) {
          // Refusals of an address have a rate, which other tests share.
          for (const tag of n === 0 ? [tags[n], '*', null] : [tags[n]]) {
            const answer = await withinRate(() => ask(key, way, tag));
            assert.equal(answer.status, status, `${way[1]} ${tag}: ${answer.text}`);
            assert.equal(answer.headers.get('etag'), null, way[1]);
          }
        }
      };
      const make = () => createKey(team.owner, { ...fields, permissions: ['flags:evaluate', 'events:ingest'], rate_limit: 6000 });
      const [narrowed, revoked] = [await make(), await make()];
      const [tags, others] = [await known(narrowed.secret), await known(revoked.secret)];
      await ok(
        team.owner.client
          .from('api_keys')
          .update({ permissions: ['events:ingest'] })
          .eq('id', narrowed.id)
          .select(),
      );
      await refusedNow(narrowed.secret, tags, 403);
      // While a client polls.
      const polling = (async () => {
        let answer;
        do answer = await ask(revoked.secret, ways[0], others[0]);
        while (answer.status === 304);
        return answer.status;
      })();
      await ok(team.owner.client.rpc('revoke_api_key', { id: revoked.id }));
      await refusedNow(revoked.secret, others, 401);
      assert.ok([401, 429].includes(await polling));
    });
  }
});
