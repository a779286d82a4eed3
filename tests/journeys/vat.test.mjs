// VAT: who may say who pays, what a VAT number changes, and an outage of VIES.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import { assertAnonymousSeesNothing, newPerson, newTeam, ok, refused, unaffected, until } from './domain.mjs';
import { api, sql } from './support.mjs';
import { newGermanNumber, retryNow, startVies } from './vat_support.mjs';

const give = (person, fields) =>
  ok(
    person.client
      .from('billing_details')
      .upsert({ org_id: person.orgId, kind: 'business', name: 'Example', country: 'DE', ...fields }, { onConflict: 'org_id' })
      .select()
      .single(),
  );
const treatment = async (person) => (await ok(person.client.rpc('vat_treatment')))[0];
/** The check once it says this: the client takes over the answer that has come. */
const checked = (person, status) =>
  until(`a check to be ${status}`, async () => {
    const check = await ok(person.client.rpc('check_vat_number'));
    return check.status === status && check;
  });

describe('who may', () => {
  let team;
  before(async () => {
    team = await newTeam();
    await give(team.owner, { kind: 'consumer', country: 'NL' });
  });

  test('a non-member, a viewer, keys and anon read and write no billing details', async () => {
    const { owner, nonMember, viewer, admin, orgId } = team;
    await assertAnonymousSeesNothing(['billing_details', 'vat_checks']);
    await refused(api().rpc('vat_treatment'), 401, '42501');
    await refused(api().rpc('check_vat_number'), 401, '42501');
    const own = { org_id: orgId, kind: 'consumer', name: 'Other', country: 'US' };
    for (const { client } of [nonMember, viewer, admin]) {
      await refused(client.from('billing_details').insert(own), 403, '42501');
      await unaffected(client.from('billing_details').update({ country: 'US' }).eq('org_id', orgId).select());
      await unaffected(client.from('billing_details').delete().eq('org_id', orgId).select());
    }
    for (const { client } of [nonMember, viewer])
      assert.deepEqual(await ok(client.from('billing_details').select().eq('org_id', orgId)), []);
    await refused(nonMember.client.rpc('vat_treatment').setHeader('x-org-id', orgId), 403, 'not_a_member');
    await refused(viewer.client.rpc('vat_treatment'), 403, 'permission_denied');
    const wildcard = keyClient((await createKey(owner, { permissions: ['*:read', '*:write'] })).secret);
    assert.deepEqual(await ok(wildcard.from('billing_details').select()), [], 'wildcards do not cover billing');
    await refused(wildcard.rpc('check_vat_number'), 403, 'permission_denied');
    const reader = keyClient((await createKey(owner, { permissions: ['billing:read'] })).secret);
    assert.equal((await ok(reader.from('billing_details').select())).length, 1);
    await refused(reader.from('billing_details').insert(own), 403, 'permission_denied');
    assert.equal((await ok(admin.client.from('billing_details').select().eq('org_id', orgId))).length, 1, 'an admin reads them');
  });

  test('hostile input is refused with a code', async () => {
    const person = await newPerson();
    const insert = (fields) =>
      person.client.from('billing_details').insert({ org_id: person.orgId, kind: 'business', name: 'X', country: 'DE', ...fields });
    await refused(insert({ vat_number: 'DE136695977' }), 422, 'invalid_input');
    await refused(insert({ vat_number: 'DE1'.repeat(100_000) }), 422, 'invalid_input');
    await refused(insert({ vat_number: "DE136695976'; drop table x" }), 422, 'invalid_input');
    await refused(insert({ country: 'ZZ' }), 422, 'invalid_input');
    await refused(insert({ country: '' }), 422, 'invalid_input');
    await refused(insert({ kind: 'other' }), 400, '23514');
    await refused(insert({ name: ' ' }), 400, '23514');
    await refused(insert({ vat_number_status: 'valid' }), 403, '42501');
  });
});

