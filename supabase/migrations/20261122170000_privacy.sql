-- ============================================================================
-- Privacy: export and erasure of a person's data, with proof.
--
--   1. The data catalogue says of each column whose it is, and what an export and an erasure do with it. data_subjects (privacy_subjects.sql)
--      says how a row is tied to a person.
--   2. request_export() queues an export. Each minute privacy_tick() collects rows; a job of the sidecar makes the archive of them.
--   3. request_erasure() sends a code, confirm_erasure() begins a waiting time. Then a job of the sidecar writes the erasure into a journal
--      outside the database and its backups; after that privacy_tick() erases, and completes proofs. A restore replays the journal.
-- ============================================================================

create table private.privacy_settings (
  id boolean primary key default true check (id),
  waiting_time interval not null default '7 days' check (waiting_time between '0' and '21 days'),
  code_lifetime interval not null default '1 hour' check (code_lifetime between '5 minutes' and '1 day'),
  export_lifetime interval not null default '7 days' check (export_lifetime between '1 hour' and '30 days'),
  link_lifetime interval not null default '10 minutes' check (link_lifetime between '1 minute' and '1 day'),
  backup_lifetime interval not null default '30 days' check (backup_lifetime between '1 day' and '10000 days'),
  oldest_backup_at timestamptz
);
comment on table private.privacy_settings is 'One row: what the operator says about exports and erasures.';
comment on column private.privacy_settings.id is 'Always true: there is one row.';
comment on column private.privacy_settings.waiting_time is 'From the confirmation of an erasure until it is done; it can be cancelled until then. The law allows a month in all.';
comment on column private.privacy_settings.code_lifetime is 'How long the code of an erasure holds.';
comment on column private.privacy_settings.export_lifetime is 'How long an export can be downloaded; then it is deleted.';
comment on column private.privacy_settings.link_lifetime is 'How long a link to an export holds. It works once.';
comment on column private.privacy_settings.backup_lifetime is 'After how long backups are to be without an erased person: KIJKO_BACKUP_MAX_DAYS, set by each ./kijko backup.';
comment on column private.privacy_settings.oldest_backup_at is 'When the oldest copy of the data that is kept was begun: a backup, or data that a restore replaced. Set by each ./kijko backup; null where other tools make the backups.';
select private.describe_data('private.privacy_settings', '{"id, waiting_time, code_lifetime, export_lifetime, link_lifetime, backup_lifetime, oldest_backup_at": "says how exports and erasures go"}', 'platform');
alter table private.privacy_settings enable row level security;
insert into private.privacy_settings default values;

create table private.privacy_requests (
  id uuid primary key default gen_random_uuid(),
  kind text not null check (kind in ('export', 'erasure')),
  -- No foreign keys: the record outlives the user and the organization.
  user_id uuid not null,
  organization uuid,
  requested_by uuid,
  session_id uuid,
  status text not null check (status in (
    'queued', 'collected', 'ready', 'unconfirmed', 'confirmed', 'journaling', 'journaled', 'done', 'cancelled', 'failed', 'expired'
  )),
  email text check (char_length(email) <= 320),
  code_hash bytea,
  code_expires_at timestamptz,
  due_at timestamptz,
  journaled_at timestamptz,
  finished_at timestamptz,
  expires_at timestamptz,
  object_name text check (char_length(object_name) <= 1024),
  bytes bigint check (bytes >= 0),
  sha256 text check (char_length(sha256) = 64),
  error_code text check (char_length(error_code) <= 100),
  attempts smallint not null default 0 check (attempts >= 0),
  next_attempt_at timestamptz,
  created_at timestamptz not null default kijko.now()
);
create unique index privacy_requests_open_idx on private.privacy_requests (user_id, kind, coalesce(organization, '00000000-0000-0000-0000-000000000000'))
  where status in ('queued', 'collected', 'unconfirmed', 'confirmed', 'journaling', 'journaled');
