-- ============================================================================
-- Blog: members talk about a post before it is published.
-- ============================================================================

create function private.blog_is_member_list(members uuid[]) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return coalesce(cardinality(members) <= 20 and coalesce(array_ndims(members), 1) = 1 and array_position(members, null) is null, false);
comment on function private.blog_is_member_list(uuid[]) is 'Whether a list names at most 20 users.';
grant execute on function private.blog_is_member_list(uuid[]) to authenticated, service_role;

create table public.blog_comments (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  post_id uuid not null,
  parent_id uuid,
  body text not null check (char_length(body) between 1 and 5000 and body ~ '[^[:space:]]'),
  mentions uuid[] not null default '{}' check (private.blog_is_member_list(mentions)),
  resolved boolean not null default false,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, post_id, id),
  foreign key (org_id, post_id) references public.blog_posts (org_id, id) on delete cascade,
  -- An answer belongs to the post of what it answers.
  foreign key (org_id, post_id, parent_id) references public.blog_comments (org_id, post_id, id) on delete cascade,
  check (parent_id <> id)
);
create index blog_comments_post_id_idx on public.blog_comments (org_id, post_id, created_at, id);
create index blog_comments_parent_id_idx on public.blog_comments (org_id, post_id, parent_id);
comment on table public.blog_comments is 'What members say about a post, as threads. Readers of the post never see them.';
comment on column public.blog_comments.id is 'Identity of the comment.';
comment on column public.blog_comments.org_id is 'Organization of the post.';
comment on column public.blog_comments.post_id is 'The post; its comments are deleted with it.';
comment on column public.blog_comments.parent_id is 'Comment that it answers; null for the first of a thread. Answers are deleted with it.';
comment on column public.blog_comments.body is 'What it says, as plain text. Only its author changes it.';
comment on column public.blog_comments.mentions is 'Members who are told of it: at most 20.';
comment on column public.blog_comments.resolved is 'Whether the thread is settled.';
comment on column public.blog_comments.created_by is 'Its author; null after that user is deleted, and for a service key.';
comment on column public.blog_comments.created_by_key is 'API key that wrote it; null for a user.';
comment on column public.blog_comments.created_at is 'When it was written.';
comment on column public.blog_comments.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.blog_comments', resource => 'content', max_rows => 50000, writable => '{post_id,parent_id,body,mentions,resolved}', catalogue => '{
    "post_id, parent_id, body, resolved": "what members say about a post",
    "mentions": "who is told of it"
  }'
);

create function private.blog_guard_comment() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant kijko.caller := kijko.actor();
begin
  if tg_op = 'UPDATE' and (old.post_id <> new.post_id or old.parent_id is distinct from new.parent_id) then
    perform kijko.fail('invalid_input', 'post_id, parent_id: a comment stays where it is');
  elsif caller.kind <> 'service' and (tg_op = 'DELETE' or (old.body, old.mentions) is distinct from (new.body, new.mentions))
    and (old.created_by = caller.user_id or (old.created_by is null and old.created_by_key = caller.api_key_id)) is not true
    and not (tg_op = 'DELETE' and public.can(old.org_id, 'content:approve') is true)
  then
    perform kijko.fail('permission_denied', 'only its author changes a comment', 'Who holds content:approve may delete it.');
  end if;
  return case tg_op when 'DELETE' then old else new end;
end
$$;
comment on function private.blog_guard_comment() is 'Trigger: a comment is its author''s; whoever holds content:approve may delete it, and everyone who may write may say that it is resolved.';
create trigger blog_comments_guard before update or delete on public.blog_comments
  for each row when (pg_trigger_depth() = 0) execute function private.blog_guard_comment();

create function private.blog_notify_comment() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  answered constant uuid := (select c.created_by from public.blog_comments as c where c.org_id = new.org_id and c.id = new.parent_id);
  told constant uuid[] := case tg_op when 'UPDATE' then old.mentions else '{}'::uuid[] end;
  data constant jsonb := jsonb_build_object(
    'post_id', new.post_id, 'comment_id', new.id, 'post', (select left(p.title, 200) from public.blog_posts as p where p.id = new.post_id),
    'author', (select p.display_name from public.profiles as p where p.id = new.created_by), 'comment', left(new.body, 500)
  );
begin
  -- Members who may read the post, and nobody of another organization; once each.
  perform private.notifications_send(
    new.org_id, m.user_id, case when m.user_id = any (new.mentions) then 'comment.mention' else 'comment.reply' end, data,
    format('comment:%s:%s', new.id, m.user_id)
  )
  from public.memberships as m
  where m.org_id = new.org_id and m.user_id is distinct from new.created_by and m.user_id <> all (told)
    and (m.user_id = any (new.mentions) or (tg_op = 'INSERT' and m.user_id = answered))
    and exists (
      select from private.role_permissions as p
      where p.holder = coalesce(m.custom_role_id::text, m.role) and p.permission = 'content:read'
    );
  return null;
end
$$;
comment on function private.blog_notify_comment() is 'Trigger: tells the members whom a comment mentions, and whoever wrote what it answers. Definer: whoever comments may not write notifications.';
create trigger blog_comments_notify after insert or update of mentions on public.blog_comments
  for each row execute function private.blog_notify_comment();
