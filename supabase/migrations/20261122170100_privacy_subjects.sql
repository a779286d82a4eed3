-- ============================================================================
-- Privacy: how rows are tied to people, the tables of other schemas, and the register of processing.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- How rows are tied to people
-- ----------------------------------------------------------------------------

create view private.data_subject_columns with (security_invoker = true) as
select
  s.table_name, s.column_name, s.matches, s.is_about, s.erasure, s.columns, false as by_foreign_key, to_regclass(s.table_name) as relation
from private.data_subjects as s
union all
select f.table_name, f.column_name, 'user', bool_or(f.action = 'c'), case when bool_or(f.action = 'c') then 'delete' else 'clear' end, '{}', true, f.relation
from (
  select t.oid::regclass as relation, format('%I.%I', n.nspname, t.relname) as table_name, a.attname as column_name, c.confdeltype as action
  from pg_catalog.pg_constraint as c
  join pg_catalog.pg_class as t on t.oid = c.conrelid and not t.relispartition
  join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
  cross join lateral unnest(c.conkey, c.confkey) as k (mine, theirs)
  join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.mine
  join pg_catalog.pg_attribute as r on r.attrelid = c.confrelid and r.attnum = k.theirs
  where c.contype = 'f' and (
    (c.confrelid in ('auth.users'::regclass, 'public.profiles'::regclass) and r.attname = 'id')
    or (c.confrelid = 'public.memberships'::regclass and r.attname = 'user_id')
  )
) as f
where not exists (select from private.data_subjects as s where s.table_name = f.table_name and s.column_name = f.column_name)
group by f.relation, f.table_name, f.column_name;
comment on view private.data_subject_columns is 'All columns that tie a row to a person: those that foreign keys declare, with what they do when the user is deleted, and private.data_subjects. relation: the table, null if it is not there. Never null: table_name, column_name, matches, is_about, erasure, columns, by_foreign_key.';

do $$
begin
  perform private.tie_to_person('auth.users', 'id', 'delete', 'it is the user', is_about => true);
  -- By the id: an address may be another account's by then.
  perform private.tie_to_person('public.profiles', 'id', 'delete', 'the user''s own row, with the address', is_about => true, columns => '{email}');
  perform private.tie_to_person('public.invitations', 'email', 'delete', 'an address may have no account', is_about => true, matches => 'email');
  perform private.tie_to_person('private.mail_messages', 'recipient', 'delete', 'an address may have no account', is_about => true, matches => 'email');
  perform private.tie_to_person('public.stripe_customers', 'email', 'clear', 'Stripe says it', is_about => true, matches => 'email');
  perform private.tie_to_person('private.notification_counters', 'user_id', 'delete', 'a key would be checked at each notification', is_about => true);
  perform private.tie_to_person('private.notification_differences', 'user_id', 'delete', 'a key would be checked at each notification', is_about => true);
  perform private.tie_to_person('public.reflexes', 'authorized_by', 'clear', 'a reflex whose author is gone is paused, not changed by a key');
  perform private.tie_to_person('public.llm_call_contents', 'created_by', 'delete', 'the record does not wait for the user', is_about => true);
  perform private.tie_to_person('public.llm_calls', 'created_by', 'clear', 'the record does not wait for the user');
  perform private.tie_to_person('public.llm_calls', 'member_id', 'clear', 'the record does not wait for the user');
  perform private.tie_to_person('public.audit_log', 'created_by', 'keep', 'evidence; a deletion must not change the log', is_about => true, columns => '{address,user_agent,origin_salt}');
  perform private.tie_to_person('public.audit_log', 'subject_user_id', 'keep', 'evidence; a deletion must not change the log', is_about => true, columns => '{personal,personal_salt}');
  perform private.tie_to_person('private.audit_erasures', 'user_id', 'keep', 'finds what is to be erased, for minutes', columns => '{former_emails}');
  perform private.tie_to_person('private.audit_erasures', 'email', 'keep', 'finds what is to be erased, for minutes', matches => 'email');
  perform private.tie_to_person('private.privacy_requests', 'user_id', 'keep', 'finds the person again in a restored backup', is_about => true);
  perform private.tie_to_person('private.privacy_requests', 'email', 'keep', 'finds rows by address; emptied a minute after the erasure', matches => 'email');
  perform private.tie_to_person('private.privacy_requests', 'requested_by', 'keep', 'the record outlives the user; emptied when an erasure ends');
  perform private.tie_to_person('public.approvals', 'requested_by', 'keep', 'evidence of who asked: the record outlives the user');
  perform private.tie_to_person('public.approvals', 'decided_by', 'keep', 'evidence of who decided: the record outlives the user');
