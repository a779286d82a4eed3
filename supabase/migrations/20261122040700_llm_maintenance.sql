-- ============================================================================
-- LLM gateway: what nobody ended, and what is over.
-- ============================================================================

create function private.llm_postpone(call_id uuid, code text, problem text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  raise warning 'call % of a model cannot be ended: % %', llm_postpone.call_id, code, problem;
  update private.llm_open_calls as c set ends_at = clock_timestamp() + interval '10 minutes' where c.call_id = llm_postpone.call_id;
end
$$;
comment on function private.llm_postpone(uuid, text, text) is 'Says in the log why maintenance could not end a call, and lets it try again in ten minutes.';

create function private.llm_release_reserved(max_calls integer default 1000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  due uuid;
  opened private.llm_open_calls;
  released integer := 0;
begin
  for due in
    select c.call_id from private.llm_open_calls as c where c.status = 'reserved' and c.ends_at <= clock_timestamp()
    order by c.ends_at limit llm_release_reserved.max_calls
  loop
    -- One call that fails does not keep the others: it waits behind them.
    begin
      opened := private.llm_lock_call(due);
      continue when opened.call_id is null or opened.status <> 'reserved';
      perform private.llm_finish(opened, 'cancelled', '{}', '{"error_code": "not_opened"}');
      released := released + 1;
    exception when others then
      perform private.llm_postpone(due, sqlstate, sqlerrm);
    end;
  end loop;
  return released;
end
$$;
comment on function private.llm_release_reserved(integer) is 'Releases calls whose ticket nobody has opened within a minute, and returns how many. Definer: callable by the operator without table rights.';
grant execute on function private.llm_release_reserved(integer) to service_role;

create function private.llm_settle_abandoned(max_calls integer default 1000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  due uuid;
  settled integer := 0;
begin
  for due in
    select c.call_id from private.llm_open_calls as c where c.status = 'sent' and c.ends_at <= clock_timestamp()
    order by c.ends_at limit llm_settle_abandoned.max_calls
  loop
    begin
      if private.llm_settle(due, '{"status": "failed", "error_code": "abandoned"}') is not null then
        settled := settled + 1;
      end if;
    exception when others then
      perform private.llm_postpone(due, sqlstate, sqlerrm);
    end;
  end loop;
  return settled;
end
$$;
comment on function private.llm_settle_abandoned(integer) is 'Settles calls that were sent and that no sidecar has settled, at all that they held, and returns how many. Definer: callable by the operator without table rights.';
grant execute on function private.llm_settle_abandoned(integer) to service_role;

select private.set_retention('private.llm_budget_subjects', '7 days', 'reading the use of an hour or week that is over');
select private.set_retention('public.llm_calls', '25 months', 'comparing the cost of two years');
select private.set_retention('public.llm_call_contents', null, 'looking at what a model was asked', kept_by => 'llm_settings.content_days of the organization');

create function private.llm_purge(max_rows integer default 5000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  contents integer;
  subjects integer;
begin
  delete from private.llm_budget_subjects as s
  where s.subject = any (array(
    -- Calls of that hour or week may still be open for a while, and its use can be read for a week.
    select o.subject from private.llm_budget_subjects as o where o.ends_at < kijko.now() - private.retention_of('private.llm_budget_subjects')
    order by o.ends_at limit max_rows for update skip locked
  ));
  get diagnostics subjects = row_count;
  delete from public.llm_call_contents as c
  where c.id = any (array(
    select o.id from public.llm_call_contents as o where o.delete_after < kijko.now() order by o.delete_after limit max_rows for update skip locked
  ));
  get diagnostics contents = row_count;
  return subjects + contents;
end
$$;
comment on function private.llm_purge(integer) is 'Deletes recorded prompts and answers whose time is over, and counters of hours and weeks that are; returns how many. Definer: callable by the operator without table rights.';
grant execute on function private.llm_purge(integer) to service_role;

create function private.llm_drop_partitions(older_than interval default private.retention_of('public.llm_calls')) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (older_than >= interval '1 month') is not true then
    perform kijko.fail('invalid_input', 'older_than: at least a month');
  end if;
  return private.drop_partitions('public.llm_calls', kijko.now() - older_than);
end
$$;
comment on function private.llm_drop_partitions(interval) is 'Drops the months of calls that ended longer ago than older_than, and returns how many. The ledger keeps its sums as long. Definer: pg_cron and operators own no table.';

-- A procedure, so that each batch commits. It can then have no "set" clause and no definer rights, so every name is qualified.
create procedure private.llm_maintain()
language plpgsql
as $$
declare
  started timestamptz := clock_timestamp();
  ended integer;
begin
  loop
    ended := private.llm_release_reserved() + private.llm_settle_abandoned();
    -- What is deleted may wait for a lock, and fail.
    commit;
    ended := ended + private.llm_purge();
    commit;
    exit when ended = 0 or clock_timestamp() > started + interval '50 seconds';
  end loop;
end
$$;
comment on procedure private.llm_maintain() is 'Called by pg_cron each minute: releases and settles calls that nobody ended, and deletes what is over, in batches.';
select private.schedule('kijko-llm-maintain', '* * * * *', 'call private.llm_maintain()');
-- Each hour: a backup may use the table through a whole night.
select private.schedule('kijko-llm-partitions', '11 * * * *', 'perform private.llm_make_partitions()', 'perform private.llm_drop_partitions()');

select private.audit_table('public.llm_providers', 'llm_provider', '{name,kind,base_url:host,max_concurrency,enabled,key_set_at}');
select private.audit_table(
  'public.llm_routes', 'llm_route',
  '{name,targets,retries,time_budget_seconds,first_token_seconds,idle_seconds,default_output_tokens,max_output_tokens,allowed_roles,allowed_keys,enabled}'
);
select private.audit_table('public.llm_settings', 'llm_settings', '{routes_only,record_content,content_days}');
select private.audit_table(
  'public.llm_budgets', 'llm_budget', '{name,scope,project_id,skill_id,key_id,model,period,unit,amount,on_exceeded,enabled}',
  personal => '{member_id}', subject => 'member_id'
);
