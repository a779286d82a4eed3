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
    object: 'private.executions_settle_call',
    what: 'comparison in line 17: > → >=',
    reason: 'settling nothing without a hold records nothing.',
  },
  {
    area: 'money',
    object: 'private.executions_settle_call',
    what: 'comparison in line 22: > → >=',
    reason: 'settling nothing without a hold records nothing.',
  },
  {
    area: 'money',
    object: 'private.stripe_apply_owner',
    what: 'logic in line 9: and → or',
    reason: 'it derives the plans of more organizations again, which changes none of them.',
  },
  {
    area: 'money',
    object: 'private.stripe_apply_owner',
    what: 'logic in line 22: and → or',
    reason: 'it derives the plans of more organizations again, which changes none of them.',
  },
  {
    area: 'money',
    object: 'private.stripe_try_apply_event',
    what: 'logic in line 21: and → or',
    reason: 'an event that may not be the latest is compared with the others, and found to be it.',
  },
  {
    area: 'money',
    object: 'private.stripe_try_apply_event',
    what: 'logic in line 22: and → or',
    reason: 'an event that may not be the latest is compared with the others, and found to be it.',
  },
  {
    area: 'money',
    object: 'private.stripe_latest_event',
    what: 'logic in line 9: and → or',
    reason: 'an event that is taken for one of several of its second is looked at more closely, and found to be the only one.',
  },
  {
    area: 'money',
    object: 'private.stripe_latest_event',
    what: 'logic in line 10: and → or',
    reason: 'an event that is taken for one of several of its second is looked at more closely, and found to be the only one.',
  },
  {
    area: 'limits',
    object: 'private.plans_reapply_overrides',
    what: 'logic in line 5: and → or',
    reason: 'it sets limits of more organizations again, to what they are.',
  },
  {
    area: 'limits',
    object: 'private.plans_apply_plan',
    what: 'logic in line 22: and → or',
    reason: 'it sets more limits again, to what they are; without a meter there is none to set.',
  },
  {
    area: 'limits',
    object: 'private.api_keys_maker',
    what: 'logic in line 5: and → or',
    reason: 'the member of a personal key is its owner, and without a key there is no row.',
  },
  {
    area: 'billing',
    object: 'private.llm_cost',
    what: 'comparison in line 6: > → >=',
    reason: 'no images cost nothing.',
  },
  {
    area: 'billing',
    object: 'private.billing_report',
    what: 'comparison in line 11: < → <=',
    reason: 'the case of two equal amounts is decided before.',
  },
  {
    area: 'billing',
    object: 'private.billing_report',
    what: 'comparison in line 22: < → <=',
    reason: 'two equal amounts make no report.',
  },
  {
    area: 'billing',
    object: 'private.billing_report',
    what: 'comparison in line 24: > → >=',
    reason: 'no report has the amount 0.',
  },
  {
    area: 'billing',
    object: 'private.billing_tax',
    what: 'logic in line 7: or → and',
    reason: 'the treatment is unknown exactly where there is no country.',
  },
  {
    area: 'billing',
    object: 'private.billing_after_limit',
    what: 'logic in line 9: and → or',
    reason: 'it sets limits of more organizations again, to what they are.',
  },
  {
    area: 'billing',
    object: 'private.vat_see_request',
    what: 'logic in line 6: and → or',
    reason: 'without a request, or without the name of a header, there is no header, which is no country.',
  },
  {
    area: 'billing',
    object: 'private.llm_end_each_hold',
    what: 'comparison in line 14: > → >=',
    reason: 'settling nothing releases a hold, and records nothing without one.',
  },
  {
    area: 'billing',
    object: 'private.llm_end_holds_of_calls',
    what: 'comparison in line 21: > → >=',
    reason: 'settling nothing releases a hold.',
  },
  {
    area: 'billing',
    object: 'private.billing_report_use',
    what: 'logic in line 23: and → or',
    reason: 'it looks at more organizations, which have no live metered price.',
  },
  {
    area: 'billing',
    object: 'private.billing_checkout',
    what: 'refusal in line 15',
    reason: 'without a plan there is no price, which is refused by the same code.',
  },
  {
    area: 'billing',
    object: 'private.vat_collect_answers',
    what: 'logic in line 10: and → or',
    reason: 'a question without an answer is looked at, and stays as it is.',
  },
  {
    area: 'limits',
    object: 'private.requests_admit',
    what: 'refusal in line 29',
    reason: 'kijko.admit_request() answers true or fails; the line would refuse an answer that it never gives.',
  },
];

const isAbout = (entry, { area, object, what }) => entry.area === area && entry.object === object && what.startsWith(entry.what);

const COMPARISON = /(?<![<>=|-])[<>]=?(?![<>=])/g;
const WITH_CLOCK = /(?<![<>=|-])[<>]=?(?![<>=])\s*(?:\(|extract\(epoch from )?clock_timestamp\(\)/;

/** Whether a change moves only the edge of a comparison with the real clock, which no test can stop: its line has no other one. */
const isEdgeOfClock = ({ kind, source }) => kind === 'comparison' && WITH_CLOCK.test(source) && source.match(COMPARISON).length === 1;

/** Why this change is none; undefined for all others. */
export function equivalence(mutant) {
  if (isEdgeOfClock(mutant)) return 'the real clock never stands at the edge.';
  return EQUIVALENT.find((entry) => isAbout(entry, mutant))?.reason;
}

/** The entries of an area that are about none of its changes. */
export const unmatched = (area, mutants) =>
  EQUIVALENT.filter((entry) => entry.area === area && !mutants.some((mutant) => isAbout(entry, mutant))).map(
    ({ object, what }) => `${object} ${what}`,
  );
