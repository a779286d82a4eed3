// Makes the install script of a synthetic predecessor from the present one: an extension that lacks some objects, has others in an
// older form, and has one that is gone. `node predecessor.mjs NEW.sql > kijko--0.0.1.sql`. An edit that no longer applies
// is an error, so that the predecessor stays different.
import { readFileSync } from 'node:fs';
import { statements } from '../../sql/assemble_upgrade.mjs';

let list = statements(readFileSync(process.argv[2], 'utf8'));

function without(matches, expected = 1) {
  const kept = list.filter((statement) => !matches(statement));
  if (list.length - kept.length !== expected) throw new Error(`${list.length - kept.length} instead of ${expected} statements: ${matches}`);
  list = kept;
}

/** Takes an object away, with its comment. */
function withoutObject(key) {
  without((statement) => statement.key === key);
  without((statement) => statement.kind === 'comment' && statement.key === `comment on ${key}`);
}

function edit(matches, from, to) {
  const found = list.filter(matches);
  if (found.length !== 1 || !found[0].text.includes(from)) throw new Error(`nothing to edit: ${matches} ${from}`);
  found[0].text = found[0].text.replace(from, to);
}

const is = (key) => (statement) => statement.key === key && statement.kind !== 'comment';

// New since: functions in C and by pgrx, an aggregate, an index, a trigger, an error code, a right.
withoutObject('function kijko.quota_status(uuid, text)');
without(is('function kijko.calendar_is_changing(uuid, timestamp with time zone)'));
without((statement) => statement.key === 'comment on function kijko.calendar_is_changing(uuid, timestamptz)');
withoutObject('aggregate kijko.array_sum(integer[])');
withoutObject('index kijko.threshold_crossings_open');
without(is('trigger session_truncated on kijko.revoked_sessions'));
without((statement) => statement.kind === 'enable' && statement.key.endsWith('session_truncated'));
edit(
  (statement) => statement.kind === 'data' && statement.key === 'table kijko.error_codes',
  "    ('invalid_api_key', 401, 'KJ401', 'This API key is unknown, revoked or expired.'),\n",
  '',
);
edit((statement) => statement.kind === 'grant' && statement.key.includes('kijko.check_request()'), 'kijko.check_request(),', '');

// A column that is new, and the function that uses it.
edit(is('table kijko.ledger_partitions'), ',\n    detached_at timestamptz check (detached_at is null or rolled_at is not null)', '');
without((statement) => statement.key === 'comment on column kijko.ledger_partitions.detached_at');
const detach = is('function kijko.detach_ledger_partitions(interval)');
edit(detach, 'set detached_at = pg_catalog.clock_timestamp(), partition', 'set partition');
edit(detach, 'q.detached_at is null', "q.partition like 'kijko.%'");

// Other bodies, volatility, strictness, cost and comments; another condition of an index and another view.
edit(
  is('function kijko.list_threshold_crossings(uuid, timestamptz)'),
  'language sql stable parallel safe',
  'language sql volatile parallel unsafe',
);
edit(is('function kijko.clamp(numeric)'), 'language sql immutable', 'language sql strict immutable cost 7');
edit(is('function kijko.set_tier(uuid, text)'), 'a tier needs a subject', 'needs a subject');
edit(is('index kijko.holds_ended'), "where state <> 'open'", 'where ended_at is not null');
edit(is('view kijko.rollup_state'), "'-infinity'", "'-infinity'::timestamptz");
const comment = list.find((statement) => statement.key === 'comment on table kijko.limits');
comment.text = "comment on table kijko.limits is 'Older words.'";

// A function that is gone.
list.push({ text: "create function kijko.obsolete(kijko.verdict, text default 'x') returns text language sql return 'x'" });

process.stdout.write(list.map((statement) => `${statement.text};\n`).join(''));
