// What the attacks may find is no wider than its reason.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { isDocumented } from './known.mjs';

const [former, victim, org, made] = Array.from({ length: 4 }, () => randomUUID());
const ask = (args, { name = 'former member', path = '/rest/v1/rpc/request_export', answer = { status: 200, body: made }, ...more } = {}) =>
  isDocumented({ method: 'POST', path, headers: {}, body: JSON.stringify(args), ...more }, answer, { name, user: former });

test('a former member asks about themselves, in the organization', () => {
  assert.equal(ask({ org_id: org }), 'a former member');
  assert.equal(ask({ org_id: org, user_id: former }), 'a former member');
  assert.equal(ask({ org_id: org }, { answer: { status: 409, body: { code: 'conflict' } } }), 'a former member');
  assert.equal(
    ask(undefined, {
      method: 'GET',
      path: `/rest/v1/rpc/request_erasure?org_id=${org}`,
      answer: { status: 405, body: { code: '25006' } },
    }),
    'a former member',
  );
});

test('nobody else does, about nobody else, and no other answer is one', () => {
  assert.equal(ask({ org_id: org, user_id: victim }), undefined);
  assert.equal(ask({ user_id: victim }), undefined);
  assert.equal(ask({ org_id: org }, { name: 'stranger' }), undefined);
  assert.equal(ask({ org_id: org }, { path: '/rest/v1/rpc/open_export' }), undefined);
  assert.equal(ask({ org_id: org }, { path: '/rest/v1/organizations?x=/rpc/request_export' }), undefined);
  assert.equal(ask({ org_id: org }, { answer: { status: 200, body: [{ email: 'ada@example.com' }] } }), undefined);
  assert.equal(ask({ org_id: org }, { answer: { status: 404, body: { code: 'not_found' } } }), undefined);
});
