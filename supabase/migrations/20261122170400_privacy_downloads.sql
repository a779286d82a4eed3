-- ============================================================================
-- Privacy: the bucket of exports, and links to them.
-- ============================================================================

-- No policy: only the storage service's own tickets reach its objects.
create function private.privacy_attach() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('storage.buckets') is null then
    return false;
  end if;
  insert into storage.buckets (id, name, public) values ('privacy-exports', 'privacy-exports', false) on conflict do nothing;
  return true;
end
$$;
comment on function private.privacy_attach() is 'Makes the bucket of exports; false when there is no storage yet, as on Supabase before its Storage has run. For this migration, and for operators.';
select private.privacy_attach();

create function public.open_export(request_id uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  token constant text := encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex');
  request private.privacy_requests;
begin
  select r.* into request from private.privacy_requests as r
  where r.id = open_export.request_id and r.requested_by = me and r.kind = 'export';
  if request.id is null then
    perform kijko.fail('not_found', 'request_id: not an export that the caller asked for');
  end if;
  -- Who has lost the right since gets nothing any more.
  perform private.privacy_authorize(request.organization, request.user_id);
  if request.status <> 'ready' or request.expires_at <= kijko.now() then
    perform kijko.fail('conflict', format('the export is %s', case request.status when 'ready' then 'expired' else request.status end));
  end if;
  perform private.limit_rate('privacy_link:' || me, 20, interval '1 hour', 'a user opens at most %s exports an hour');
  insert into private.privacy_export_links (request_id, token_hash, session_id, expires_at)
  select request.id, sha256(convert_to(token, 'UTF8')), kijko.session_id(), now() + s.link_lifetime from private.privacy_settings as s;
  return '/api/v1/privacy/exports?ticket=' || token;
end
$$;
comment on function public.open_export(uuid) is 'A link to an export that the caller asked for, as a path. It works once, within ten minutes, in the session that called this, which sends its token with it. Needs a sign-in within the hour, and the right to ask for the export still. Definer: the tables are private.';
grant execute on function public.open_export(uuid) to authenticated;

create function public.claim_export(token text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  link private.privacy_export_links;
begin
  -- Of two at once one waits, and finds it used.
  update private.privacy_export_links as l set used_at = now()
  from private.privacy_requests as r
  where l.token_hash = sha256(convert_to(claim_export.token, 'UTF8')) and l.used_at is null and l.expires_at > now() and l.session_id = kijko.session_id()
    and r.id = l.request_id and r.requested_by = me and r.status = 'ready' and r.expires_at > kijko.now()
  returning l.* into link;
  if link.id is null then
    perform kijko.fail('not_found', 'token: unknown, used, expired, or of another session');
  end if;
  return link.id;
end
$$;
comment on function public.claim_export(text) is 'Uses a link of open_export(), for the sidecar''s download; of no use otherwise. Fails with not_found for one that is unknown, used, expired, or of another session. Definer: the tables are private.';
grant execute on function public.claim_export(text) to authenticated;

create function private.privacy_read_export(link_id uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request private.privacy_requests;
begin
  update private.privacy_export_links as l set opened_at = now()
  where l.id = link_id and l.opened_at is null and l.used_at > now() - interval '1 minute';
  if not found then
    return null;
  end if;
  select r.* into request from private.privacy_requests as r join private.privacy_export_links as l on l.request_id = r.id where l.id = link_id;
  return jsonb_build_object('ticket', private.privacy_ticket('read', 'privacy-exports', request.object_name), 'bytes', request.bytes, 'name', request.id || '.zip');
end
$$;
comment on function private.privacy_read_export(uuid) is 'What the sidecar reads for a link that was claimed a moment ago: {ticket, bytes, name}, once. Null for any other. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_read_export(uuid) to kijko_sidecar;

create function private.privacy_delete_objects(names text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  allowed constant text := coalesce(current_setting('storage.allow_delete_query', true), '');
begin
  if to_regnamespace('storage_service') is null then
    return;
  end if;
  perform set_config('storage.allow_delete_query', 'true', true);
  delete from storage.objects as o where o.bucket_id = 'privacy-exports' and o.name = any (names);
  perform set_config('storage.allow_delete_query', allowed, true);
end
$$;
comment on function private.privacy_delete_objects(text[]) is 'Deletes exports from the bucket, and queues the deletion of their bytes.';
