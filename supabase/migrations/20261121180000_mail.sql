-- ============================================================================
-- Mail: templates, settings and messages.
--
-- mail_send() writes a message in the transaction of its caller. Where mails are delivered it also queues a job of kind mail,
-- which names the message; the sidecar sends it by SMTP. Elsewhere the message is kept, and ./kijko mail shows it.
-- Links and codes are in private.mail_messages.sealed_data only: no job, event or log has them, and they go when the message
-- is sent or given up.
--
-- Times are of the real clock, as in the queue: a journey through product time must not expire a mail.
-- Lock order: the job, then its message.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Settings
-- ----------------------------------------------------------------------------

create table private.mail_settings (
  id boolean primary key default true check (id),
  delivery text not null default 'keep' check (delivery in ('keep', 'smtp')),
  site_url text not null default 'http://127.0.0.1:54321' check (char_length(site_url) <= 2048 and site_url ~ '^https?://[^\u0001-\u0020\u007f"<>?#]+$' and site_url !~ '/$'),
  invitation_path text not null default '/invitations' check (char_length(invitation_path) <= 512 and invitation_path ~ '^/[^[:space:]"<>?#]*$'),
  notifications_path text not null default '/notifications' check (char_length(notifications_path) <= 512 and notifications_path ~ '^/[^[:space:]"<>?#]*$'),
  default_locale text not null default 'en' check (default_locale in ('en', 'nl')),
  mailbox_per_hour integer not null default 20 check (mailbox_per_hour between 1 and 100000),
  mailbox_per_day integer not null default 50 check (mailbox_per_day between 1 and 100000),
  organizations_mailbox_per_hour integer not null default 10 check (organizations_mailbox_per_hour between 1 and 100000),
  organizations_mailbox_per_day integer not null default 25 check (organizations_mailbox_per_day between 1 and 100000),
  organization_per_hour integer not null default 200 check (organization_per_hour between 1 and 1000000),
  network_per_hour integer not null default 300 check (network_per_hour between 1 and 1000000),
  free_organizations_per_hour integer not null default 2000 check (free_organizations_per_hour between 1 and 10000000),
  organizations_per_hour integer not null default 5000 check (organizations_per_hour between 1 and 10000000),
  total_per_hour integer not null default 10000 check (total_per_hour between 1 and 10000000),
  max_age interval not null default '24 hours' check (max_age between '1 minute' and '7 days'),
  kept_data_for interval not null default '24 hours' check (kept_data_for between '0' and '30 days'),
  retention interval not null default '30 days' check (retention between '1 hour' and '1 year'),
  -- Each limit of many senders leaves a share to those that it does not count.
  constraint mail_settings_free_share check (free_organizations_per_hour < organizations_per_hour),
  constraint mail_settings_organizations_share check (organizations_per_hour < total_per_hour)
);
insert into private.mail_settings default values;

