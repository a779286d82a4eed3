-- ============================================================================
-- LLM gateway: a call is authorized, and held.
-- ============================================================================

create function private.llm_target(org uuid, model text, call jsonb, route public.llm_routes, fields text[], out target jsonb, out code text, out problem text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  provider constant public.llm_providers := private.llm_find_provider(org, model);
  is_own constant boolean := provider.org_id = org;
  price constant public.llm_models := private.models_price(model, null);
begin
  if provider.id is null then
    code := 'model_not_found';
    problem := format('there is no provider of %s, or it is off', model);
  elsif provider.kind = 'anthropic' and call ->> 'kind' <> 'chat' or provider.kind = 'gemini' and call ->> 'kind' = 'images' and (call ->> 'images')::bigint > 1 then
    code := 'bad_request';
    problem := format('%s has no %s%s', provider.name, call ->> 'kind', case when provider.kind = 'gemini' then ' but one at a time' else '' end);
  elsif not is_own and cardinality(fields) > 0 then
    code := 'bad_request';
    problem := format('only with a key of your own: %s', array_to_string(fields, ', '));
  elsif not is_own and price.id is null then
    code := 'model_not_priced';
    problem := format('no price is known for %s', model);
  elsif not is_own and call ->> 'kind' = 'images' and price.image_microusd is null then
    code := 'model_not_priced';
    problem := format('no price of an image is known for %s', model);
  elsif not is_own and provider.key_set_at is null and provider.base_url is null then
    problem := private.models_unavailable_reason(model);
    code := case when problem is not null then 'unavailable' end;
  end if;
  if code is null then
    target := jsonb_build_object(
      'provider_id', provider.id, 'provider', provider.name, 'own_key', is_own, 'name', model,
      'max_output_tokens', case
        when call ->> 'kind' = 'embeddings' then 0
        -- No model gives more than it can.
        else least(coalesce((call ->> 'max_output_tokens')::bigint, least(route.default_output_tokens, route.max_output_tokens)), price.max_output_tokens)
      end
    );
  end if;
end
$$;
comment on function private.llm_target(uuid, text, jsonb, public.llm_routes, text[]) is 'A target of a call, or why it cannot be called.';

create function private.llm_targets(org uuid, call jsonb, route public.llm_routes, fields text[]) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  found_targets jsonb := '[]'::jsonb;
  model text;
  tried record;
  code text;
  problem text;
begin
  foreach model in array route.targets loop
    tried := private.llm_target(org, model, call, route, fields);
    if tried.target is not null then
      found_targets := found_targets || tried.target;
    elsif code is null then
      code := tried.code;
      problem := tried.problem;
    end if;
  end loop;
  if jsonb_array_length(found_targets) = 0 then
    if code = 'model_not_found' then
      perform kijko.fail('model_not_found', problem);
    elsif code = 'model_not_priced' then
      perform kijko.fail('model_not_priced', problem);
    elsif code = 'unavailable' then
      perform kijko.fail('unavailable', problem);
    end if;
    perform kijko.fail('bad_request', problem);
  end if;
  return found_targets;
end
$$;
comment on function private.llm_targets(uuid, jsonb, public.llm_routes, text[]) is 'The targets of a call that can be called, in order. Fails as the first one does when there is none.';

create function private.llm_require_place(org uuid, inout project_id uuid, skill_id uuid)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  skill public.skills;
  refusal text;
begin
  if skill_id is not null then
    select s.* into skill from public.skills as s where s.org_id = org and s.id = llm_require_place.skill_id;
    if skill.id is null or not private.skills_is_visible(skill.id) then
      perform kijko.fail('not_found', 'no such skill');
    end if;
    if project_id is not null and skill.project_id is distinct from project_id then
      perform kijko.fail('bad_request', 'the skill is not in this project');
    end if;
    project_id := skill.project_id;
  end if;
  if project_id is not null then
    if not private.projects_is_visible(project_id)
      or not exists (select 1 from public.projects as p where p.org_id = org and p.id = llm_require_place.project_id)
    then
      perform kijko.fail('not_found', 'no such project');
    end if;
    refusal := private.projects_write_refusal(project_id);
    if refusal = 'project_archived' then
      perform kijko.fail('project_archived', 'the project is archived', 'Restore it: restore_project().');
    elsif refusal is not null then
      perform kijko.fail('permission_denied', 'a viewer of the project calls no models in it');
    end if;
  end if;
end
$$;
comment on function private.llm_require_place(uuid, uuid, uuid) is 'The project of a call, by its skill if it names one. Fails if the caller does not see them, or may change nothing there. Nullable: result.';

create function private.llm_reserve_call(
  org uuid, member uuid, key uuid, wanted jsonb, place uuid default null, skill_id uuid default null, fields text[] default '{}',
  prompt_id uuid default null, prompt_version integer default null, opened_as uuid default null
) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  is_opened constant boolean := opened_as is not null;
  route public.llm_routes;
  settings public.llm_settings;
  call jsonb;
  targets jsonb;
  attempt jsonb;
  attributes jsonb;
  holds jsonb;
  opened private.llm_open_calls;
begin
  if not is_opened and (
    select count(*) >= 64 from private.llm_open_calls as c
    where c.organization = org and c.status = 'reserved'
      and case when member is not null then c.attributes ->> 'member' = member::text else c.attributes ->> 'key' = key::text end
  ) then
    perform private.refuse_rate(1, 'at most 64 calls of a caller wait to be sent');
  end if;
  select s.* into settings from public.llm_settings as s where s.org_id = org;
  route := private.llm_find_route(org, wanted ->> 'model', settings.routes_only);
  if (wanted ->> 'max_output_tokens')::bigint > route.max_output_tokens then
    perform kijko.fail('bad_request', format('max_tokens: at most %s on this route', route.max_output_tokens));
  end if;
  call := wanted || jsonb_build_object(
    'route', route.name, 'retries', route.retries, 'time_budget_seconds', route.time_budget_seconds,
    'first_token_seconds', route.first_token_seconds, 'idle_seconds', route.idle_seconds,
    'record_content', coalesce(settings.record_content, false), 'content_days', settings.content_days
  );
  targets := private.llm_targets(org, call, route, fields);
  call := call || jsonb_build_object('targets', targets);
  attempt := private.llm_attempt(call, targets -> 0);
  attributes := coalesce(nullif(current_setting('kijko.usage_attributes', true), '')::jsonb, '{}')
    || private.executions_usage_attributes(member, key, place, skill_id, null);
  -- Longer than the call lasts. It is settled all the same if the holds expire.
  holds := private.llm_hold(
    '[]', private.llm_wants(org, attributes, route.name, targets -> 0, attempt), attempt,
    make_interval(secs => route.time_budget_seconds) + interval '1 hour'
  );

  opened := row(
    coalesce(opened_as, gen_random_uuid()), org, kijko.now(), case when is_opened then 'sent' else 'reserved' end,
    clock_timestamp() + case when is_opened then private.llm_lasts(call) else interval '60 seconds' end,
    call, attributes, holds, 0, attempt, '{}'::jsonb
  );
  insert into public.llm_calls (
    id, org_id, kind, route, requested_model, provider, model, own_key, status, attempts, held_tokens, held_microusd, member_id, key_id, project_id,
    skill_id, prompt_id, prompt_version, trace_id, created_by, created_at
  )
  values (
    opened.call_id, org, wanted ->> 'kind', route.name, wanted ->> 'model', targets -> 0 ->> 'provider', targets -> 0 ->> 'name',
    (targets -> 0 ->> 'own_key')::boolean, opened.status, is_opened::integer,
    private.llm_amount('llm_tokens', attempt), private.llm_amount('llm_cost_microusd', attempt),
    member, key, place, skill_id, prompt_id, prompt_version, wanted ->> 'trace_id', member, opened.called_at
  );
  insert into private.llm_open_calls select opened.*;
  if is_opened then
    -- The vendor is called once this transaction is on the disk.
    return private.llm_open_locked(opened, false);
  end if;
  -- The vendor is called after private.llm_open() has committed, which waits for the disk. Without that, nothing was used. The request of
  -- whom an issuer names may have set their role: it waits.
  if kijko.issuer_caller() is null then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  return jsonb_build_object('call_id', opened.call_id, 'ticket', kijko.seal(
    jsonb_build_object('call_id', opened.call_id, 'expires_at', extract(epoch from opened.ends_at))::text, 'llm/ticket'
  ));
end
$$;
comment on function private.llm_reserve_call(uuid, uuid, uuid, jsonb, uuid, uuid, text[], uuid, integer, uuid) is 'Holds what a call can use at most, of a member or key, and returns {call_id, ticket}; or, if the gateway calls and gives it an id (opened_as), records it as sent and returns what private.llm_open() does, without the keys. wanted: kind, model, input_tokens, max_output_tokens, choices, images, trace_id. The caller has checked who calls and where. Fails as authorize_llm_call() does.';

create function private.llm_id_of_gateway() returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  pass constant text := kijko.request_header('x-kijko-gateway');
begin
  -- Its own login is the gateway's.
  if session_user = 'kijko_gateway' then
    return private.as_uuid(kijko.request_header('x-kijko-call'));
  end if;
  -- Anybody may send these headers; only the database makes a pass. Without one that is valid, the call has a ticket.
  if pass is null or kijko.can_unseal(pass, 'llm/gateway') is not true
    or kijko.unseal(pass, 'llm/gateway')::numeric <= extract(epoch from clock_timestamp())
  then
    return null;
  end if;
  return private.as_uuid(kijko.request_header('x-kijko-call'));
end
$$;
comment on function private.llm_id_of_gateway() is 'The id that the gateway gives the call of this request, if the request is the gateway''s: it comes by its login, or has a pass. Nullable: result.';

create function private.llm_gateway_pass() returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return kijko.seal(extract(epoch from clock_timestamp() + interval '15 minutes')::text, 'llm/gateway');
end
$$;
comment on function private.llm_gateway_pass() is 'By this, sent as the header X-Kijko-Gateway within 15 minutes, authorize_llm_call() knows the gateway, and opens the call at once. Definer: the sidecar may seal nothing.';
grant execute on function private.llm_gateway_pass() to kijko_sidecar;

create function private.llm_try_reserve_call(org uuid, member uuid, key uuid, wanted jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  problem text;
  limits jsonb;
begin
  limits := jsonb_build_object('max_output_tokens', least(
    (wanted ->> 'max_output_tokens')::bigint,
    (private.llm_find_route(org, wanted ->> 'model', (select s.routes_only from public.llm_settings as s where s.org_id = org))).max_output_tokens
  ));
  return private.llm_reserve_call(org, member, key, wanted || limits) || limits;
exception when others then
  get stacked diagnostics problem = pg_exception_detail;
  -- Refusals with a code of the API are for the organization. Any other failure is ours: the job is tried again.
  if not exists (select from kijko.error_codes as c where c.code = split_part(sqlerrm, ':', 1) and c.http_status < 500) then
    raise;
  end if;
  return jsonb_build_object('refused', split_part(sqlerrm, ':', 1), 'message', coalesce(nullif(problem, ''), sqlerrm));
end
$$;
comment on function private.llm_try_reserve_call(uuid, uuid, uuid, jsonb) is 'As private.llm_reserve_call(), for jobs: with at most the max_output_tokens that the route allows, which it returns, too. What the organization can mend is the answer {refused, message}.';

create function private.llm_may_call(org uuid, member uuid, permission text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return (
  select count(distinct p.permission) = 2
  from public.memberships as m
  join private.role_permissions as p on p.holder = coalesce(m.custom_role_id::text, m.role) and p.permission in (llm_may_call.permission, 'llm:call')
  where m.org_id = org and m.user_id = member
);
comment on function private.llm_may_call(uuid, uuid, text) is 'Whether a member still holds a permission and llm:call: a job calls a model for who asked for it. False for null.';

create function private.llm_require_member(org uuid, model text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if public.can(org, 'llm:call') is not true then
    perform kijko.fail('permission_denied', 'requires the permission llm:call');
  elsif kijko.user_id() is null then
    perform kijko.fail('permission_denied', 'a model is called for a member', 'Sign in, or use a personal key.');
  elsif (char_length(model) between 1 and 200) is not true then
    perform kijko.fail('invalid_input', 'model: 1 to 200 characters');
  end if;
end
$$;
comment on function private.llm_require_member(uuid, text) is 'Fails unless the caller may have a job call a model: a member with llm:call, by session or personal key, who names a model.';

create function public.authorize_llm_call(
  model text, kind text default 'chat', input_tokens bigint default 0, max_output_tokens bigint default null, choices integer default 1,
  images integer default 0, project_id uuid default null, skill_id uuid default null, fields text[] default '{}', trace_id text default null,
  prompt_version_id uuid default null
) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- All that it asks, it asks by ids and names. Otherwise each connection plans all of that anew for its first five calls.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
  caller constant kijko.caller := kijko.actor();
  org uuid;
  place uuid;
  prompt_id uuid;
  prompt_version integer;
  opened_as constant uuid := private.llm_id_of_gateway();
  made jsonb;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('llm:call');
  if model is null or char_length(model) not between 1 and 200 then
    perform kijko.fail('invalid_input', 'model: 1 to 200 characters');
  elsif kind is null or kind not in ('chat', 'embeddings', 'images') then
    perform kijko.fail('invalid_input', 'kind: chat, embeddings or images');
  elsif (input_tokens between 0 and 20000000) is not true or (max_output_tokens between 1 and 100000000) is false
    or (choices between 0 and 128) is not true or (images between 0 and case kind when 'chat' then 20000 else 128 end) is not true
  then
    perform kijko.fail('invalid_input', 'a count is out of its range');
  elsif fields is null or cardinality(fields) > 100 or char_length(trace_id) > 64 or octet_length(array_to_string(fields, '')) > 2000 then
    perform kijko.fail('invalid_input', 'fields: at most 100; trace_id: at most 64 characters');
  end if;
  if project_id is not null or skill_id is not null then
    place := private.llm_require_place(org, project_id, skill_id);
  end if;
  if prompt_version_id is not null then
    -- Whose content it is, the caller says; so only a version that they may read is believed.
    select v.prompt_id, v.version into prompt_id, prompt_version from public.prompt_versions as v
    where v.org_id = org and v.id = prompt_version_id and public.can(org, 'prompts:read');
    if prompt_id is null then
      perform kijko.fail('not_found', 'no such version of a prompt');
    end if;
  end if;
  made := private.llm_reserve_call(
    org, caller.user_id, caller.api_key_id,
    jsonb_build_object(
      'kind', kind, 'model', model, 'input_tokens', input_tokens, 'max_output_tokens', max_output_tokens, 'choices', choices, 'images', images,
      'trace_id', trace_id
    ),
    place, skill_id, fields, prompt_id, prompt_version, opened_as
  );
  return case when opened_as is null then made - 'call_id' else jsonb_build_object('opened', made) end;
end
$$;
comment on function public.authorize_llm_call(text, text, bigint, bigint, integer, integer, uuid, uuid, text[], text, uuid) is 'Whether the caller may make this call of a model now; the gateway asks it for each request to /llm/v1. Holds what the call can use at most against every budget and meter, and returns {ticket}, which is of use to the sidecar only; to the gateway, which proves itself by its login or a header, {opened}. images: how many are wanted; of a chat, how many its prompt has, which input_tokens includes. Requires llm:call. Fails with budget_exceeded, quota_exceeded, model_not_found, model_not_allowed, model_not_priced or bad_request, among others. Definer: holds and calls are written by functions.';
grant execute on function public.authorize_llm_call(text, text, bigint, bigint, integer, integer, uuid, uuid, text[], text, uuid) to authenticated;

-- Invoker: private.requests_enter() switches the role.
create function private.llm_enter_call(request jsonb, arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if not private.requests_enter(request) then
    return null;
  end if;
  return (
    select jsonb_build_object(
      'answer', public.authorize_llm_call(
        model => a.model, kind => coalesce(a.kind, 'chat'), input_tokens => coalesce(a.input_tokens, 0),
        max_output_tokens => a.max_output_tokens, choices => coalesce(a.choices, 1), images => coalesce(a.images, 0),
        project_id => a.project_id, skill_id => a.skill_id, fields => coalesce(a.fields, '{}'), trace_id => a.trace_id,
        prompt_version_id => a.prompt_version_id
      ),
      'headers', nullif(current_setting('response.headers', true), '')::jsonb
    )
    from jsonb_to_record(arguments) as a (
      model text, kind text, input_tokens bigint, max_output_tokens bigint, choices integer, images integer, project_id uuid,
      skill_id uuid, fields text[], trace_id text, prompt_version_id uuid
    )
  );
end
$$;
comment on function private.llm_enter_call(jsonb, jsonb) is 'In one statement private.requests_enter(), and authorize_llm_call() as the caller, with an object of its arguments: {answer, headers}. Null, and nothing is done, for a token that PostgREST has to judge. Nullable: result. The sidecar calls it by its login kijko_gateway.';
grant execute on function private.llm_enter_call(jsonb, jsonb) to kijko_gateway;
