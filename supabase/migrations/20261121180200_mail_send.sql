-- ============================================================================
-- Mail: limits, text, and mail_send().
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Limits
-- ----------------------------------------------------------------------------

create function private.mail_is_address(value text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    char_length(value) <= 320 and value ~ '^[^[:space:][:cntrl:]@<>(),;:\\"]+@[^[:space:][:cntrl:]@<>(),;:\\"]+$' and value !~ '^[-.]|\.@|@[-.]|[-.]$|\.\.',
    false
  )
$$;
comment on function private.mail_is_address(text) is 'Whether a text can be the address of a mailbox: one local part and one domain, without characters that end or separate addresses. False for null.';

create function private.mail_mailbox(address text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when p.domain in ('gmail.com', 'googlemail.com') then replace(p.name, '.', '') else p.name end || '@' || p.domain
  from (
    select split_part(split_part(lower(address collate "C"), '@', 1), '+', 1) as name, split_part(lower(address collate "C"), '@', 2) as domain
  ) as p
$$;
comment on function private.mail_mailbox(text) is 'The mailbox behind an address, for limits: without case and without +detail, and without dots where Gmail ignores them.';

create function private.mail_is_free(org uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select coalesce((select s.plan = 'FREE' from public.subscriptions as s where s.org_id = org), true) $$;
comment on function private.mail_is_free(uuid) is 'Whether the organization pays nothing, and so shares the mails of those that do not.';

create function private.mail_network() returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when family(n.network) = 6 and masklen(n.network) > 48 then set_masklen(n.network::cidr, 48) else n.network end::text
  from (select kijko.client_network()::inet) as n (network)
$$;
comment on function private.mail_network() is 'The network of the request, for limits of mails: an IPv4 address or an IPv6 /48, which one site gets. Null outside a request. Nullable: result.';

-- A key begins with mail:<family>. Login and organizations have each their own share of a mailbox.
create function private.mail_limits(recipient text, org uuid) returns table (key text, rate integer, period interval)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select l.key, l.rate, l.period
  from private.mail_settings as s
  cross join lateral (select private.mail_mailbox(mail_limits.recipient)) as m (mailbox)
  cross join lateral (
    select 'mail:mailbox:login:' || v.key, v.rate, v.period
    from (values ('hour:' || m.mailbox, s.mailbox_per_hour, interval '1 hour'), ('day:' || m.mailbox, s.mailbox_per_day, interval '1 day')) as v (key, rate, period)
    where mail_limits.org is null
    union all
    select v.key, v.rate, v.period
    from (
      values
        ('mail:mailbox:organizations:hour:' || m.mailbox, s.organizations_mailbox_per_hour, interval '1 hour'),
        ('mail:mailbox:organizations:day:' || m.mailbox, s.organizations_mailbox_per_day, interval '1 day'),
        ('mail:organization:' || mail_limits.org, s.organization_per_hour, interval '1 hour'),
        ('mail:network:' || private.mail_network(), s.network_per_hour, interval '1 hour'),
        ('mail:organizations:free', case when private.mail_is_free(mail_limits.org) then s.free_organizations_per_hour end, interval '1 hour'),
        ('mail:organizations:all', s.organizations_per_hour, interval '1 hour')
    ) as v (key, rate, period)
    where mail_limits.org is not null
    union all
    select 'mail:all', s.total_per_hour, interval '1 hour'
  ) as l (key, rate, period)
  where l.key is not null and l.rate is not null
$$;
comment on function private.mail_limits(text, uuid) is 'Limits that a mail to this address counts against. org: the organization that sends it, null for the platform.';

-- kijko.rate_limits() consumes from all limits or from none. The probe is listed twice with room for one, so the call is always
-- refused and consumes nothing. Its verdict is the limit with the longest wait; if that is the probe, no real limit refuses.
create function private.mail_limited(recipient text, org uuid default null) returns integer
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select case when v.meter <> 'mail:probe' then greatest(v.retry_after, 1) end
  from (
    select array_agg(l.key) as keys, array_agg(l.rate) as rates, array_agg(l.period) as periods
    from private.mail_limits(mail_limited.recipient, nullif(mail_limited.org, kijko.platform_org_id())) as l
  ) as l
  cross join lateral kijko.rate_limits(
    array['mail:probe', 'mail:probe'] || l.keys, array[1, 1] || l.rates,
    array[interval '1 millisecond', interval '1 millisecond'] || l.periods
  ) as v
$$;
comment on function private.mail_limited(text, uuid) is 'Seconds until mail_send() would accept a mail to this address; null if it would accept one now. Counts nothing. Definer: login calls it. Nullable: result.';

create function private.mail_refuse(retry_after integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.refuse_rate(retry_after, 'mails: too many to this address, or in all');
end
$$;
comment on function private.mail_refuse(integer) is 'Refuses a mail with rate_limited and Retry-After.';

create function private.mail_count(recipient text, org uuid, families text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  verdict kijko.verdict;
begin
  select v.* into verdict
  from (
    select array_agg(l.key) as keys, array_agg(l.rate) as rates, array_agg(l.period) as periods
    from private.mail_limits(mail_count.recipient, mail_count.org) as l
    where split_part(l.key, ':', 2) = any (mail_count.families)
  ) as l
  cross join lateral kijko.rate_limits(l.keys, l.rates, l.periods) as v;
  if verdict.allowed is not true then
    perform private.mail_refuse(verdict.retry_after);
  end if;
end
$$;
comment on function private.mail_count(text, uuid, text[]) is 'Counts one mail against the limits of these families, or refuses it with rate_limited.';

create function private.mail_charge(recipient text, families text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  wait constant integer := private.mail_limited(recipient);
begin
  if wait is not null then
    perform private.mail_refuse(wait);
  end if;
  perform private.mail_count(recipient, null, families);
end
$$;
comment on function private.mail_charge(text, text[]) is 'Counts a mail of login against the limits of these families, and refuses it beyond any limit.';

-- ----------------------------------------------------------------------------
-- Text
-- ----------------------------------------------------------------------------

-- In plpgsql, which keeps its plan: as an SQL function it would be planned in each call.
-- A loop, because starting a query for each text takes several times as long.
create function private.mail_fill(template text, data jsonb, html boolean) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  filled text := '';
  rest text := coalesce(template, '');
  brace integer;
  name text;
  value text;
begin
  loop
    brace := strpos(rest, '{');
    exit when brace = 0;
    filled := filled || left(rest, brace - 1);
    rest := substr(rest, brace);
    name := substring(rest from '^\{([a-z_]+)\}');
    if name is null then
      filled := filled || '{';
      rest := substr(rest, 2);
      continue;
    end if;
    -- One line, and no characters that turn or hide text.
    value := regexp_replace(
      coalesce(data ->> name, ''), '[\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+', ' ', 'g'
    );
    filled := filled || case
      when not html then value
      else replace(replace(replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;')
    end;
    rest := substr(rest, length(name) + 3);
  end loop;
  return filled || rest;
end
$$;
comment on function private.mail_fill(text, jsonb, boolean) is 'A template with its variables filled in, in one pass: a value is never read as a template. Values become one line, and are escaped for HTML.';

create function private.mail_fill_list(template text, data jsonb, html boolean) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select concat(
    private.mail_fill(p.before, data, html),
    (
      select string_agg(private.mail_fill(p.item, i.value, html), '' order by i.n)
      from jsonb_array_elements(case jsonb_typeof(data -> 'items') when 'array' then data -> 'items' else '[]' end) with ordinality as i (value, n)
    ),
    private.mail_fill(p.after, data, html)
  )
  from (
    select split_part(template, '{each_item}', 1) as before, split_part(split_part(template, '{each_item}', 2), '{end_item}', 1) as item,
      split_part(split_part(template, '{each_item}', 2), '{end_item}', 2) as after
  ) as p
$$;
comment on function private.mail_fill_list(text, jsonb, boolean) is 'As mail_fill(), for a template that may have one list: what is between {each_item} and {end_item} repeats for each object of the variable items. A value is never read as a template.';

create function private.mail_html_page(content text, locale text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case when content ~* '^\s*<!doctype' then content else concat(
    '<!doctype html>', e'\n', '<html lang="', locale, '"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"></head>', e'\n',
    '<body style="margin:0;padding:24px;background:#f4f4f5;color:#18181b;font:16px/1.5 system-ui,-apple-system,sans-serif">', e'\n',
    '<div style="max-width:480px;margin:0 auto;padding:24px;background:#fff;border-radius:8px">', e'\n', content, e'\n</div></body></html>\n'
  ) end
$$;
comment on function private.mail_html_page(text, text) is 'The HTML document around the content of a template; a template that is a whole document stays as it is.';

create function private.mail_data(message private.mail_messages) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$ select kijko.unseal(message.sealed_data, private.mail_context(message))::jsonb where message.sealed_data is not null $$;
comment on function private.mail_data(private.mail_messages) is 'Variables of a mail, links and codes among them. Null once they are gone. Fails with cannot_unseal without their key.';

create function private.mail_render(id uuid) returns table (recipient text, subject text, text text, html text, link text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select m.recipient, left(private.mail_fill(t.subject, v.data, false), 200), private.mail_fill_list(t.text, v.data, false),
    private.mail_html_page(private.mail_fill_list(t.html, v.data, true), t.locale), v.data ->> 'link'
  from private.mail_messages as m
  cross join lateral (select jsonb_build_object('email', m.recipient) || private.mail_data(m)) as v (data)
  join private.mail_templates as t on t.name = m.template and t.locale = m.locale
  where m.id = mail_render.id and v.data is not null
$$;
comment on function private.mail_render(uuid) is 'Subject and bodies of a mail, by today''s template; no row once its data is gone. The variable email is the recipient unless the sender gave it.';

-- ----------------------------------------------------------------------------
-- Sending
-- ----------------------------------------------------------------------------

create function private.mail_check_data(template text, data jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  kind private.mail_kinds;
  missing text;
begin
  select k.* into kind from private.mail_kinds as k where k.name = mail_check_data.template;
  if kind.name is null then
    perform kijko.fail('invalid_input', 'template: no such mail');
  end if;
  if jsonb_typeof(data) is distinct from 'object' or not private.json_fits(data, 32768) then
    perform kijko.fail('invalid_input', 'data: an object, at most 32 KiB');
  end if;
  select string_agg(r.name, ', ') into missing
  from unnest(kind.required) as r (name) where coalesce(mail_check_data.data ->> r.name, '') = '';
  if missing is not null then
    perform kijko.fail('invalid_input', format('data: mail %s needs %s', kind.name, missing));
  end if;
  if data ->> 'link' !~ '^https?://[^[:space:][:cntrl:]"<>]+$' then
    perform kijko.fail('invalid_input', 'data: link is not an http or https address');
  end if;
end
$$;
comment on function private.mail_check_data(text, jsonb) is 'Refuses variables that do not fit the mail.';

create function private.mail_queue(message private.mail_messages) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job uuid;
begin
  job := private.jobs_enqueue(
    message.org_id, 'mail', payload => jsonb_build_object('mail_id', message.id),
    -- Somebody waits for a mail of login; an invitation has time.
    priority => case when message.org_id = kijko.platform_org_id() then 10 else 0 end::smallint,
    -- About half an hour with the queue's back-off: greylisting asks for some minutes.
    max_attempts => 12, timeout_seconds => 300
  );
  update private.mail_messages as m set job_id = job where m.id = message.id;
end
$$;
comment on function private.mail_queue(private.mail_messages) is 'Queues the job of a mail. Its payload is the mail''s id alone.';

create function private.mail_require(address text, template text, data jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not private.mail_is_address(address) then
    perform kijko.fail('invalid_input', 'recipient: an address, at most 320 characters');
  end if;
  perform private.mail_check_data(template, data);
end
$$;
comment on function private.mail_require(text, text, jsonb) is 'Refuses a mail that cannot be sent.';

create function private.mail_store(sender uuid, address text, template text, locale text, data jsonb, dedupe_key text default null) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  settings private.mail_settings;
  message private.mail_messages;
  made private.mail_messages;
begin
  select s.* into settings from private.mail_settings as s;
  made.id := gen_random_uuid();
  made.org_id := sender;
  insert into private.mail_messages as m (id, org_id, recipient, template, locale, sealed_data, dedupe_key, status, expires_at, finished_at)
  values (
    made.id, made.org_id, address, mail_store.template,
    coalesce((select t.locale from private.mail_templates as t where t.name = mail_store.template and t.locale = lower(left(mail_store.locale, 2))), settings.default_locale),
    kijko.seal(mail_store.data::text, private.mail_context(made)), mail_store.dedupe_key, case settings.delivery when 'smtp' then 'queued' else 'kept' end,
    clock_timestamp() + settings.max_age, case settings.delivery when 'smtp' then null else clock_timestamp() end
  )
  on conflict (org_id, dedupe_key) where m.dedupe_key is not null do nothing
  returning m.* into message;
  if message.id is null then
    -- Another transaction has committed one with this key since.
    return (select m.id from private.mail_messages as m where m.org_id = sender and m.dedupe_key = mail_store.dedupe_key);
  end if;
  if message.status = 'queued' then
    perform private.mail_queue(message);
  end if;
  return message.id;
end
$$;
comment on function private.mail_store(uuid, text, text, text, jsonb, text) is 'Writes a mail that was checked and counted, and queues its job where mails are delivered.';

create function private.mail_send(
  recipient text, template text, locale text, data jsonb, dedupe_key text default null, org uuid default null
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  sender constant uuid := coalesce(org, kijko.platform_org_id());
  address constant text := btrim(recipient);
  known uuid;
begin
  perform private.mail_require(address, template, data);
  if char_length(dedupe_key) not between 1 and 255 then
    perform kijko.fail('invalid_input', 'dedupe_key: 1 to 255 characters');
  end if;
  if dedupe_key is not null then
    select m.id into known from private.mail_messages as m where m.org_id = sender and m.dedupe_key = mail_send.dedupe_key;
    if known is not null then
      return known;
    end if;
  end if;
  if sender = kijko.platform_org_id() then
    perform private.mail_charge(address, array['mailbox', 'all']);
  else
    perform private.mail_count(address, sender, array['mailbox', 'organization', 'network', 'organizations', 'all']);
  end if;
  return private.mail_store(sender, address, template, locale, data, dedupe_key);
end
$$;
comment on function private.mail_send(text, text, text, jsonb, text, uuid) is 'Sends a mail once the caller''s transaction commits, or keeps it where mails are not delivered. template: a name of private.mail_kinds, which says what data needs. locale: a language tag; one without a template becomes the default. org: the organization that sends it, null for the platform. Returns the mail, or with a dedupe_key that was used the first one. Refuses with rate_limited and Retry-After (private.mail_limited() says so beforehand). Definer: login calls it and has no right on the tables.';

create function private.mail_pretend(recipient text, template text, locale text, data jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  address constant text := btrim(recipient);
begin
  perform private.mail_require(address, template, data);
  -- Not against the limit of all mails: addresses that get none must not use it up.
  perform private.mail_charge(address, array['mailbox']);
  perform private.mail_store(kijko.platform_org_id(), address, template, locale, data);
end
$$;
comment on function private.mail_pretend(text, text, text, jsonb) is 'Does all that mail_send() does, by the same statements, for its caller to undo: requests of login must not take another time for an address without an account. Counts and refuses as mail_send() would. Definer: login calls it.';

-- Login is another role's: it calls these from its own functions.
grant usage on schema private to supabase_auth_admin;
grant execute on function private.mail_send(text, text, text, jsonb, text, uuid) to supabase_auth_admin;
grant execute on function private.mail_limited(text, uuid) to supabase_auth_admin;
grant execute on function private.mail_pretend(text, text, text, jsonb) to supabase_auth_admin;