comment on table private.mail_settings is 'One row: how mails are made and limited. Changes hold from the next mail on.';
comment on column private.mail_settings.id is 'Always true: there is one row.';
comment on column private.mail_settings.delivery is 'smtp: the sidecar sends mails. keep: they are kept unsent, and ./kijko mail shows them. Set by private.mail_set_delivery(), which ./kijko up calls by SMTP_URL, and docker compose by KIJKO_MAIL_FROM.';
comment on column private.mail_settings.site_url is 'Address of the frontend, without a final slash: links of invitations begin with it.';
comment on column private.mail_settings.invitation_path is 'Path of the frontend''s page that accepts an invitation; the link appends ?token=….';
comment on column private.mail_settings.notifications_path is 'Path of the frontend''s page of notifications: the link of a digest.';
comment on column private.mail_settings.default_locale is 'Language of a mail whose locale has no template.';
comment on column private.mail_settings.mailbox_per_hour is 'Mails of login to one mailbox an hour.';
comment on column private.mail_settings.mailbox_per_day is 'Mails of login to one mailbox a day.';
comment on column private.mail_settings.organizations_mailbox_per_hour is 'Mails to one mailbox an hour, of all organizations together. They never count against mailbox_per_hour, so that nobody can keep mails of login from a mailbox by inviting it.';
comment on column private.mail_settings.organizations_mailbox_per_day is 'The same for a day.';
comment on column private.mail_settings.organization_per_hour is 'Mails of one organization an hour.';
comment on column private.mail_settings.network_per_hour is 'Mails of organizations an hour that requests of one network cause (an IPv4 address, an IPv6 /48): one sender with many organizations must not use up the mails of all.';
comment on column private.mail_settings.free_organizations_per_hour is 'Mails of all organizations of the plan FREE an hour; below organizations_per_hour, so that they cannot stop those that pay.';
comment on column private.mail_settings.organizations_per_hour is 'Mails of all organizations an hour; below total_per_hour, so that tenants cannot stop the mails of login.';
comment on column private.mail_settings.total_per_hour is 'All mails an hour.';
comment on column private.mail_settings.max_age is 'A mail that could not be sent for so long is given up: its link has expired.';
comment on column private.mail_settings.kept_data_for is 'How long kept mails keep their links and codes.';
comment on column private.mail_settings.retention is 'How long messages are listed; then they are deleted with their addresses.';
select private.describe_data('private.mail_settings', '{
  "id, delivery, site_url, invitation_path, notifications_path, default_locale, max_age, kept_data_for, retention": "how mails are made",
  "mailbox_per_hour, mailbox_per_day, organizations_mailbox_per_hour, organizations_mailbox_per_day": "how many mails a mailbox gets",
  "organization_per_hour, network_per_hour, free_organizations_per_hour, organizations_per_hour, total_per_hour": "how many mails are sent"
}', 'platform');
alter table private.mail_settings enable row level security;

-- ----------------------------------------------------------------------------
-- Templates
-- ----------------------------------------------------------------------------

create table private.mail_kinds (
  name text primary key check (char_length(name) <= 63 and name ~ '^[a-z][a-z0-9_]*$'),
  required text[] not null,
  optional text[] not null default '{}'
);
comment on table private.mail_kinds is 'Every mail, with the variables that its sender must or may give. Written by migrations.';
comment on column private.mail_kinds.name is 'Name of the mail, as mail_send() takes it.';
comment on column private.mail_kinds.required is 'Variables without which mail_send() refuses.';
comment on column private.mail_kinds.optional is 'Further variables that a template may use; one that the sender leaves out is empty.';
select private.describe_data('private.mail_kinds', '{"name, required, optional": "names the mails and their variables"}', 'platform');
alter table private.mail_kinds enable row level security;

create table private.mail_templates (
  name text not null references private.mail_kinds (name),
  locale text not null check (locale in ('en', 'nl')),
  subject text not null check (char_length(subject) between 1 and 200 and subject !~ '[[:cntrl:]]'),
  text text not null check (char_length(text) between 1 and 20000),
  html text not null check (char_length(html) between 1 and 100000),
  primary key (name, locale)
);
comment on table private.mail_templates is 'Subject and bodies of each mail, by language. The platform''s: operators may change them, tenants never. {name} stands for a variable, which is escaped in HTML.';
comment on column private.mail_templates.name is 'The mail.';
comment on column private.mail_templates.locale is 'Language: en or nl.';
comment on column private.mail_templates.subject is 'Subject, one line.';
comment on column private.mail_templates.text is 'Body as plain text.';
comment on column private.mail_templates.html is 'Body as HTML: the content of a page, or a whole document that begins with <!doctype.';
select private.describe_data('private.mail_templates', '{"name, locale, subject, text, html": "wording of the mails"}', 'platform');
alter table private.mail_templates enable row level security;

create function private.mail_check_template() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  unknown text;
begin
  select string_agg(distinct m.variable[1], ', ') into unknown
  from regexp_matches(concat(new.subject, new.text, new.html), '\{([a-z_]+)\}', 'g') as m (variable)
  where m.variable[1] <> all (array(
    select v.name from private.mail_kinds as k cross join lateral unnest(k.required || k.optional) as v (name) where k.name = new.name
  ));
  if unknown is not null then
    perform kijko.fail('invalid_input', format('mail %s: senders do not give %s', new.name, unknown));
  end if;
  return new;
end
$$;
comment on function private.mail_check_template() is 'Trigger: refuses a template that uses a variable which its mail does not have.';
create trigger mail_templates_check before insert or update on private.mail_templates
  for each row execute function private.mail_check_template();

