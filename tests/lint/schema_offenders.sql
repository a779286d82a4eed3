-- Objects that break every rule of the schema lints.
create table public.offender (id int, org_id uuid, other uuid, words text, created_at timestamptz, updated_at timestamptz);
create table public.child (org_id uuid, job_id uuid references public.jobs (id), project_id uuid);
create table public.grandchild (org_id uuid, execution_id uuid);
create policy one on public.grandchild for select to authenticated using (org_id = any (array(select private.org_ids_with('content:read'))));
create policy two on public.grandchild for update to authenticated
  using (org_id = any (array(select private.org_ids_with('content:write')))) with check (org_id = any (array(select private.org_ids_with('content:read'))));
grant all on public.offender to anon, authenticated;
revoke all on public.child from authenticated;
grant insert (job_id) on public.child to authenticated;
create sequence public.offending_sequence;
grant usage on sequence public.offending_sequence to anon;
alter default privileges for role postgres in schema public grant usage on sequences to service_role;
create policy one on public.child for select using (org_id in (select public.org_ids()));
create policy two on public.child for select to authenticated using (public.can(org_id, 'x:y'));
create policy three on public.child to authenticated using (job_id = (select kijko.user_id()));
create trigger offender_gauge after insert on public.offender
  referencing new table as changed for each statement execute function private.sync_gauge('offenders');
create table public.offending_partitions (id int) partition by list (id);
create table private.offending_partition partition of public.offending_partitions default;
grant select on private.offending_partition to authenticated;
create table private.offender (id int, word text check (word ~ '^[a-z]{1,40}$'), data jsonb check (octet_length(data::text) <= 10));
create unique index offending_key on public.offender (other);
create index offending_function on private.offender (kijko.http_origin(word));
insert into private.data_catalogue values ('public.offender', 'missing', 'platform', 'none', 'none', 'none'), ('public.offender', 'words', 'secret', 'none', 'none', 'none');
insert into private.data_catalogue values ('public.offender', 'other', 'organization', 'none', 'none', 'retention');
insert into private.data_retention (table_name, keeps, reason) values ('private.offender', '1 day', 'none');
create table private.person_offender (user_id uuid, member_id uuid, former_emails text[]);
insert into private.data_catalogue values ('private.person_offender', 'user_id', 'person', 'none', 'none', 'none');
insert into private.data_subjects (table_name, column_name, is_about, erasure, reason)
values ('private.offender', 'missing', true, 'delete', 'none'), ('private.person_offender', 'user_id', true, 'delete', 'none');
create table private.sealed_offender (sealed kijko.sealed);
insert into private.sealed_columns values ('private.offender', 'word', 'word');
grant select on private.offender to authenticated;
create view public.offending_view as select 1;
create function public.offender() returns void security definer language plpgsql as $$
begin
  perform 1 from public.org_ids();
  perform kijko.fail('no_such_code');
  perform lower(u.email) from auth.users as u;
  if octet_length('{}'::jsonb::text) > 10 then return; end if;
  raise exception 'by hand';
end
$$;
create function public.stable_offender() returns text language plpgsql stable as $$ begin return kijko.seal('x', pg_catalog.random()::text); end $$;
create function public.immutable_offender(at timestamptz) returns text language sql immutable as $$ select format('%s', at) where at < kijko.now() $$;
create function public.early_offender() returns regclass language sql as $$ select 'realtime.messages'::regclass $$;