create index privacy_requests_user_id_idx on private.privacy_requests (user_id);
create index privacy_requests_failed_idx on private.privacy_requests (finished_at) where status = 'failed';
create index privacy_requests_requested_by_idx on private.privacy_requests (requested_by, created_at desc);
create index privacy_requests_status_idx on private.privacy_requests (status, created_at) where status not in ('done', 'cancelled', 'failed', 'expired');
comment on table private.privacy_requests is 'Requests for an export or an erasure, and what became of them. That of an erasure is its proof and stays, without an address.';
comment on column private.privacy_requests.id is 'Identity of the request.';
comment on column private.privacy_requests.kind is 'export or erasure.';
comment on column private.privacy_requests.user_id is 'Whose data.';
comment on column private.privacy_requests.organization is 'Only what this organization has about them; null for the whole account.';
comment on column private.privacy_requests.requested_by is 'Who asked: the person, or an administrator of the organization. Null for an account that was deleted otherwise, and once the erasure is done.';
comment on column private.privacy_requests.session_id is 'Session that asked; null as requested_by.';
comment on column private.privacy_requests.status is 'An export is queued, collected, ready, then expired. An erasure is unconfirmed, confirmed, journaling, journaled, then done. Either may be cancelled, or failed after ten attempts.';
comment on column private.privacy_requests.email is 'Address of the person, by which rows are found when the account is gone. Null when the request has ended, for an erasure when rows were looked for once more; one that failed keeps it.';
comment on column private.privacy_requests.code_hash is 'SHA-256 of the code that confirms an erasure; null when the code was used.';
comment on column private.privacy_requests.code_expires_at is 'Until when the code holds.';
comment on column private.privacy_requests.due_at is 'When the waiting time of a confirmed erasure ends.';
comment on column private.privacy_requests.journaled_at is 'When the erasure was on the disk of the journal.';
comment on column private.privacy_requests.finished_at is 'When the request ended; for an export, when its archive was ready.';
comment on column private.privacy_requests.expires_at is 'Until when an export can be downloaded.';
comment on column private.privacy_requests.object_name is 'Where an export lies in the bucket privacy-exports.';
comment on column private.privacy_requests.bytes is 'Size of an export.';
comment on column private.privacy_requests.sha256 is 'SHA-256 of an export.';
comment on column private.privacy_requests.error_code is 'Why the last attempt failed, or why the request was cancelled: permission_denied, last_owner, joined_again, replay_failed (after a restore; the person is locked out), internal, or a code of kijko.error_codes.';
comment on column private.privacy_requests.attempts is 'How often the request failed. After the tenth time its status is failed.';
comment on column private.privacy_requests.next_attempt_at is 'When the request is tried again; null if it never failed.';
comment on column private.privacy_requests.created_at is 'When the person or the administrator asked.';
select private.describe_data('private.privacy_requests', '{
  "kind, organization, status, due_at, journaled_at, finished_at, expires_at, bytes, sha256, error_code, attempts, next_attempt_at": {"purpose": "shows that a request was answered, and how", "erasure": "retention"},
  "user_id": {"purpose": "finds the person again in a restored backup", "erasure": "retention"},
  "requested_by, session_id": {"purpose": "who may see the request; emptied when an erasure ends", "erasure": "retention"},
  "email": {"purpose": "finds rows by address; emptied when the request ends", "erasure": "retention"},
  "code_hash": {"subject": "secret", "purpose": "confirms an erasure", "erasure": "person"},
  "code_expires_at, object_name": {"purpose": "confirms an erasure; finds an export", "export": "none", "erasure": "person"}
}', 'person');
alter table private.privacy_requests enable row level security;