-- ----------------------------------------------------------------------------
-- Messages
-- ----------------------------------------------------------------------------

create table private.mail_messages (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default kijko.platform_org_id() references public.organizations (id) on delete cascade,
  recipient text not null check (char_length(recipient) <= 320),
  template text not null check (char_length(template) <= 63),
  locale text not null check (locale in ('en', 'nl')),
  sealed_data kijko.sealed check (char_length(sealed_data) <= 65536),
  dedupe_key text check (char_length(dedupe_key) between 1 and 255),
  status text not null check (status in ('queued', 'sent', 'failed', 'kept')),
  job_id uuid,
  attempts integer not null default 0 check (attempts >= 0),
  unanswered integer not null default 0 check (unanswered >= 0),
  smtp_code integer check (smtp_code between 200 and 599),
  error_code text check (char_length(error_code) <= 100),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  finished_at timestamptz,
  check ((status = 'queued') = (finished_at is null))
);
create unique index mail_messages_dedupe_key on private.mail_messages (org_id, dedupe_key) where dedupe_key is not null;
create index mail_messages_org_id_idx on private.mail_messages (org_id, created_at);
create index mail_messages_created_at_idx on private.mail_messages (created_at);
create index mail_messages_queued_idx on private.mail_messages (created_at) where status = 'queued';
create index mail_messages_failed_idx on private.mail_messages (finished_at) where status = 'failed';
create index mail_messages_kept_idx on private.mail_messages (finished_at) where status = 'kept' and sealed_data is not null;

comment on table private.mail_messages is 'Mails, queued, sent, given up or kept. No role but the owner reads them: they hold links and codes that sign their holder in.';
comment on column private.mail_messages.id is 'Identity of the mail; the part of its Message-ID before the @.';
comment on column private.mail_messages.org_id is 'Organization that sends it; the platform''s for mails of login.';
comment on column private.mail_messages.recipient is 'Address that it goes to.';
comment on column private.mail_messages.template is 'Which mail: a name of private.mail_kinds.';
comment on column private.mail_messages.locale is 'Its language.';
comment on column private.mail_messages.sealed_data is 'Variables of the template, links and codes among them, sealed. Null once the mail is sent or given up, or was kept for kept_data_for.';
comment on column private.mail_messages.dedupe_key is 'A second mail_send() of the organization with this key sends nothing.';
comment on column private.mail_messages.status is 'queued, sent (the mail server took it), failed (given up), or kept (made while mails are not delivered).';
comment on column private.mail_messages.job_id is 'Its job; null for a kept one.';
comment on column private.mail_messages.attempts is 'How often sending was begun.';
comment on column private.mail_messages.unanswered is 'Attempts that handed the mail over and got no answer: the server may have taken it.';
comment on column private.mail_messages.smtp_code is 'Last answer of the mail server.';
comment on column private.mail_messages.error_code is 'Why it was given up, in short.';
comment on column private.mail_messages.created_by is 'User on whose behalf it was sent; null for login and the system. No foreign key: history outlives the user.';
comment on column private.mail_messages.created_at is 'When it was made; the Date of the mail.';
comment on column private.mail_messages.expires_at is 'Not sent after that.';
comment on column private.mail_messages.finished_at is 'When it was sent, given up or kept.';
select private.describe_data('private.mail_messages', '{
  "recipient": {"subject": "person", "purpose": "whom the mail goes to", "export": "person", "erasure": "person"},
  "sealed_data": {"subject": "secret", "purpose": "links and codes of the mail", "export": "none", "erasure": "retention"},
  "template, locale, dedupe_key": {"purpose": "what the mail says", "export": "person", "erasure": "retention"},
  "status, job_id, attempts, unanswered, smtp_code, error_code, expires_at, finished_at": {"purpose": "how sending went", "export": "none", "erasure": "retention"}
}');
alter table private.mail_messages enable row level security;

create function private.mail_context(message private.mail_messages) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'mail_messages/' || message.org_id::text || '/' || message.id::text;
comment on function private.mail_context(private.mail_messages) is 'The context in which a mail''s variables are sealed. Those that are copied to another mail cannot be unsealed.';
select private.seal_column('private.mail_messages', 'sealed_data', 'private.mail_context(private.mail_messages)');
