-- Calls of models, for the tests of the domain; included after 000_helpers.sql.

create function tests.authorize(model text, input bigint default 100, output bigint default 100, more jsonb default '{}') returns text language plpgsql as $$
begin
  return public.authorize_llm_call(
    model, coalesce(more ->> 'kind', 'chat'), input, output, coalesce((more ->> 'choices')::integer, 1), coalesce((more ->> 'images')::integer, 0),
    (more ->> 'project')::uuid, (more ->> 'skill')::uuid,
    coalesce(array(select jsonb_array_elements_text(more -> 'fields')), '{}'), more ->> 'trace_id'
  ) ->> 'ticket';
end
$$;
create function tests.open(ticket text) returns jsonb language sql security definer as $$ select private.llm_open(open.ticket) $$;
create function tests.raise(call uuid, target integer, spent jsonb) returns jsonb language sql security definer as $$ select private.llm_raise(call, target, spent) $$;
create function tests.settle(call uuid, usage jsonb) returns jsonb language sql security definer as $$ select private.llm_settle(call, settle.usage) $$;
-- A call from its ticket on.
create function tests.opened(model text, input bigint default 100, output bigint default 100, more jsonb default '{}') returns uuid language sql as $$
  select (tests.open(tests.authorize(model, input, output, more)) ->> 'call_id')::uuid
$$;
create function tests.call(id uuid) returns public.llm_calls language sql security definer as $$ select c.* from public.llm_calls as c where c.id = call.id $$;
-- Held and settled.
create function tests.counted() returns bigint[] language sql security definer as $$
  select array[tests.used(tests.org('ada'), 'llm_tokens'), tests.used(tests.org('ada'), 'llm_cost_microusd')]
$$;
-- The budget that refuses a statement.
create function tests.refused_by(statement text) returns text language sql as $$
  select substring(tests.refusal(statement) ->> 'details' from '^budget (.*) \(')
$$;
-- The same as tests.opened(), with all that the sidecar learns.
create function tests.opened_call(model text, input bigint default 100, output bigint default 100, more jsonb default '{}') returns jsonb language sql as $$
  select tests.open(tests.authorize(model, input, output, more))
$$;
-- What a call of this name goes to.
create function tests.targets(model text) returns text[] language sql as $$
  select array_agg((t ->> 'provider') || '/' || (t ->> 'model')) from jsonb_array_elements(tests.opened_call(targets.model, 1, 1) -> 'targets') as t
$$;
-- Settled and held against a budget; null when nothing has counted against it.
create function tests.held_by(budget text) returns bigint language sql security definer as $$
  select sum(s.used + s.held)::bigint from public.llm_budgets as b join private.llm_budget_subjects as k on k.budget_id = b.id
  cross join lateral private.llm_state(b, k.value) as s where b.name = held_by.budget and b.org_id = tests.org('ada')
$$;
create function tests.content_bytes() returns bigint language sql security definer as $$
  select b.bytes from private.llm_content_bytes as b where b.organization = tests.org('ada')
$$;
-- Ends every open call of the organization without use.
create function tests.end_all() returns bigint language sql security definer as $$
  select count(private.llm_settle(c.call_id, '{"status": "cancelled", "prompt_tokens": 0, "completion_tokens": 0}')) from private.llm_open_calls as c where c.organization = tests.org('ada')
$$;
