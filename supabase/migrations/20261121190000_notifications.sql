-- ============================================================================
-- Notifications: what the product and organizations tell people, and what each reader has done with it.
--
--   1. private.notifications_send() writes one row: to a user, to the members of an organization, or to everyone.
--   2. The trigger of the insert evaluates the preferences of the readers: who does not want it in the product gets a state that
--      hides it, and who wants a mail gets a line of the next digest. It counts the row as unread and sends an event.
--   3. What a reader has seen, read or archived is a row of private.notification_states. A row for the whole organization stays one.
--
-- A reader sees a row while the policy below shows it: a removed member sees nothing of the organization any more.
-- Lock order: an organization and what belongs to it, a notification's reader (profiles), the notification, its states.
-- Triggers of other domains never wait for the first two (notifications_send).
-- ============================================================================

create function private.notifications_is_link(value text) returns boolean
language sql immutable parallel safe
return value ~ '^(/([^/\\[:space:][:cntrl:]"<>][^\\[:space:][:cntrl:]"<>]*)?|https://[a-zA-Z0-9.-]+(:[0-9]{1,5})?(/[^\\[:space:][:cntrl:]"<>]*)?)$'
  and char_length(value) <= 2048;
comment on function private.notifications_is_link(text) is 'Whether a text can be the link of a notification: a path of the frontend (/habits/…), or an https address without a user name. No javascript:, no //host. Null for null.';

-- ----------------------------------------------------------------------------
-- Types
-- ----------------------------------------------------------------------------

create table public.notification_types (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 63 and name ~ '^[a-z][a-z0-9_]*\.[a-z0-9_]+(\.[a-z0-9_]+)*$'),
  description text not null default '' check (char_length(description) <= 500),
  permission text references private.permissions (permission),
  in_app boolean not null default true,
  mail text not null default 'off' check (mail in ('off', 'now', 'hourly', 'daily')),
  mail_permission text references private.permissions (permission),
  mail_choices text[] not null default '{off,now,hourly,daily}' check (mail_choices <@ '{off,now,hourly,daily}' and mail = any (mail_choices)),
  has_own_mail boolean not null default false,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, name),
  -- The names of organizations and those of the product never meet.
  check ((org_id = kijko.platform_org_id()) <> (name like 'custom.%'))
);
create index notification_types_permission_idx on public.notification_types (permission) where permission is not null;
create index notification_types_mail_permission_idx on public.notification_types (mail_permission) where mail_permission is not null;

comment on table public.notification_types is 'Types of notifications. An organization defines its own, whose names begin with custom.; those of the product belong to the platform, and list_notification_preferences() shows them to everyone.';
comment on column public.notification_types.id is 'Identity of the type.';
comment on column public.notification_types.org_id is 'Organization that defines it; the platform''s for types of the product.';
comment on column public.notification_types.name is 'Name, as notify() and preferences take it: custom.deploy, habit.paused.';
comment on column public.notification_types.description is 'What it is about, for the list of preferences.';
comment on column public.notification_types.permission is 'Permission that a member needs to see notifications of this type that go to the organization. Null: notifications:read is enough.';
comment on column public.notification_types.in_app is 'Whether members without a preference see it in the product.';
comment on column public.notification_types.mail is 'When members without a preference get a mail: off, now, hourly or daily.';
comment on column public.notification_types.mail_permission is 'Only members who hold this permission get a mail without a preference. Null: all readers.';
comment on column public.notification_types.mail_choices is 'What a preference may choose for mail.';
comment on column public.notification_types.has_own_mail is 'Whether its source sends a mail of its own at once, so that a preference of now adds nothing to a digest.';
comment on column public.notification_types.created_by is 'User who defined it; null after that user is deleted.';
comment on column public.notification_types.created_by_key is 'API key that defined it; null for a user.';
comment on column public.notification_types.created_at is 'When it was defined.';
comment on column public.notification_types.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.notification_types', resource => 'notifications', max_rows => 100, writable => array['name', 'description', 'permission', 'in_app', 'mail'],
  catalogue => '{
    "name, description": "what the notifications are about",
    "permission": "says who sees them",
    "in_app, mail, mail_permission, mail_choices, has_own_mail": "how members get them"
  }'
);

