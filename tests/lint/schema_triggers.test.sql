-- Schema lint: a trigger "update of" a column fires for statements that name the column, not for what another trigger writes into it.
begin;
\ir schema_catalog.sql

-- A trigger, a column that it waits for, and a trigger before it that writes the column although the statement need not name one of those
-- that the first one waits for.
create view pg_temp.unnoticed as
  select a.tgname::text as waits, c.attname::text as column_name, b.tgname::text as writes
  from pg_trigger as a
  join pg_attribute as c on c.attrelid = a.tgrelid and c.attnum = any (a.tgattr::smallint[])
  join pg_trigger as b on b.tgrelid = a.tgrelid and b.oid <> a.oid and b.tgtype & 2 = 2 and b.tgtype & 16 = 16 and not b.tgisinternal
  join pg_proc as f on f.oid = b.tgfoid
  where a.tgtype & 16 = 16 and not a.tgisinternal and (a.tgtype & 2 = 0 or a.tgname > b.tgname)
    and f.prosrc ~ format('\mnew(\.%s)?\s*:=|\minto\s+(\w+(\.\w+)?\s*,\s*)*new\.%1$s\M', c.attname)
    and not (cardinality(b.tgattr::smallint[]) > 0 and b.tgattr::smallint[] <@ a.tgattr::smallint[]);

-- Judged one by one: what is written cannot be what the first one waits for.
create view pg_temp.judged as
  select * from (values
    -- Written on insert only; a stored list of permissions is in its normal form already.
    ('api_keys_access', 'permissions', 'api_keys_prepare'), ('api_keys_access', 'revoked_at', 'api_keys_prepare'),
    ('api_keys_access', 'user_id', 'api_keys_prepare'), ('api_keys_refuse_change', 'permissions', 'api_keys_prepare'),
    ('api_keys_refuse_change', 'prefix', 'api_keys_prepare'), ('api_keys_refuse_change', 'revoked_at', 'api_keys_prepare'),
    ('api_keys_refuse_change', 'user_id', 'api_keys_prepare'),
    -- A number in its normal form stays as it is, whatever the country.
    ('billing_details_vat_number_update', 'vat_number', 'billing_details_check'),
    -- A custom role brings its built-in role; only a statement that names the built-in one leaves the custom role.
    ('memberships_assign_2', 'role', 'memberships_assign_1'),
    -- It only takes is_break_glass away, and the other waits for it to be given.
    ('memberships_sso_named', 'is_break_glass', 'memberships_sso'),
    -- An edited post is a draft, and the others wait for how publishing ends.
    ('social_posts_attention', 'status', 'social_posts_edited'), ('social_posts_webhooks', 'status', 'social_posts_edited')
  ) as j (waits, column_name, writes);

select plan(3);
select is_empty('select * from pg_temp.unnoticed except select * from pg_temp.judged', 'each trigger notices what others write, or cannot be meant');
select is_empty('select * from pg_temp.judged except select * from pg_temp.unnoticed', 'no exception is left over');

create table public.offender (plan text, override text);
create function public.offender_plan() returns trigger language plpgsql as $$ begin new.plan := new.override; return new; end $$;
create trigger offender_override before update of override on public.offender for each row execute function public.offender_plan();
create trigger offender_changed after update of plan on public.offender for each row execute function private.touch_updated_at();
create trigger offender_both after update of plan, override on public.offender for each row execute function private.touch_updated_at();
select is((select string_agg(u.waits, ', ') from pg_temp.unnoticed as u where u.writes = 'offender_override'), 'offender_changed', 'the rule finds an offender');

select * from finish();
rollback;
