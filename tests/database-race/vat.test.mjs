// VAT numbers that several sessions give at once, and answers that several take over.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { newUser } from './sessions.mjs';
import { atOnce, one, pool, whileOpen } from './support.mjs';

/** Runs with an address of VIES where nothing listens, so that the answer is always that there is none. */
async function withoutVies(run) {
  const { vies_url: former } = await one('select vies_url from private.vat_settings');
  await pool.query(`update private.vat_settings set vies_url = 'http://localhost:9/rest-api'`);
  try {
    await run();
  } finally {
    await pool.query('update private.vat_settings set vies_url = $1', [former]);
  }
}

const give = (org, number) =>
  pool.query(
    `insert into public.billing_details (org_id, kind, name, country, vat_number) values ($1, 'business', 'Race', 'DE', $2)
     on conflict (org_id) do update set vat_number = excluded.vat_number`,
    [org, number],
  );

test('a number that eight sessions give at once is asked about once, and its answer is taken over once', () =>
  withoutVies(async () => {
    const { org } = await newUser();
    await atOnce(8, () => give(org, 'DE136695976'));
    const check = await one('select count(*) over ()::int as checks, id, attempts, status from public.vat_checks where org_id = $1', [org]);
    assert.deepEqual([check.checks, check.attempts, check.status], [1, 1, 'pending']);
    const { request } = await one('select request_id as request from private.vat_check_requests where check_id = $1', [check.id]);
    // The stack's own schedule passes over what is held, and so leaves the answer to the sessions below.
    await whileOpen('select 1 from private.vat_check_requests where check_id = $1 for update', [check.id], () =>
      until('the request to be dead', async () => (await one('select state from kijko.http_response($1)', [request])).state === 'dead'),
    );
    const taken = await atOnce(8, async () => {
      const { rows } = await pool.query('select private.vat_take_answer($1, $2) as outcome', [org, check.id]);
      return rows[0].outcome;
    });
    assert.deepEqual(
      taken.filter((outcome) => outcome !== null),
      ['unavailable'],
    );
    await pool.query('update private.vat_check_requests set next_attempt_at = now() where check_id = $1', [check.id]);
    await atOnce(6, () => pool.query('select private.vat_send_due()'));
    const { attempts } = await one('select attempts from public.vat_checks where id = $1', [check.id]);
    assert.equal(attempts, 2, 'the second attempt is one, too');
  }));

test('of different numbers given at once, the last one stays and is asked about', () =>
  withoutVies(async () => {
    const { org } = await newUser();
    const numbers = ['DE136695976', 'DE136695968', 'DE136695984'];
    const { rows } = await pool.query(`select n from unnest($1::text[]) as n where private.vat_number_fault(n) is null`, [numbers]);
    const valid = [...rows.map(({ n }) => n), 'DE129273398'];
    await atOnce(valid.length, (n) => give(org, valid[n]));
    const { vat_number: kept } = await one('select vat_number from public.billing_details where org_id = $1', [org]);
    const { open } = await one('select count(*)::int as open from public.vat_checks where org_id = $1 and vat_number = $2', [org, kept]);
    assert.equal(open, 1);
  }));