end
$$;
-- History of work, which outlives its maker.
select private.tie_to_person(t.name::regclass, 'created_by', 'clear', 'history does not wait for the user')
from unnest(array[
  'public.jobs', 'public.job_event_log', 'private.job_limits', 'public.executions', 'private.execution_calls', 'public.execution_text_chunks', 'private.mail_messages'
]) as t (name);

-- ----------------------------------------------------------------------------
-- Tables of other schemas. Which columns they have depends on the version of Supabase, so patterns describe them.
-- ----------------------------------------------------------------------------

create table private.data_patterns (
  place integer primary key,
  tables text not null check (char_length(tables) <= 200),
  columns text not null check (char_length(columns) <= 500),
  subject text not null check (subject in ('organization', 'person', 'platform', 'secret')),
  purpose text not null check (char_length(purpose) between 1 and 500),
  export text not null check (export in ('organization', 'person', 'none')),
  erasure text not null check (erasure in ('organization', 'person', 'retention', 'none'))
);
comment on table private.data_patterns is 'Lines of the data catalogue for tables of auth, auth_api, storage, storage_service and kijko. The first pattern that fits describes a column; private.privacy_describe_platform() writes the lines.';
comment on column private.data_patterns.place is 'Order of the patterns.';
comment on column private.data_patterns.tables is 'Regular expression for schema and table.';
comment on column private.data_patterns.columns is 'Regular expression for the column.';
comment on column private.data_patterns.subject is 'As in the catalogue, and so the columns below.';
comment on column private.data_patterns.purpose is 'Why it is kept.';
comment on column private.data_patterns.export is 'Which export contains it.';
comment on column private.data_patterns.erasure is 'What erases it.';
select private.describe_data('private.data_patterns', '{"place, tables, columns, subject, purpose, export, erasure": "describes the tables of other schemas"}', 'platform');
alter table private.data_patterns enable row level security;

insert into private.data_patterns (place, tables, columns, subject, purpose, export, erasure) values
  (10, '^auth\.users$', 'password|token', 'person', 'signs the user in', 'none', 'person'),
  (20, '^auth\.users$', '^(instance_id|is_super_admin|aud|role)$', 'platform', 'what kind of user it is', 'none', 'person'),
  (30, '^auth\.users$', '.', 'person', 'the account: address, telephone, name, and when they signed in', 'person', 'person'),
  (40, '^auth\.identities$', '.', 'person', 'the account at an outside provider, as that reported it', 'person', 'person'),
  (50, '^auth\.sessions$', 'token|hmac', 'person', 'keeps the user signed in', 'none', 'person'),
  (60, '^auth\.sessions$', '.', 'person', 'where the user is signed in: device and address', 'person', 'person'),
  (70, '^auth\.mfa_factors$', '^(secret|web_authn_|last_webauthn)', 'person', 'the second factor', 'none', 'person'),
  (80, '^auth\.mfa_factors$', '.', 'person', 'which second factors the user has', 'person', 'person'),
  (90, '^auth\.(schema_migrations|instances|custom_oauth_providers|webauthn_.*|sso_.*|saml_.*|oauth_.*)$', '.', 'platform', 'how sign-in is set up', 'none', 'none'),
  (100, '^auth\.audit_log_entries$', '.', 'person', 'what GoTrue reports of sign-ins', 'none', 'retention'),
  (110, '^auth\.', '.', 'person', 'a sign-in that is under way, or goes on', 'none', 'person'),
  (120, '^auth_api\.(settings|common_passwords|oauth_providers)', '.', 'platform', 'how sign-in is set up', 'none', 'none'),
  (130, '^auth_api\.(code_attempts|password_failures)$', '.', 'platform', 'stops guessing', 'none', 'retention'),
  (140, '^auth_api\.(provider_tokens|oauth_flows)$', '.', 'person', 'a sign-in at an outside provider, and the revocation of its token', 'none', 'retention'),
  (150, '^auth_api\.', '.', 'person', 'a sign-in that is under way, or how the user signs in', 'none', 'person'),
  (160, '^storage\.objects$', '^(owner|owner_id)$', 'person', 'who stored the object', 'organization', 'person'),
  (170, '^storage\.objects$', '.', 'organization', 'what is stored, and where', 'organization', 'organization'),
  (180, '^storage\.', '.', 'platform', 'how storage is set up, and uploads that are under way', 'none', 'retention'),
  (190, '^storage_service\.', '.', 'organization', 'uploads that are under way, and bytes to delete', 'none', 'retention'),
  (200, '^kijko\.(error_codes|cache_changes|ledger_.*|calendars)$', '.', 'platform', 'how the extension works', 'none', 'none'),
  (210, '^kijko\.issuer_identities$', '.', 'person', 'the user of a subject at the organization''s login server', 'none', 'person'),
  (220, '^kijko\.(api_keys|api_key_secrets|api_key_uses)$', '.', 'organization', 'recognizes API keys, by their hash', 'none', 'organization'),
  (230, '^kijko\.(revoked_sessions|idempotency_keys|ingested_events|holds|http_.*)$', '.', 'organization', 'sessions that ended, repetitions, and requests to other servers', 'none', 'retention'),
  (240, '^kijko\.(ledger|usage_.*|threshold_crossings)$', '.', 'organization', 'what is billed of use', 'none', 'retention'),
  (250, '^kijko\.', '.', 'organization', 'limits, plans, login servers and entitlements of organizations', 'none', 'organization');

