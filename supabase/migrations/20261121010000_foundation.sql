-- ============================================================================
-- Foundation: schema private and what every domain uses.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Schema private holds helpers, the functions of workers, and tables that clients never read. PostgREST does not serve it.
-- Roles need USAGE because before_request, an invoker function, calls into it by name. Each function has its own grants.
-- ----------------------------------------------------------------------------

create schema if not exists private;
comment on schema private is 'Helpers and worker functions of the domain; never exposed by PostgREST.';

revoke all on schema private from public;
grant usage on schema private to anon, authenticated, service_role, kijko_sidecar, kijko_gateway, kijko_indexer;

-- ----------------------------------------------------------------------------
-- Rights: new functions, tables and sequences of postgres start with none, and each migration grants what it means.
-- Without this, PostgreSQL gives EXECUTE to PUBLIC on every new function, and Supabase gives all rights on every new
-- object in public to anon, authenticated and service_role. Objects that exist already keep their rights.
-- ----------------------------------------------------------------------------

alter default privileges revoke execute on functions from public;
alter default privileges in schema public revoke all on functions from anon, authenticated, service_role;
alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;
alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Shared trigger functions
-- ----------------------------------------------------------------------------

create function private.touch_updated_at() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.updated_at := kijko.now();
  return new;
end
$$;
comment on function private.touch_updated_at() is 'Trigger: sets updated_at to product time. Values in the statement are ignored.';

create function private.refuse_identity_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  perform kijko.fail('permission_denied', format('%s: the identity, owner and author of a row cannot be changed', tg_table_name));
  return null;
end
$$;
comment on function private.refuse_identity_change() is 'Trigger: refuses to move a row to another organization or author, also for service_role. The trigger''s WHEN allows created_by to become null when a user is deleted.';

create function private.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.fail('permission_denied', tg_argv[0]);
  return null;
end
$$;
comment on function private.refuse_change() is 'Trigger: refuses the statement for every role. The argument is the message.';

-- ----------------------------------------------------------------------------
-- Text that clients send
-- ----------------------------------------------------------------------------

-- '\S' would accept a text of no-break or zero-width spaces. The list has Unicode's white space, control and format
-- characters, and letters that are drawn as nothing (Hangul fillers, the blank of Braille).
create function private.has_visible_text(value text) returns boolean
language sql immutable parallel safe
return value ~ '[^\u0001-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]';
comment on function private.has_visible_text(text) is 'Whether a text has a character that a reader can see.';
-- A check is evaluated as the role that writes the row.
grant execute on function private.has_visible_text(text) to authenticated, service_role;

-- Control characters, and Unicode's format characters: those that reorder a line (U+202E and its kind) make a name read as another
-- one, and the invisible ones make two names look the same. So do letters that are drawn as a blank or as nothing (U+115F, U+1160,
-- U+17B4, U+17B5, U+2800, U+3164, U+FFA0, and the joiner of graphemes U+034F), and a text that is not in normal form C: an Å of two
-- characters is drawn as that of one. The joiners U+200C and U+200D stay: scripts and pictures need them.
-- Pictures made of tag characters (flags of regions) are refused with these.
create function private.is_name(value text) returns boolean
language sql immutable parallel safe
return value !~ '[\u0001-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]'
  and value is nfc normalized
  and private.has_visible_text(value);
comment on function private.is_name(text) is 'Whether a text can be the name of something: one line in Unicode''s normal form C, without control and format characters and letters drawn as blanks, that has a visible character. The check of every name that clients give; the table bounds its length.';
grant execute on function private.is_name(text) to authenticated, service_role;

create function private.require_name(value text, argument text default 'name') returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if (char_length(value) <= 100 and private.is_name(value)) is not true then
    perform kijko.fail('invalid_input', format('%s: at most 100 characters on one line, in normal form C (NFC), not blank, without control, format and blank characters', argument));
  end if;
end
$$;
comment on function private.require_name(text, text) is 'Fails with invalid_input unless the value is a name of at most 100 characters. For functions that take a name: the check of a table would answer with 23514.';

create function private.as_uuid(value text) returns uuid
language sql immutable parallel safe
return case when value ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then value::uuid end;
comment on function private.as_uuid(text) is 'The uuid that a text spells, or null. Never an error on what a client sent.';

create function private.slugify(name text) returns text
language sql immutable parallel safe set search_path = ''
return coalesce(
  nullif(pg_catalog.btrim(pg_catalog."left"(pg_catalog.btrim(pg_catalog.regexp_replace(pg_catalog.lower(name), '[^a-z0-9]+', '-', 'g'), '-'), 48), '-'), ''),
  'untitled'
);
comment on function private.slugify(text) is 'Part of a URL from a name: lower case letters, digits and single hyphens, at most 48 characters.';
-- The trigger that fills a slug runs as the role that inserts an organization.
grant execute on function private.slugify(text) to service_role;