describe('a number and VIES', () => {
  let vies;
  before(async () => {
    vies = await startVies();
  });
  after(() => vies.stop());

  test('VAT is charged until the number is valid, and then credited', async () => {
    const person = await newPerson();
    assert.equal((await treatment(person)).treatment, 'unknown');
    const number = newGermanNumber();
    vies.says(number, { error: 'MS_MAX_CONCURRENT_REQ' }, { status: 503 }, { valid: true });
    const given = await give(person, { vat_number: ` ${number.slice(0, 2).toLowerCase()} ${number.slice(2)}` });
    assert.deepEqual([given.vat_number, given.vat_number_status], [number, 'pending']);
    assert.deepEqual([(await treatment(person)).treatment, (await treatment(person)).rate_basis_points], ['oss', 1900]);

    const busy = await checked(person, 'unavailable');
    assert.deepEqual([busy.error, busy.consulted_at], ['MS_MAX_CONCURRENT_REQ', null], 'unavailable is not invalid');
    assert.equal((await treatment(person)).vat_number_status, 'unavailable');
    await retryNow(person.orgId);
    await until('the second attempt', async () => {
      await ok(person.client.rpc('check_vat_number'));
      const [check] = await sql('select error from public.vat_checks where org_id = $1', [person.orgId]);
      return check.error === 'HTTP_503';
    });
    assert.equal((await treatment(person)).rate_basis_points, 1900);
    await retryNow(person.orgId);

    const valid = await checked(person, 'valid');
    assert.deepEqual([valid.name, valid.address, valid.attempts], ['EXAMPLE GMBH', 'EXAMPLESTRASSE 1\n10115 BERLIN', 3]);
    assert.match(valid.consultation_number, /^WAPI\d+$/);
    assert.ok(valid.vies_date && valid.consulted_at);
    assert.deepEqual(vies.asked(number).at(-1), {
      countryCode: 'DE',
      vatNumber: number.slice(2),
      requesterMemberStateCode: 'NL',
      requesterNumber: '004495445B01',
    });
    const now = await treatment(person);
    assert.deepEqual(
      [now.treatment, now.country, now.rate_basis_points, now.legal_note],
      ['reverse_charge', 'DE', 0, 'VAT reverse-charged'],
    );

    const due = await sql('select * from private.vat_credits_due($1)', [person.orgId]);
    assert.equal(due.length, 1);
    assert.deepEqual([due[0].vat_number, due[0].country], [number, 'DE']);
    assert.ok(due[0].charged_from < due[0].charged_until);
    assert.deepEqual(await sql('select private.vat_credits_settle($1, $2) as settled', [due[0].credit_id, 'cn_1']), [{ settled: true }]);
    assert.deepEqual(await sql('select private.vat_credits_settle($1, $2) as settled', [due[0].credit_id, 'cn_2']), [{ settled: false }]);
    assert.deepEqual(await sql('select * from private.vat_credits_due($1)', [person.orgId]), []);
  });

  test('an invalid number pays VAT; another number of the same organization is asked about anew', async () => {
    const person = await newPerson();
    const [wrong, right] = [newGermanNumber(), newGermanNumber()];
    vies.says(wrong, { valid: false });
    vies.says(right, { valid: true, given: { name: '---', address: '---' } });
    await give(person, { vat_number: wrong });
    const invalid = await checked(person, 'invalid');
    assert.deepEqual([invalid.name, invalid.consultation_number], [null, null]);
    assert.equal((await treatment(person)).treatment, 'oss');
    assert.equal((await ok(person.client.rpc('check_vat_number'))).id, invalid.id, 'within a minute nobody asks again');
    await give(person, { vat_number: right });
    assert.equal((await treatment(person)).treatment, 'oss', 'the former answer is about the other number');
    const valid = await checked(person, 'valid');
    assert.equal(valid.name, null, 'Germany gives no names');
    assert.equal((await treatment(person)).treatment, 'reverse_charge');
  });

  test('an old answer is asked again, and holds while VIES is down', async () => {
    const person = await newPerson();
    const number = newGermanNumber();
    vies.says(number, { valid: true }, { status: 500 }, { valid: false });
    await give(person, { vat_number: number });
    const first = await checked(person, 'valid');
    await sql(`update public.vat_checks set consulted_at = consulted_at - interval '91 days' where id = $1`, [first.id]);
    await until('the schedule to ask again', async () => {
      await sql('select private.vat_recheck()');
      return vies.asked(number).length > 1;
    });
    await checked(person, 'unavailable');
    assert.deepEqual([(await treatment(person)).treatment, (await treatment(person)).vat_number_status], ['reverse_charge', 'valid']);
    await retryNow(person.orgId);
    await checked(person, 'invalid');
    assert.equal((await treatment(person)).treatment, 'oss');
    const trail = await ok(person.client.from('vat_checks').select('status').eq('org_id', person.orgId).order('created_at'));
    assert.deepEqual(
      trail.map(({ status }) => status),
      ['valid', 'invalid'],
    );
  });

  test("a seller's number that VIES refuses does not keep it from answering", async () => {
    const person = await newPerson();
    const number = newGermanNumber();
    vies.says(number, { error: 'INVALID_REQUESTER_INFO', status: 400 }, { valid: true });
    await give(person, { vat_number: number });
    await checked(person, 'unavailable');
    await retryNow(person.orgId);
    const valid = await checked(person, 'valid');
    assert.deepEqual([valid.requester_number, valid.consultation_number], [null, null]);
  });
});
