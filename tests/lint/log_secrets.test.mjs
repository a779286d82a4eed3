// The scan of logs finds what it is there for, and nothing else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOGGED_KEY, leaks } from '../journeys/log_secrets.mjs';

test('it finds each kind, by the number of its line', () => {
  for (const [text, what] of [
    [`key kjk_live_${'a'.repeat(38)}`, 'an API key'],
    ['token kji_0123456789abcdef', "an invitation's token"],
    ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', "a webhook's secret"],
    [`jwt eyJ${'a'.repeat(30)}.${'b'.repeat(20)}.c`, 'a signed token'],
    ['Authorization: Bearer abcdefgh', 'credentials'],
    ['postgres://kijko:hunter2@127.0.0.1/postgres', 'a password in an address'],
    ['no user user-1@example.com', 'an address of a person'],
    ['prompt Say {{ n }}', 'a prompt'],
  ]) {
    assert.deepEqual(leaks(`a line\n${text}\nanother`), [{ line: 2, what }], text);
  }
});

test('it lets what finds a line pass', () => {
  const line = '{"level":"INFO","request_id":"0b1f9a1c-8f4e-4a53-9c1f-6d2b8f0f7a11","org_id":"91ac0d7e-8f4e-4a53-9c1f-6d2b8f0f7a11"}';
  assert.deepEqual(leaks(`${line}\nconnected to postgres://127.0.0.1:5432/postgres\n${LOGGED_KEY}`), []);
});