create table private.privacy_proofs (
  request_id uuid not null references private.privacy_requests (id) on delete cascade,
  target text not null check (char_length(target) <= 63 and target ~ '^[a-z_]+$'),
  state text not null check (state in ('pending', 'done', 'kept', 'failed')),
  details jsonb not null default '{}' check (jsonb_typeof(details) = 'object' and private.json_fits(details, 65536)),
  due_at timestamptz,
  proved_at timestamptz,
  primary key (request_id, target),
  check ((state = 'pending') = (proved_at is null))
);
create index privacy_proofs_open_idx on private.privacy_proofs (due_at) where state in ('pending', 'failed');
comment on table private.privacy_proofs is 'What an erasure did at each place that had data about the person.';
comment on column private.privacy_proofs.request_id is 'The erasure.';
comment on column private.privacy_proofs.target is 'The place: journal, database, storage, stripe, mail, model_calls, events, identities, audit, late_writes, backups.';
comment on column private.privacy_proofs.state is 'pending: the erasure goes on there. done: nothing is left there. kept: the details say what stays, and why. failed: an operator must erase by hand.';
comment on column private.privacy_proofs.details is 'How many rows of which table were erased, or what else was done. Nothing about the person.';
comment on column private.privacy_proofs.due_at is 'When a pending proof should be complete; null while unknown.';
comment on column private.privacy_proofs.proved_at is 'When the proof was complete.';
select private.describe_data('private.privacy_proofs', '{
  "request_id, target, state, details, due_at, proved_at": {"purpose": "shows what an erasure did", "erasure": "retention"}
}', 'person');
alter table private.privacy_proofs enable row level security;
select private.set_retention('private.privacy_requests', '6 years', 'shows to authorities that a request was answered');
select private.set_retention('private.privacy_proofs', null, 'shows to authorities that a request was answered', kept_by => 'its request');

create table private.privacy_export_links (
  id uuid primary key default gen_random_uuid(),
  request_id uuid not null references private.privacy_requests (id) on delete cascade,
  token_hash bytea not null unique,
  session_id uuid not null,
  expires_at timestamptz not null,
  used_at timestamptz,
  opened_at timestamptz
);
create index privacy_export_links_request_id_idx on private.privacy_export_links (request_id);
create index privacy_export_links_expires_at_idx on private.privacy_export_links (expires_at);
comment on table private.privacy_export_links is 'Links to exports. Each works once, for the session that asked for it. Deleted an hour after they expire.';
comment on column private.privacy_export_links.id is 'Identity of the link.';
comment on column private.privacy_export_links.request_id is 'The export.';
comment on column private.privacy_export_links.token_hash is 'SHA-256 of its token.';
comment on column private.privacy_export_links.session_id is 'The session for which it works.';
comment on column private.privacy_export_links.expires_at is 'Until when, by the clock of the server.';
comment on column private.privacy_export_links.used_at is 'When its download began.';
comment on column private.privacy_export_links.opened_at is 'When the sidecar got the bytes for it.';
select private.describe_data('private.privacy_export_links', '{
  "id, request_id, session_id, expires_at, used_at, opened_at": {"purpose": "an export is downloaded once by a link", "export": "none", "erasure": "retention"},
  "token_hash": {"subject": "secret", "purpose": "an export is downloaded once by a link", "erasure": "retention"}
}', 'person');
select private.set_retention('private.privacy_export_links', '1 hour', 'a download that is under way');
alter table private.privacy_export_links enable row level security;

-- Not in the write-ahead log, and so in no backup. A crash empties it, and the export is collected again.
create unlogged table private.privacy_export_chunks (
  request_id uuid not null references private.privacy_requests (id) on delete cascade,
  n integer not null check (n > 0),
  table_name text not null check (char_length(table_name) <= 127),
  lines text not null check (octet_length(lines) <= 268435456),
  row_count integer not null check (row_count > 0),
  primary key (request_id, n)
);
comment on table private.privacy_export_chunks is 'Rows of an export that were collected, until its archive is made.';
comment on column private.privacy_export_chunks.request_id is 'The export.';
comment on column private.privacy_export_chunks.n is 'Place in the export, from 1.';
comment on column private.privacy_export_chunks.table_name is 'Schema and table of the rows.';
comment on column private.privacy_export_chunks.lines is 'The rows as lines of JSON.';
comment on column private.privacy_export_chunks.row_count is 'How many.';
select private.describe_data('private.privacy_export_chunks', '{
  "request_id, n, table_name, lines, row_count": {"purpose": "an export that is being made", "export": "none", "erasure": "retention"}
}', 'person');
select private.set_retention('private.privacy_export_chunks', null, 'an export that is being made', kept_by => 'the export: deleted with its end');
alter table private.privacy_export_chunks enable row level security;