insert into public.notification_types (org_id, name, description, permission, mail, mail_permission, mail_choices, has_own_mail, created_by)
select kijko.platform_org_id(), t.name, t.description, t.permission, t.mail, t.mail_permission, t.mail_choices, t.has_own_mail, null
from (
  values
    ('invitation.received', 'Somebody invites you to an organization', null, 'now', null, '{off,now}'::text[], true),
    ('habit.paused', 'A habit was paused because its executions failed', 'habits:read', 'now', null, '{off,now,hourly,daily}'::text[], true),
    ('habit.failed', 'An execution of a habit failed after the last one had succeeded', 'habits:read', 'off', null, '{off,now,hourly,daily}'::text[], false),
    ('reflex.paused', 'A reflex was paused because who made it listen lost the permission', 'reflexes:read', 'now', null, '{off,now,hourly,daily}'::text[], true),
    ('webhook.disabled', 'A webhook endpoint was disabled because its deliveries failed', 'webhooks:read', 'now', 'webhooks:write', '{off,now,hourly,daily}'::text[], false),
    ('connection.paused', 'An account at another service needs a new consent', 'connections:write', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('usage.threshold', 'A meter reached 80 or 100 per cent of its limit', 'usage:read', 'now', 'billing:read', '{off,now,hourly,daily}'::text[], false),
    ('trial.ending', 'The trial of the plan ends in three days', 'billing:read', 'now', 'billing:write', '{off,now,hourly,daily}'::text[], false),
    ('trial.ended', 'The trial of the plan has ended', 'billing:read', 'now', 'billing:write', '{off,now,hourly,daily}'::text[], false),
    ('vat.invalid', 'VIES does not know the VAT number of the organization', 'billing:read', 'now', 'billing:write', '{off,now,hourly,daily}'::text[], false),
    ('llm.budget', 'A budget of model calls reached 80 or 100 per cent', 'llm:read', 'now', 'llm:write', '{off,now,hourly,daily}'::text[], false),
    ('approval.requested', 'A change needs your approval', 'approvals:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('approval.decided', 'A change that you requested was approved or rejected, or expired', 'approvals:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('comment.mention', 'A comment on content mentions you', 'content:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('comment.reply', 'Somebody answered your comment on content', 'content:read', 'off', null, '{off,now,hourly,daily}'::text[], false),
    ('social.attention', 'A social post was not published, or nobody knows whether it was', 'content:publish', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('billing.payment_failed', 'A payment of the subscription failed', 'billing:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('billing.grace_ending', 'The plan ends soon because a payment is missing', 'billing:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('billing.payment_recovered', 'A missing payment has arrived', 'billing:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('billing.plan_changed', 'The plan changed', 'billing:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('billing.trial_refused', 'A trial ended at once, because there was one before', 'billing:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('billing.duplicate_cancelled', 'A second subscription was cancelled', 'billing:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('billing.refunded', 'A payment was paid back', 'billing:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('billing.disputed', 'A payment is disputed at the bank', 'billing:read', 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('break_glass.used', 'An owner signed in past the login server that the organization requires', null, 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('session.ended', 'You were signed out on a device', null, 'now', null, '{off,now,hourly,daily}'::text[], false),
    ('platform.announcement', 'News about the product', null, 'off', null, '{off,now,hourly,daily}'::text[], false)
) as t (name, description, permission, mail, mail_permission, mail_choices, has_own_mail);

create table private.notification_texts (
  type text not null check (char_length(type) <= 63),
  locale text not null check (locale in ('en', 'nl')),
  title text not null check (char_length(title) between 1 and 200),
  body text not null check (char_length(body) <= 2000),
  primary key (type, locale)
);
comment on table private.notification_texts is 'Title and body of the product''s notifications, by language. {name} stands for a value of the notification''s data. The platform''s: operators may change them.';
comment on column private.notification_texts.type is 'Type of the platform.';
comment on column private.notification_texts.locale is 'Language: en or nl.';
comment on column private.notification_texts.title is 'Title, one line.';
comment on column private.notification_texts.body is 'Body; empty for none.';
select private.describe_data('private.notification_texts', '{"type, locale, title, body": "wording of the product''s notifications"}', 'platform');
alter table private.notification_texts enable row level security;

insert into private.notification_texts (type, locale, title, body) values
  ('invitation.received', 'en', 'Invitation to {organization}', 'You are invited to join the organization {organization}. The link to accept is in the mail.'),
  ('invitation.received', 'nl', 'Uitnodiging voor {organization}', 'Je bent uitgenodigd voor de organisatie {organization}. De link om te accepteren staat in de mail.'),
  ('comment.mention', 'en', '{author} mentions you: {post}', '{comment}'),
  ('comment.mention', 'nl', '{author} noemt je: {post}', '{comment}'),
  ('comment.reply', 'en', '{author} answered you: {post}', '{comment}'),
  ('comment.reply', 'nl', '{author} heeft je geantwoord: {post}', '{comment}'),
  ('habit.paused', 'en', 'Paused: {habit}', 'The last {failures} runs of the habit failed.'),
  ('habit.paused', 'nl', 'Gepauzeerd: {habit}', 'De laatste {failures} keer ging het mis.'),
  ('habit.failed', 'en', 'Failed: {habit}', 'An execution of the habit failed: {error_code}.'),
  ('habit.failed', 'nl', 'Mislukt: {habit}', 'Een uitvoering van de gewoonte is mislukt: {error_code}.'),
  ('reflex.paused', 'en', 'Paused: {reflex}', 'Who made the reflex listen no longer holds the permission {permission}.'),
  ('reflex.paused', 'nl', 'Gepauzeerd: {reflex}', 'Wie de reflex liet luisteren, heeft het recht {permission} niet meer.'),
  ('webhook.disabled', 'en', 'Webhook disabled: {host}', 'Events could not be delivered ({reason}). Enable the endpoint again once it works.'),
  ('webhook.disabled', 'nl', 'Webhook uitgeschakeld: {host}', 'Gebeurtenissen konden niet worden afgeleverd ({reason}). Schakel het adres weer in als het werkt.'),
  ('connection.paused', 'en', 'Paused: {account} at {provider}', 'The connection needs a new consent ({reason}). Authorize it again.'),
  ('connection.paused', 'nl', 'Gepauzeerd: {account} bij {provider}', 'De koppeling heeft opnieuw toestemming nodig ({reason}). Autoriseer haar opnieuw.'),
  ('usage.threshold', 'en', '{threshold} % of {meter} is used', '{used} of {limit} are used.'),
  ('usage.threshold', 'nl', '{threshold} % van {meter} is gebruikt', '{used} van {limit} is gebruikt.'),
  ('trial.ending', 'en', 'Your trial ends on {date}', 'After that the plan is paid. Cancel before if you do not want to continue.'),
  ('trial.ending', 'nl', 'Je proefperiode eindigt op {date}', 'Daarna is het abonnement betaald. Zeg op tijd op als je niet verder wilt.'),
  ('trial.ended', 'en', 'Your trial has ended', 'It ended on {date}.'),
  ('trial.ended', 'nl', 'Je proefperiode is afgelopen', 'Ze eindigde op {date}.'),
  ('vat.invalid', 'en', 'VAT number not valid: {vat_number}', 'The register of the European Commission does not know the number, so VAT is charged. Correct it, or have it checked again.'),
  ('vat.invalid', 'nl', 'Btw-nummer ongeldig: {vat_number}', 'Het register van de Europese Commissie kent het nummer niet, dus er wordt btw berekend. Verbeter het, of laat het opnieuw controleren.'),
  ('llm.budget', 'en', '{threshold} % of the budget {budget} is used', '{used} of {limit} {unit} are used.'),
  ('llm.budget', 'nl', '{threshold} % van het budget {budget} is gebruikt', '{used} van {limit} {unit} is gebruikt.'),
  ('approval.requested', 'en', 'Approval needed: {title}', '{reason}'),
  ('approval.requested', 'nl', 'Goedkeuring nodig: {title}', '{reason}'),
  ('approval.decided', 'en', '{status}: {title}', '{reason}'),
  ('approval.decided', 'nl', '{status}: {title}', '{reason}'),
  ('social.attention', 'en', 'Post on {platform}: {status}', '{text} ({error_code})'),
  ('social.attention', 'nl', 'Bericht op {platform}: {status}', '{text} ({error_code})'),
  ('billing.payment_failed', 'en', 'Payment failed', 'The payment for {plan} failed. Please pay, or choose another means of payment, before {until}.'),
  ('billing.payment_failed', 'nl', 'Betaling mislukt', 'De betaling voor {plan} is mislukt. Betaal, of kies een andere betaalwijze, vóór {until}.'),
  ('billing.grace_ending', 'en', '{plan} ends on {until}', 'The payment is still missing. Without it the organization goes back to Free; nothing is deleted.'),
  ('billing.grace_ending', 'nl', '{plan} stopt op {until}', 'De betaling ontbreekt nog. Zonder betaling gaat de organisatie terug naar Free; er wordt niets verwijderd.'),
  ('billing.payment_recovered', 'en', 'Payment received', 'Thank you. {plan} continues.'),
  ('billing.payment_recovered', 'nl', 'Betaling ontvangen', 'Dank je. {plan} loopt door.'),
  ('billing.plan_changed', 'en', 'The plan is now {plan}', 'It was {former_plan} before.'),
  ('billing.plan_changed', 'nl', 'Het abonnement is nu {plan}', 'Eerst was het {former_plan}.'),
  ('billing.trial_refused', 'en', 'The trial has ended', 'There was a trial with this organization, person or means of payment before. The subscription is paid from today.'),
  ('billing.trial_refused', 'nl', 'De proefperiode is beëindigd', 'Er was al een proefperiode met deze organisatie, persoon of betaalwijze. Het abonnement wordt vanaf vandaag betaald.'),
  ('billing.duplicate_cancelled', 'en', 'A second subscription was cancelled', 'Two checkouts were paid. The second subscription is cancelled, and what was paid for it goes back.'),
  ('billing.duplicate_cancelled', 'nl', 'Een tweede abonnement is opgezegd', 'Er zijn twee bestellingen betaald. Het tweede abonnement is opgezegd, en wat ervoor betaald is gaat terug.'),
  ('billing.refunded', 'en', '{amount} {currency} was paid back', 'The payment was refunded.'),
  ('billing.refunded', 'nl', '{amount} {currency} is terugbetaald', 'De betaling is teruggestort.'),
  ('billing.disputed', 'en', 'A payment of {amount} {currency} is disputed', 'Use beyond the plan is refused until the dispute is closed.'),
  ('billing.disputed', 'nl', 'Een betaling van {amount} {currency} wordt betwist', 'Gebruik boven het abonnement wordt geweigerd tot de betwisting is afgehandeld.'),
  ('break_glass.used', 'en', 'Break-glass sign-in: {name}', '{name} signed in to {organization} with a password or mail, and not by its login server. If you do not know why, end the session and change the password.'),
  ('break_glass.used', 'nl', 'Noodtoegang gebruikt: {name}', '{name} heeft zich bij {organization} aangemeld met een wachtwoord of e-mail, en niet via de eigen inlogserver. Weet je niet waarom? Beëindig de sessie en wijzig het wachtwoord.'),
  ('session.ended', 'en', 'Signed out on {count} devices', 'Reason: {cause}. If it was not you, change your password.'),
  ('session.ended', 'nl', 'Uitgelogd op {count} apparaten', 'Reden: {cause}. Was jij dit niet? Wijzig dan je wachtwoord.');

-- ----------------------------------------------------------------------------
-- notifications
-- ----------------------------------------------------------------------------

-- Postgres reads and plans a check constraint anew in every statement that writes the table. A function in plpgsql keeps its plan, and
-- is not inlined.
create function private.notifications_is_row(
  org_id uuid, audience text, user_id uuid, type text, permission text, body text, data jsonb, link text, dedupe_key text
) returns boolean
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return (audience = 'user') = (user_id is not null)
    and case audience when 'everyone' then org_id = kijko.platform_org_id() when 'organization' then org_id <> kijko.platform_org_id() else true end
    and char_length(type) <= 63 and char_length(permission) <= 80
    and char_length(body) <= 2000
    and jsonb_typeof(data) = 'object' and private.json_fits(data, 8192)
    and private.notifications_is_link(link) and char_length(dedupe_key) between 1 and 255;
end
$$;
comment on function private.notifications_is_row(uuid, text, uuid, text, text, text, jsonb, text, text) is 'The check of notifications: the audience fits the reader and the organization, and texts and data have their form and length. Null, which a check accepts, where one of them is null. Nullable: result.';

create table public.notifications (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  audience text not null check (audience in ('user', 'organization', 'everyone')),
  user_id uuid references public.profiles (id) on delete cascade,
  type text not null,
  permission text,
  project_id uuid,
  title text not null check (char_length(title) <= 200 and private.is_name(title)),
  body text,
  data jsonb not null default '{}',
  link text,
  dedupe_key text,
  -- A reader's cursor is a snapshot: it finds what was committed since, whatever its time. A cursor by time loses late commits.
  xid xid8 not null default pg_current_xact_id(),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (private.notifications_is_row(org_id, audience, user_id, type, permission, body, data, link, dedupe_key)),
  -- What is about a deleted project goes with it: nobody could say any more who may see it.
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade
);
create unique index notifications_dedupe_key on public.notifications (org_id, dedupe_key) where dedupe_key is not null;
create index notifications_user_idx on public.notifications (user_id, created_at desc, id desc) where user_id is not null;
create index notifications_user_xid_idx on public.notifications (user_id, xid) where user_id is not null;
create index notifications_org_idx on public.notifications (org_id, created_at desc, id desc) where audience = 'organization';
create index notifications_org_xid_idx on public.notifications (org_id, xid) where audience = 'organization';
create index notifications_everyone_idx on public.notifications (created_at desc, id desc) where audience = 'everyone';
create index notifications_project_id_idx on public.notifications (org_id, project_id) where project_id is not null;
create index notifications_created_at_idx on public.notifications (created_at);

comment on table public.notifications is 'Notifications. list_notifications() returns the caller''s, with what the caller has seen, read and archived. Written by notify() and by the product; deleted after 90 days, and beyond the newest 1,000 of a user and of an organization.';
comment on column public.notifications.id is 'Identity of the notification.';
comment on column public.notifications.org_id is 'Organization that it comes from; the platform''s for what is about the person alone, and for everyone.';
comment on column public.notifications.audience is 'user (user_id alone), organization (members of org_id) or everyone.';
comment on column public.notifications.user_id is 'Reader; null unless the audience is user.';
comment on column public.notifications.type is 'Type, by which preferences choose.';
comment on column public.notifications.permission is 'Permission that a member needs to see it. Copied from the type when it was sent.';
comment on column public.notifications.project_id is 'Project that it is about: it is hidden with a private one.';
comment on column public.notifications.title is 'Title: plain text, never markup.';
comment on column public.notifications.body is 'Body: plain text, never markup.';
comment on column public.notifications.data is 'What it is about, for the frontend: ids and values.';
comment on column public.notifications.link is 'Path of the frontend, or an https address.';
comment on column public.notifications.dedupe_key is 'A second notification of the organization with this key is not sent.';
comment on column public.notifications.xid is 'Transaction that sent it, for the cursor of list_notifications().';
comment on column public.notifications.created_by is 'User who sent it; null for the product, and after that user is deleted.';
comment on column public.notifications.created_by_key is 'API key that sent it.';
comment on column public.notifications.created_at is 'When it was sent.';
comment on column public.notifications.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.notifications', resource => 'notifications', writable => '{}', catalogue => '{
  "audience, type, permission, project_id": "says who sees the notification",
  "user_id": {"subject": "person", "purpose": "whom it is for", "export": "person", "erasure": "person"},
  "title, body, data, link": "what it says",
  "dedupe_key": "recognizes a repeated call",
  "xid": "order of delivery"
}');

-- One look-up for each statement, not one for each row.
create function private.notifications_granted() returns setof text
language plpgsql stable parallel safe security definer rows 50 set search_path = pg_catalog, pg_temp
as $$
begin
  if kijko.api_key_id() is not null then
    return query
    select k.org_id::text || ' ' || h.permission
    from kijko.actor() as k cross join lateral unnest(private.api_keys_held(k.org_id)) as h (permission);
    return;
  end if;
  return query
  select m.org_id::text || ' ' || rp.permission
  from public.memberships as m
  join private.role_permissions as rp on rp.holder = coalesce(m.custom_role_id::text, m.role)
  where m.user_id = (select kijko.user_id());
end
$$;
comment on function private.notifications_granted() is 'What the caller may do in which organization, as "org permission". Definer: the policy of notifications uses it, and role_permissions is private.';
grant execute on function private.notifications_granted() to authenticated, service_role;

alter policy notifications_select on public.notifications using (
  (org_id = any (array(select private.org_ids_with('notifications:read'))) or org_id = kijko.platform_org_id())
  and (project_id = any (array(select private.projects_hidden_ids()))) is not true
  and case audience
    when 'user' then user_id = (select private.tenancy_person_id())
    when 'organization' then permission is null or org_id::text || ' ' || permission = any (array(select private.notifications_granted()))
    else (select private.tenancy_person_id()) is not null
  end
);