create function private.json_fits(given jsonb, max_bytes integer) returns boolean
language sql immutable parallel safe
return kijko.json_fits(given, max_bytes);
comment on function private.json_fits(jsonb, integer) is 'Whether the text of a value has at most so many bytes, and no number has more than 400 digits before or behind its point. Null for null, which a check accepts. Nullable: result.';
-- A check is evaluated as the role that writes the row.
grant execute on function private.json_fits(jsonb, integer) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Rates
-- ----------------------------------------------------------------------------

create function private.refuse_rate(retry_after integer, details text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  seconds constant integer := greatest(retry_after, 1);
begin
  perform kijko.add_header('Retry-After', seconds::text);
  perform kijko.fail('rate_limited', details, format('Try again in %s seconds.', seconds));
end
$$;
comment on function private.refuse_rate(integer, text) is 'Fails with rate_limited, and says in Retry-After when to try again.';

create function private.limit_rate(key text, rate integer, per interval, details text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  verdict constant kijko.verdict := kijko.rate_limit(key, rate, per, rate);
begin
  if verdict.allowed is not true then
    perform private.refuse_rate(verdict.retry_after, format(details, rate));
  end if;
end
$$;
comment on function private.limit_rate(text, integer, interval, text) is 'Counts an action against a rate of its own, or fails with rate_limited and Retry-After above it. key: the action''s name and whom it limits. details: what the caller reads, with %s for the rate. A rollback does not take the count back.';

-- ----------------------------------------------------------------------------
-- Schedules
-- ----------------------------------------------------------------------------

create function private.end_schedule(fault text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if fault is not null then
    perform kijko.fail('internal', fault);
  end if;
end
$$;
comment on function private.end_schedule(text) is 'Fails with what has failed in the commands of a schedule, if anything has. Called by what private.schedule() makes.';

-- pg_cron runs a few entries at a time (cron.max_running_jobs). Entries that wait for a lock hold these places, and nothing else runs:
-- no habit, no maintenance of the queue, of whatever domain. So each gives up after a while, and the next call does its work.
create function private.schedule(job_name text, schedule text, variadic commands text[]) returns bigint
language sql set search_path = pg_catalog, pg_temp
as $$
  select cron.schedule(
    schedule.job_name, schedule.schedule,
    case when cardinality(schedule.commands) = 1 then format('do $cron$ begin set lock_timeout = ''5s''; %s; end $cron$', schedule.commands[1])
    -- One that fails neither undoes the others nor stops them, and the run counts as failed in the end.
    else format(
      'do $cron$ declare fault text; begin set lock_timeout = ''5s''; %s perform private.end_schedule(fault); end $cron$',
      (select string_agg(format('begin %s; exception when others then fault := concat_ws(''; '', fault, sqlerrm); end; commit;', c.command), ' ' order by c.n)
       from unnest(schedule.commands) with ordinality as c (command, n))
    ) end
  )
$$;
comment on function private.schedule(text, text, text[]) is 'Has pg_cron run commands of PL/pgSQL, in the place of the entry of the same name. Each waits for a lock at most 5 s, then it fails. Several run one after the other, each in a transaction of its own. One alone may be the call of a procedure that commits.';

-- A row of an organization may be locked for minutes, by hand for example. Who does something for many organizations in a loop waits for
-- a lock only briefly, and for each organization once: 200 rows of one that each wait for a moment would hold up all others.
create function private.passed_over() returns uuid[]
language sql stable set search_path = pg_catalog, pg_temp
return coalesce(string_to_array(nullif(current_setting('private.passed_over', true), ''), ',')::uuid[], '{}');
comment on function private.passed_over() is 'The organizations for which a loop of this transaction has waited for a lock in vain.';

create function private.pass_over(org uuid, code text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if pass_over.code in ('55P03', '40P01') then
    perform set_config('private.passed_over', array_to_string(private.passed_over() || pass_over.org, ','), true);
  end if;
end
$$;
comment on function private.pass_over(uuid, text) is 'Has the loops of this transaction leave out the rest of an organization, if what failed with this SQLSTATE has waited for a lock.';

create function private.lock_tables(tables regclass[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
-- Who waits for this lock keeps the writers of all organizations waiting behind it. Shorter than deadlock_timeout: what is locked is
-- released before Postgres looks for a deadlock, and ends somebody's write.
set lock_timeout = '500ms'
as $$
declare
  name regclass;
begin
  for attempt in 1 .. 120 loop
    begin
      foreach name in array tables loop
        if name is not null then
          execute format('lock table %s in share row exclusive mode', name);
        end if;
      end loop;
      return;
    exception when lock_not_available then
      if attempt = 120 then
        raise;
      end if;
    end;
    perform pg_sleep(0.1 * random());
  end loop;
end
$$;
comment on function private.lock_tables(regclass[]) is 'Locks tables against writes until the transaction ends: what was under way is committed then, and what comes later sees what this transaction has done. A transaction that writes several of them in another order goes first: all are released after half a second, and tried again. Null stands for a table that does not exist.';