-- ----------------------------------------------------------------------------
-- Consent
-- ----------------------------------------------------------------------------

create table private.consents (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  purpose text not null check (char_length(purpose) <= 63 and purpose ~ '^[a-z][a-z0-9_]*$'),
  version text not null check (char_length(version) between 1 and 63),
  granted boolean not null,
  seq bigint generated always as identity,
  created_at timestamptz not null default kijko.now()
);
create index consents_user_id_idx on private.consents (user_id, purpose, seq desc);
comment on table private.consents is 'What people have consented to, and withdrawn: a row for each time. Rows never change.';
comment on column private.consents.id is 'Identity of the row.';
comment on column private.consents.user_id is 'Who.';
comment on column private.consents.purpose is 'What for, such as newsletter or product_analytics: a name that the product chooses.';
comment on column private.consents.version is 'Version of the text that they saw.';
comment on column private.consents.granted is 'Whether they consented; false withdraws.';
comment on column private.consents.seq is 'Order of the rows.';
comment on column private.consents.created_at is 'When.';
select private.describe_data('private.consents', '{"id, user_id, purpose, version, granted, seq, created_at": "shows what a person consented to, and when"}', 'person');
alter table private.consents enable row level security;
create trigger consents_unchanged before update on private.consents
  for each row execute function private.refuse_change('consents: rows never change');

create function public.record_consent(purpose text, version text, granted boolean) returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  me constant uuid := private.tenancy_require_user();
  latest private.consents;
begin
  if (record_consent.purpose ~ '^[a-z][a-z0-9_]*$' and char_length(record_consent.purpose) <= 63) is not true
    or (char_length(record_consent.version) between 1 and 63) is not true or record_consent.granted is null
  then
    perform kijko.fail('invalid_input', 'purpose: a small letter, then small letters, digits and _, at most 63; version: 1 to 63 characters; granted: true or false');
  end if;
  perform private.limit_rate('consent:' || me, 60, interval '1 hour', 'a person consents and withdraws at most %s times an hour');
  -- One after the other, so that a repetition is seen as one.
  perform 1 from auth.users as u where u.id = me for no key update;
  select c.* into latest from private.consents as c
  where c.user_id = me and c.purpose = record_consent.purpose order by c.seq desc limit 1;
  if latest.version = record_consent.version and latest.granted = record_consent.granted then
    return latest.created_at;
  elsif (select count(*) from private.consents as c where c.user_id = me) >= 1000 then
    perform kijko.fail('quota_exceeded', 'consents: at most 1,000 of a person');
  end if;
  insert into private.consents as c (user_id, purpose, version, granted)
  values (me, record_consent.purpose, record_consent.version, record_consent.granted)
  returning c.* into latest;
  return latest.created_at;
end
$$;
comment on function public.record_consent(text, text, boolean) is 'Records that the caller consents to a purpose, by the text of this version, or withdraws; returns when. The same again changes nothing. Not for API keys. Definer: users write no consents otherwise.';
grant execute on function public.record_consent(text, text, boolean) to authenticated;

create function public.list_consents() returns table (purpose text, version text, granted boolean, created_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
begin
  return query select c.purpose, c.version, c.granted, c.created_at from private.consents as c where c.user_id = me order by c.seq desc;
end
$$;
comment on function public.list_consents() is 'What the caller has consented to and withdrawn, the newest first. Definer: the table is private.';
grant execute on function public.list_consents() to authenticated;

create function private.privacy_has_consent(person uuid, purpose text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select c.granted from private.consents as c
    where c.user_id = person and c.purpose = privacy_has_consent.purpose order by c.seq desc limit 1
  ), false)
$$;
comment on function private.privacy_has_consent(uuid, text) is 'Whether a person consents to a purpose now. For functions of the domain that need it.';
