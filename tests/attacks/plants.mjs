// Leaks of every kind, as a careless change would make them: SQL as the owner of the domain, and what the attacks must find.
// `subject`: the table or function that the leak is at, which alone is attacked: the attacks on one subject do not depend on others.

const definer = (signature, returns, body, { grantee = 'authenticated', kind = 'volatile' } = {}) => ({
  shown: true,
  up: `create function public.${signature} returns ${returns} language plpgsql ${kind} security definer set search_path = pg_catalog, pg_temp
      as $$ #variable_conflict use_column
      ${body} $$;
    grant execute on function public.${signature.replaceAll(/ default [^,)]+/g, '')} to ${grantee};`,
  down: `drop function public.${signature.replaceAll(/ default [^,)]+/g, '')}`,
});

/** A policy of a table for each `rest`. */
const policies = (table, ...rest) => ({
  up: rest.map((each, at) => `create policy planted_${at} on ${table} ${each}`).join('; '),
  down: rest.map((_, at) => `drop policy planted_${at} on ${table}`).join('; '),
});

/**
 * By name: { up, down, shown, subject, part, finds: { kind, attacker }, by }. `shown`: it adds something to the API. `by`: who attacks,
 * if a finding names the stage instead.
 */
export const PLANTS = {
  // The first: later ones leave copies of the victim's rows.
  'a unique key across tenants': {
    up: `create unique index planted_key on public.projects (name) where name like '%kanary%'`,
    down: 'drop index public.planted_key',
    subject: 'projects',
    part: 'writes',
    finds: { kind: 'oracle', attacker: 'stranger' },
  },
  'a policy that lets everybody read': {
    ...policies('public.skills', 'for select to authenticated using (true)'),
    subject: 'skills',
    part: 'reads',
    finds: { kind: 'leak', attacker: 'stranger' },
  },
  'a policy that lets everybody insert': {
    ...policies('public.projects', 'for insert to authenticated with check (true)'),
    subject: 'projects',
    part: 'writes',
    finds: { kind: 'changed', attacker: 'strangers' },
    by: 'stranger',
  },
  'a policy that lets everybody delete': {
    ...policies('public.repositories', 'for delete to authenticated using (true)'),
    subject: 'repositories',
    part: 'writes',
    finds: { kind: 'changed', attacker: 'strangers' },
    by: 'caller',
  },
  'policies that let everybody read and change': {
    ...policies(
      'public.projects',
      'for select to authenticated using (true)',
      'for update to authenticated using (true) with check (true)',
    ),
    subject: 'projects',
    part: 'writes',
    finds: { kind: 'changed', attacker: 'strangers' },
    by: 'stranger',
  },
  'a policy that forgets private projects': {
    ...policies('public.skills', `for select to authenticated using (org_id = any (array(select private.org_ids_with('skills:read'))))`),
    subject: 'skills',
    part: 'colleagues',
    finds: { kind: 'leak', attacker: 'colleague: member' },
  },
  'a policy that asks for membership and no permission': {
    ...policies('public.habits', 'for select to authenticated using (org_id = any (array(select public.org_ids())))'),
    subject: 'habits',
    part: 'colleagues',
    finds: { kind: 'leak', attacker: 'colleague: custom' },
  },
  'a view with the rights of its owner': {
    shown: true,
    up: 'create view public.planted_projects as select * from public.projects; grant select on public.planted_projects to authenticated',
    down: 'drop view public.planted_projects',
    subject: 'planted_projects',
    part: 'reads',
    finds: { kind: 'leak', attacker: 'stranger' },
  },
  'a view for those who have not signed in': {
    shown: true,
    up: 'create view public.planted_names as select name from public.organizations; grant select on public.planted_names to anon',
    down: 'drop view public.planted_names',
    subject: 'planted_names',
    part: 'reads',
    finds: { kind: 'leak', attacker: 'no token' },
  },
  'a grant on one more column': {
    shown: true,
    // A list of public names, whose notes nobody was granted.
    up: `create table public.planted_list (id uuid primary key default gen_random_uuid(), title text, notes text);
      alter table public.planted_list enable row level security;
      create policy planted on public.planted_list for select to authenticated using (true);
      grant select (id, title) on public.planted_list to authenticated;
      insert into public.planted_list (title, notes) select 'One', name from public.projects where name like '%kanary%';
      grant select (notes) on public.planted_list to authenticated`,
    down: 'drop table public.planted_list',
    subject: 'planted_list',
    part: 'reads',
    finds: { kind: 'leak', attacker: 'stranger' },
  },
  'a function that returns any row': {
    ...definer(
      'planted_project(project_id uuid)',
      'public.projects',
      'begin return (select p from public.projects as p where p.id = $1); end',
    ),
    subject: 'rpc/planted_project',
    part: 'calls',
    finds: { kind: 'leak', attacker: 'caller' },
  },
  'a function that takes ids inside JSON': {
    ...definer(
      'planted_lookup(request jsonb)',
      'text',
      `begin return (select p.name from public.projects as p where p.id::text = request -> 'data' ->> 'project_id'); end`,
    ),
    subject: 'rpc/planted_lookup',
    part: 'calls',
    finds: { kind: 'leak', attacker: 'caller' },
  },
  'a function that takes a list': {
    ...definer(
      'planted_names_of(ids uuid[])',
      'setof text',
      'begin return query select s.name from public.skills as s where s.id = any (ids); end',
    ),
    subject: 'rpc/planted_names_of',
    part: 'calls',
    finds: { kind: 'leak', attacker: 'service key' },
  },
  'a function that finds a user by address': {
    ...definer('planted_user(email text)', 'uuid', 'begin return (select u.id from auth.users as u where u.email = $1); end'),
    subject: 'rpc/planted_user',
    part: 'calls',
    finds: { kind: 'leak', attacker: 'caller' },
  },
  'a function that says whether a row exists': {
    ...definer('planted_exists(skill_id uuid)', 'boolean', 'begin return exists (select from public.skills as s where s.id = $1); end', {
      grantee: 'anon',
      kind: 'stable',
    }),
    subject: 'rpc/planted_exists',
    part: 'calls',
    finds: { kind: 'oracle', attacker: 'anon' },
  },
  'an error that quotes a row': {
    ...definer(
      'planted_check(reflex_id uuid)',
      'void',
      `begin perform kijko.fail('conflict', (select r::text from public.reflexes as r where r.id = $1), null); end`,
    ),
    subject: 'rpc/planted_check',
    part: 'calls',
    finds: { kind: 'leak', attacker: 'caller' },
  },
  'a header that names a row': {
    ...definer(
      'planted_header(habit_id uuid)',
      'integer',
      `begin perform kijko.add_header('X-Habit', (select h.name from public.habits as h where h.id = $1)); return 1; end`,
    ),
    subject: 'rpc/planted_header',
    part: 'calls',
    finds: { kind: 'leak', attacker: 'caller' },
  },
  'a function that changes any row': {
    ...definer(
      `planted_rename(project_id uuid, name text default 'Ours')`,
      'void',
      'begin update public.projects as p set name = $2 where p.id = $1; end',
    ),
    subject: 'rpc/planted_rename',
    part: 'calls',
    finds: { kind: 'changed', attacker: 'strangers' },
    by: 'caller',
  },
  'a function that fails with an error of Postgres': {
    ...definer('planted_fault(execution_id uuid)', 'integer', `begin raise exception 'lost' using errcode = 'XX000'; end`),
    subject: 'rpc/planted_fault',
    part: 'calls',
    finds: { kind: 'failure', attacker: 'caller' },
  },
  'a relationship that is computed with the rights of its owner': {
    shown: true,
    up: `create function public.planted_skills(plan public.plans) returns setof public.skills language sql stable security definer
        set search_path = pg_catalog, pg_temp begin atomic select * from public.skills; end;
      grant execute on function public.planted_skills(public.plans) to authenticated`,
    down: 'drop function public.planted_skills(public.plans)',
    subject: 'plans+planted_skills',
    part: 'embeds',
    finds: { kind: 'leak', attacker: 'stranger' },
  },
  'a policy of storage that lets everybody read': {
    ...policies('storage.objects', 'for select to authenticated using (true)'),
    part: 'routes',
    finds: { kind: 'leak', attacker: 'caller' },
  },
  'a policy of storage that lets everybody delete': {
    ...policies('storage.objects', 'for select to authenticated using (true)', 'for delete to authenticated using (true)'),
    part: 'routes',
    finds: { kind: 'changed', attacker: 'routes' },
    by: 'caller',
  },
  'a policy of realtime that lets everybody join': {
    ...policies('realtime.messages', 'for select to authenticated using (true)'),
    part: 'topics',
    finds: { kind: 'joined', attacker: 'stranger' },
  },
  'a policy of realtime that lets everybody send': {
    ...policies('realtime.messages', 'for select to authenticated using (true)', 'for insert to authenticated with check (true)'),
    part: 'topics',
    finds: { kind: 'changed', attacker: 'realtime' },
    by: 'stranger',
  },
};
