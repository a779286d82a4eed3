// What the attacks may find, each with its reason. Nothing here names a table of the product by chance: an entry that no run needs
// is to be removed.

// Columns of the victim's rows that change although nobody touched what is the victim's.
const CHANGING = {
  // When a key was last used is written later than the use: of keys that expired, and of colleagues.
  'kijko.api_key_uses': ['last_used_at'],
  // docs/guides/audit.md: when a user is deleted, as an attacker by their own call, the entries about them lose these, and keep digests.
  // Whoever knows an address may ask for its recovery mail, and a wrong password counts against it (docs/guides/login.md).
  'auth.users': ['recovery_token', 'recovery_sent_at', 'updated_at'],
  // Who calls a reflex without its secret is counted.
  'public.reflexes': ['rejected_count', 'last_rejected_at', 'updated_at'],
  'public.audit_log': ['address', 'user_agent', 'personal', 'personal_salt', 'origin_salt', 'personal_digest', 'origin_digest'],
};

// What schedules derive from rows that are compared themselves.
const DERIVED = [
  'kijko.usage_daily',
  'kijko.usage_hourly',
  'kijko.usage_totals',
  'private.audit_heads',
  'private.audit_seals',
  // Of billing details, subscriptions and rates: whose are to be sent to Stripe.
  'private.billing_changes',
  'private.billing_syncs',
  'private.execution_deltas',
  'private.execution_rollups',
  'private.job_lanes',
  // Of notifications, also of what anybody may send a user: an invitation into another organization.
  'private.notification_differences',
];

/** A row without the columns that may change; null for one that may come and go. `victims` are the ids of users. */
export function ignored(table, row, victims) {
  if (DERIVED.includes(table)) return null;
  // Requests, which the sidecar takes out of their log a while later: those of colleagues are of the same organization.
  if (/^(public|private)\.api_usage(_\d|$)/.test(table) || table === 'private.observability_log_positions') return null;
  if (table === 'public.audit_log' && ['audit.erased', 'session.refused', 'user.locked'].includes(row.action)) return null;
  if (table === 'auth.one_time_tokens' && row.token_type === 'recovery_token') return null;
  // What topicAttacks() sends to the victim itself.
  if (table === 'realtime.messages' && row.payload?.word) return null;
  // Colleagues may make organizations, which are theirs.
  if (table === 'public.organizations' && row.created_by !== null && !row.name.includes('kanary')) return null;
  // Everybody says for themselves what they agree to: record_consent() takes no user.
  if (table === 'private.consents' && !victims.includes(row.user_id)) return null;
  // Who was a member asks for what the organization has about them (docs/guides/privacy.md). Nothing is erased without a mailed code.
  if (table === 'private.privacy_requests' && !victims.includes(row.user_id)) return null;
  // Anybody may invite anybody into another organization, and the platform tells them so.
  if (table === 'realtime.messages' && row.payload?.type === 'invitation.received') return null;
  const columns = CHANGING[table];
  if (!columns) return row;
  return Object.fromEntries(Object.entries(row).filter(([column]) => !columns.includes(column)));
}

/**
 * Why an answer may tell the victim's row from none, or undefined. docs/architecture.md: an id is unique over all tenants, so an
 * insert with it says that it exists, and so does one that would merge into it. Nobody guesses a random uuid.
 */
export function isDocumented(request, { body, status }, attacker) {
  const { path, headers } = request;
  if (attacker.name === 'former member' && asksAboutThemselves(request, attacker) && wasAllowed(status, body)) return 'a former member';
  // docs/reference/errors.md: sign-up and a change of address say that an address is taken.
  if (['user_already_exists', 'email_exists'].includes(body?.code)) return 'the address is taken';
  if (body?.code === '23505' && /"\w+_pkey"/.test(body.message)) return 'the primary key of all tenants';
  // Of the row's own organization, where another attacker has left one: a policy refuses a row of another organization before.
  if (body?.code === '23505' && /"\w+_org_id_\w+"/.test(body.message)) return 'a unique key within the organization';
  if (!/on_conflict=id\b/.test(path)) return undefined;
  if (body?.code === '42501' && body.message.includes('USING expression')) return 'the same, by an upsert';
  if (status === 201 && body?.length === 0 && headers.Prefer.includes('ignore-duplicates')) return 'the same, by an upsert that ignores it';
  return undefined;
}

// docs/guides/privacy.md: who was a member may ask for their own data in the organization, which they know, and for nobody else's.
function asksAboutThemselves({ method, path, body }, { user }) {
  const [route, query] = path.split('?');
  if (!/^\/rest\/v1\/rpc\/request_(export|erasure)$/.test(route)) return false;
  const args = method === 'GET' ? Object.fromEntries(new URLSearchParams(query)) : typeof body === 'string' ? JSON.parse(body) : body;
  return typeof args?.org_id === 'string' && (args.user_id ?? user) === user;
}

/** The request, or that one is under way, the sign-in is too old, or GET writes nothing: all of it about themselves. */
const wasAllowed = (status, body) =>
  (status === 200 && /^[0-9a-f-]{36}$/.test(body)) || ['conflict', 'rate_limited', 'permission_denied', '25006'].includes(body?.code);
