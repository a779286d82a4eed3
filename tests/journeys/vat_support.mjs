// What the journeys of VAT share: a server that answers as the REST API of VIES does, which the test's stack may reach by
// kijko.http_allowed_hosts. Its behaviour by number is told before the number is given.
import { bodyOf, json, newServer } from './functions_support.mjs';
import { sql } from './support.mjs';

const DASHES = { name: '---', address: '---' };

/** Starts VIES and has the stack ask it until `stop()`. */
export async function startVies() {
  const answers = new Map();
  const requests = [];
  const url = await newServer(async (request, response) => {
    const body = JSON.parse((await bodyOf(request)).toString());
    const unknown = Object.keys(body).filter(
      (key) => !['countryCode', 'vatNumber', 'requesterMemberStateCode', 'requesterNumber'].includes(key),
    );
    if (request.method !== 'POST' || request.url !== '/rest-api/check-vat-number' || unknown.length > 0) {
      json(response, { actionSucceed: false, errorWrappers: [{ error: 'VOW-ERR-1', message: `unknown: ${unknown}` }] }, 400);
      return;
    }
    requests.push(body);
    const queue = answers.get(body.countryCode + body.vatNumber) ?? [];
    const answer = (queue.length > 1 ? queue.shift() : queue[0]) ?? { valid: false };
    if (answer.error) {
      json(response, { actionSucceed: false, errorWrappers: [{ error: answer.error }] }, answer.status ?? 200);
    } else if (answer.status) {
      response.writeHead(answer.status, { 'Content-Type': 'text/html' }).end('<html>Service Unavailable</html>');
    } else {
      json(response, {
        countryCode: body.countryCode,
        vatNumber: body.vatNumber,
        requestDate: new Date().toISOString(),
        valid: answer.valid,
        requestIdentifier: body.requesterNumber && answer.valid ? `WAPI${requests.length}` : '',
        ...(answer.valid ? { name: 'EXAMPLE GMBH', address: 'EXAMPLESTRASSE 1\n10115 BERLIN', ...answer.given } : DASHES),
        traderName: '---',
        traderNameMatch: 'NOT_PROCESSED',
      });
    }
  });
  const [former] = await sql('select vies_url, seller_vat_number from private.vat_settings');
  await sql('update private.vat_settings set vies_url = $1, seller_vat_number = $2', [`${url}/rest-api`, 'NL004495445B01']);
  return {
    /** Other files see the settings that they know. */
    stop: () => sql('update private.vat_settings set vies_url = $1, seller_vat_number = $2', [former.vies_url, former.seller_vat_number]),
    requests,
    /** What VIES says about a number: one answer after the other, the last one for good. */
    says: (number, ...given) => answers.set(number, given),
    asked: (number) => requests.filter((body) => body.countryCode + body.vatNumber === number),
  };
}

/** A number of Germany with a right check digit. */
export function newGermanNumber() {
  const digits = [1 + Math.floor(Math.random() * 9), ...Array.from({ length: 7 }, () => Math.floor(Math.random() * 10))];
  let product = 10;
  for (const digit of digits) product = (((digit + product) % 10 || 10) * 2) % 11;
  return `DE${digits.join('')}${(11 - product) % 10}`;
}

/** Asks again about a number whose pause is not over, instead of waiting for it. */
export async function retryNow(orgId) {
  await sql('update private.vat_check_requests set next_attempt_at = now() where organization = $1 and request_id is null', [orgId]);
  await sql('select private.vat_send_due()');
}
