// Changes that no caller and no test can notice, each with its reason. They are left out of the shares. An entry that is about no
// change any more fails the run.

/** `object` and `what` as `./kijko mutate --list` prints them; `what` by its beginning. */
const EQUIVALENT = [
  {
    area: 'policies',
    object: 'public.api_keys "api_keys_update"',
    what: 'with check: everything',
    reason: 'the check asks for kind, user_id and org_id only. Triggers refuse to change them, so what USING admits passes.',
  },
  {
    area: 'money',
    object: 'private.stripe_latest_in_second',
    what: 'logic in line 45: and → or',
    reason: 'with one end, or without a field that changed, the past prefers the same states.',
  },
  {
    area: 'money',
    object: 'private.stripe_apply_invoice',
    what: 'logic in line 17: and → or',
    reason: 'it derives the plans of more organizations again, which changes none of them.',
  },
  {
    area: 'limits',
    object: 'private.plans_reapply_overrides',
    what: 'logic in line 5: and → or',
    reason: 'it sets limits of more organizations again, to what they are.',
  },
  {
    area: 'limits',
    object: 'private.plans_apply_overrides',
    what: 'logic in line 5: and → or',
    reason: 'it sets more limits again, to what they are; without a meter there is none to set.',
  },
  {
    area: 'limits',
    object: 'private.requests_admit',
    what: 'refusal in line 29',
    reason: 'kijko.admit_request() answers true or fails; the line would refuse an answer that it never gives.',
  },
];

const isAbout = (entry, { area, object, what }) => entry.area === area && entry.object === object && what.startsWith(entry.what);

/** Why this change is none; undefined for all others. */
export const equivalence = (mutant) => EQUIVALENT.find((entry) => isAbout(entry, mutant))?.reason;

/** The entries of an area that are about none of its changes. */
export const unmatched = (area, mutants) =>
  EQUIVALENT.filter((entry) => entry.area === area && !mutants.some((mutant) => isAbout(entry, mutant))).map(
    ({ object, what }) => `${object} ${what}`,
  );