create function private.privacy_describe_platform() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  described integer;
begin
  delete from private.data_catalogue as d where d.table_name ~ '^(auth|auth_api|storage|storage_service|kijko)\.';
  insert into private.data_catalogue as d (table_name, column_name, subject, purpose, export, erasure)
  select distinct on (c.oid, a.attnum) format('%I.%I', n.nspname, c.relname), a.attname, p.subject, p.purpose, p.export, p.erasure
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join private.data_patterns as p on format('%I.%I', n.nspname, c.relname) ~ p.tables and a.attname ~ p.columns
  where n.nspname in ('auth', 'auth_api', 'storage', 'storage_service', 'kijko') and c.relkind in ('r', 'p') and not c.relispartition
  order by c.oid, a.attnum, p.place;
  get diagnostics described = row_count;
  return described;
end
$$;
comment on function private.privacy_describe_platform() is 'Writes the lines of the data catalogue for the tables of other schemas, by private.data_patterns; returns how many. For this migration, and for operators after Supabase''s services have made theirs.';
select private.privacy_describe_platform();

select private.set_retention(to_regclass(t.name), null, t.reason, kept_by => t.kept_by)
from (values
  ('realtime.messages', 'what clients missed while they were not connected', 'three days: then its partition is dropped'),
  ('auth.audit_log_entries', 'what GoTrue reports of sign-ins', 'Supabase''s own service'),
  ('auth_api.code_attempts', 'stops guessing', 'login: deleted when the code expires'),
  ('auth_api.password_failures', 'stops guessing', 'login: deleted when the lock is over'),
  ('auth_api.provider_tokens', 'the token is revoked at its provider', 'the revocation, at most some seventeen hours'),
  ('auth_api.oauth_flows', 'a sign-in that is under way', 'login: deleted when it expires'),
  ('storage_service.uploads', 'an upload that is under way', 'the upload'),
  ('storage_service.deletions', 'a restore to an earlier moment finds the bytes', 'KIJKO_STORAGE_KEEP_DELETED_DAYS'),
  ('kijko.revoked_sessions', 'a token of an ended session is refused', 'the life of the token'),
  ('kijko.idempotency_keys', 'a repetition is recognized', 'kijko.maintain_usage()'),
  ('kijko.ingested_events', 'a repetition is recognized', 'kijko.maintain_usage()'),
  ('kijko.holds', 'what a call reserves', 'kijko.maintain_usage()'),
  ('kijko.http_requests', 'finding out why a request failed', 'kijko.http_retention'),
  ('kijko.http_attempts', 'finding out why a request failed', 'its request'),
  ('kijko.http_secrets', 'signs requests to other servers', 'what uses it'),
  ('kijko.ledger', 'evidence of what was billed', 'kijko.maintain_usage()'),
  ('kijko.usage_totals', 'evidence of what was billed', 'kijko.maintain_usage()'),
  ('kijko.usage_hourly', 'what was used when', 'kijko.maintain_usage()'),
  ('kijko.usage_daily', 'what was used when', 'kijko.maintain_usage()'),
  ('kijko.threshold_crossings', 'a threshold is reported once', 'kijko.maintain_usage()')
) as t (name, reason, kept_by)
where to_regclass(t.name) is not null;
select private.set_retention(c.oid::regclass, null, 'uploads that are under way', kept_by => 'Supabase''s own service')
from pg_class as c where c.relnamespace = to_regnamespace('storage') and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'objects';

-- ----------------------------------------------------------------------------
-- The register of processing (GDPR, Article 30)
-- ----------------------------------------------------------------------------

create view private.processing_register with (security_invoker = true) as
select
  d.table_name, d.subject, d.purpose, string_agg(d.column_name, ', ' order by d.column_name) as columns, d.export, d.erasure,
  coalesce(r.keeps::text, r.kept_by) as kept_for, r.reason
from private.data_catalogue as d
left join private.data_retention as r on r.table_name = d.table_name
where d.subject in ('person', 'organization', 'secret')
group by d.table_name, d.subject, d.purpose, d.export, d.erasure, r.keeps, r.kept_by, r.reason;
comment on view private.processing_register is 'The register of processing: what is kept of whom, why, for how long, and what an export and an erasure do with it. Never null: table_name, subject, purpose, columns, export, erasure.';
