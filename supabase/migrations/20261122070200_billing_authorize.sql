-- ============================================================================
-- Billing: who may ask Stripe for what. The sidecar calls authorize_billing() as the caller; the answer is a ticket that only
-- the sidecar can open. What it finds in it are the parameters of Stripe's calls, made here.
-- ============================================================================

create function private.billing_argument(arguments jsonb, name text, kind text default 'string') returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  given constant text := jsonb_typeof(arguments -> name);
begin
  if coalesce(given, 'null') = 'null' then
    return null;
  end if;
  if given <> kind or char_length(arguments ->> name) > 2000 then
    perform kijko.fail('invalid_input', format('%s: must be a %s', name, kind));
  end if;
  return arguments ->> name;
end
$$;
comment on function private.billing_argument(jsonb, text, text) is 'An argument, null if it is left out. Fails with invalid_input if it has another type. Nullable: result.';

create function private.billing_check_arguments(arguments jsonb, known text[]) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  other text;
begin
  if jsonb_typeof(arguments) is distinct from 'object' then
    perform kijko.fail('invalid_input', 'the arguments must be an object');
  end if;
  select k into other from jsonb_object_keys(arguments) as k where k <> all (known) order by k limit 1;
  if found then
    perform kijko.fail('invalid_input', format('%s: there is no such argument', to_json(left(other, 100))));
  end if;
end
$$;
comment on function private.billing_check_arguments(jsonb, text[]) is 'Fails with invalid_input for an argument that is not one of these.';

create function private.billing_return_url(arguments jsonb, name text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  url constant text := private.billing_argument(arguments, name);
begin
  if url is null or auth_api.is_allowed_redirect(url) is not true then
    perform kijko.fail('invalid_input', format('%s: must be the site or on the allow-list of login (redirect_urls)', name));
  end if;
  return url;
end
$$;
comment on function private.billing_return_url(jsonb, text) is 'Where Stripe sends the browser afterwards: a target that login would lead to as well. Fails with invalid_input for another one. Definer: the allow-list belongs to login.';

create function private.billing_trial_days(org uuid, base public.prices) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if base.trial_days = 0 or exists (select from public.stripe_subscriptions as s where s.org_id = org) then
    return null;
  end if;
  -- One for each person. The means of payment is known later (billing_trials.sql).
  return case when private.plans_trial_allowed(org, null) then base.trial_days end;
end
$$;
comment on function private.billing_trial_days(uuid, public.prices) is 'Days of the trial that a subscription begins with; null if it has none. Nullable: result.';

create type private.billing_asked as (base public.prices, overage boolean);

create function private.billing_plan_arguments(arguments jsonb, current public.stripe_subscriptions) returns private.billing_asked
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  item constant jsonb := private.billing_base_item(coalesce(current.items, '[]'));
  present public.prices;
  base public.prices;
  overage boolean;
begin
  select c.* into present from public.prices as c where c.lookup_key = item ->> 'lookup_key';
  base := private.billing_price(
    coalesce(private.billing_argument(arguments, 'plan'), present.plan),
    coalesce(private.billing_argument(arguments, 'interval'), present.recurring_interval, 'month')
  );
  overage := coalesce(private.billing_argument(arguments, 'overage', 'boolean')::boolean, private.billing_has_overage(coalesce(current.items, '[]')));
  if overage and not exists (select from private.billing_metered(base)) then
    if private.billing_argument(arguments, 'overage', 'boolean') is not null then
      perform kijko.fail('invalid_input', 'overage: this price has no metered prices');
    end if;
    overage := false;
  end if;
  return row(base, overage)::private.billing_asked;
end
$$;
comment on function private.billing_plan_arguments(jsonb, public.stripe_subscriptions) is 'The price and overage that arguments ask for; what is left out stays as the subscription has it. Fails with invalid_input.';

-- ----------------------------------------------------------------------------
-- The operations
-- ----------------------------------------------------------------------------

create function private.billing_checkout(org uuid, arguments jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  running constant public.stripe_subscriptions := private.billing_subscription(org);
  success_url constant text := private.billing_return_url(arguments, 'success_url');
  cancel_url constant text := private.billing_return_url(arguments, 'cancel_url');
  asked private.billing_asked;
  tax jsonb;
  trial_days integer;
begin
  perform private.billing_check_arguments(arguments, '{plan,interval,overage,success_url,cancel_url}');
  if running.id is not null then
    perform kijko.fail('conflict', 'a subscription is running', 'Change it with billing-change, or pay its invoice in billing-portal.');
  end if;
  if private.billing_argument(arguments, 'plan') is null then
    perform kijko.fail('invalid_input', 'plan: must be given');
  end if;
  asked := private.billing_plan_arguments(arguments, running);
  tax := private.billing_tax(org);
  trial_days := private.billing_trial_days(org, asked.base);
  return jsonb_build_object(
    'operation', 'checkout',
    'customer', jsonb_build_object(
      'id', private.billing_customer(org), 'params', private.billing_customer_params(org, tax), 'vat_number', private.billing_tax_number(org)
    ),
    'tax_rate', tax -> 'tax_rate',
    'session', jsonb_strip_nulls(jsonb_build_object(
      'mode', 'subscription',
      'client_reference_id', org,
      'line_items', private.billing_line_items(asked.base, org, asked.overage),
      -- iDEAL pays once, and its first payment leaves a mandate for SEPA direct debit.
      'allowed_payment_method_types', '["ideal", "card"]'::jsonb,
      'allow_promotion_codes', true,
      'automatic_tax', '{"enabled": false}'::jsonb,
      'success_url', success_url,
      'cancel_url', cancel_url,
      'subscription_data', jsonb_build_object(
        'metadata', jsonb_build_object('org_id', org) || case when trial_days is null then '{}' else '{"kijko_trial": "checkout"}'::jsonb end,
        'trial_period_days', trial_days
      )
    ))
  );
end
$$;
comment on function private.billing_checkout(uuid, jsonb) is 'A checkout of a plan. Fails with conflict if a subscription runs or the country is unknown, with invalid_input, unavailable.';

create function private.billing_change(org uuid, arguments jsonb, is_preview boolean) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  running constant public.stripe_subscriptions := private.billing_subscription(org);
  asked private.billing_asked;
  proration bigint;
  items jsonb;
begin
  perform private.billing_check_arguments(arguments, '{plan,interval,overage,proration_date}');
  if running.id is null then
    perform kijko.fail('not_found', 'no subscription is running', 'Buy one with billing-checkout.');
  end if;
  if running.status in ('past_due', 'unpaid', 'paused') and not is_preview then
    perform kijko.fail('conflict', format('the subscription is %s', running.status), 'Pay the open invoice first, in billing-portal.');
  end if;
  asked := private.billing_plan_arguments(arguments, running);
  -- The trial goes on after a change, so a plan without one would be free until its end.
  if running.status = 'trialing' and (asked.base).trial_days = 0
    and (asked.base).lookup_key is distinct from private.billing_base_item(running.items) ->> 'lookup_key'
  then
    perform kijko.fail('conflict', 'this plan has no trial', 'Change to it when the trial has ended.');
  end if;
  items := private.billing_changed_items(running.items, asked.base, org, asked.overage);
  begin
    proration := private.billing_argument(arguments, 'proration_date', 'number')::bigint;
  exception when invalid_text_representation or numeric_value_out_of_range then
    perform kijko.fail('invalid_input', 'proration_date: must be a time in whole seconds');
  end;
  proration := coalesce(proration, floor(extract(epoch from kijko.now()))::bigint);
  -- As in a preview that the caller has seen; an older one says another amount.
  if abs(proration - extract(epoch from kijko.now())) > 3600 then
    perform kijko.fail('invalid_input', 'proration_date: must be that of a preview of the last hour');
  end if;
  if is_preview then
    return jsonb_build_object('operation', 'preview', 'proration_date', proration, 'invoice', jsonb_build_object(
      'customer', running.customer_id,
      'subscription', running.id,
      'subscription_details', jsonb_build_object('items', items, 'proration_behavior', 'always_invoice', 'proration_date', proration)
    ));
  end if;
  return jsonb_build_object('operation', 'update', 'subscription', running.id, 'update', jsonb_build_object(
    'items', items,
    'proration_behavior', 'always_invoice',
    'proration_date', proration,
    -- An upgrade counts once its invoice is paid.
    'payment_behavior', 'pending_if_incomplete',
    'expand', '["latest_invoice"]'::jsonb
  ));
end
$$;
comment on function private.billing_change(uuid, jsonb, boolean) is 'A change of the running subscription, or the preview of its invoice. Fails with not_found, conflict, invalid_input, unavailable.';

create function private.billing_cancel(org uuid, arguments jsonb, cancels boolean) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  running constant public.stripe_subscriptions := private.billing_subscription(org);
  feedback constant text := private.billing_argument(arguments, 'reason');
  known constant text[] := array[
    'customer_service', 'low_quality', 'missing_features', 'other', 'switched_service', 'too_complex', 'too_expensive', 'unused'
  ];
begin
  perform private.billing_check_arguments(arguments, case when cancels then array['reason', 'comment'] else array[]::text[] end);
  if running.id is null then
    perform kijko.fail('not_found', 'no subscription is running');
  end if;
  if feedback <> all (known) then
    perform kijko.fail('invalid_input', 'reason: must be one of ' || array_to_string(known, ', '));
  end if;
  return jsonb_build_object('operation', 'update', 'subscription', running.id, 'update', jsonb_strip_nulls(jsonb_build_object(
    'cancel_at_period_end', cancels,
    'cancellation_details', case when cancels then jsonb_strip_nulls(jsonb_build_object(
      'feedback', feedback, 'comment', private.billing_argument(arguments, 'comment')
    )) end
  )));
end
$$;
comment on function private.billing_cancel(uuid, jsonb, boolean) is 'The end of the running subscription with its period, or the end of that. Fails with not_found, invalid_input.';

create function private.billing_list(org uuid, arguments jsonb, action text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  size numeric;
begin
  perform private.billing_check_arguments(arguments, '{limit,starting_after}');
  size := coalesce(private.billing_argument(arguments, 'limit', 'number')::numeric, 20);
  if size not between 1 and 100 or size <> trunc(size) then
    perform kijko.fail('invalid_input', 'limit: must be 1 to 100');
  end if;
  return jsonb_build_object('operation', action, 'customer', private.billing_customer(org), 'list', jsonb_strip_nulls(jsonb_build_object(
    'limit', trunc(size)::integer, 'starting_after', private.billing_argument(arguments, 'starting_after')
  )));
end
$$;
comment on function private.billing_list(uuid, jsonb, text) is 'A page of the customer''s invoices or payment methods. Fails with invalid_input.';

create function private.billing_portal(org uuid, arguments jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  customer constant text := private.billing_customer(org);
begin
  perform private.billing_check_arguments(arguments, '{return_url}');
  if customer is null then
    perform kijko.fail('not_found', 'there is no customer at Stripe yet', 'Buy a plan with billing-checkout.');
  end if;
  return jsonb_build_object('operation', 'portal', 'portal', jsonb_strip_nulls(jsonb_build_object(
    'customer', customer,
    'return_url', private.billing_return_url(arguments, 'return_url'),
    'configuration', private.billing_id('portal', 'default')
  )));
end
$$;
comment on function private.billing_portal(uuid, jsonb) is 'A session of Stripe''s customer portal. Fails with not_found, invalid_input.';

-- ----------------------------------------------------------------------------
-- The function that the sidecar calls
-- ----------------------------------------------------------------------------

create function public.authorize_billing(action text, arguments jsonb default '{}') returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  account private.billing_account;
  work jsonb;
begin
  if (action = any ('{checkout,portal,preview,change,cancel,resume,payment_methods,invoices,usage}'::text[])) is not true then
    perform kijko.fail('invalid_input', 'action: there is no such action');
  end if;
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with(case when action in ('payment_methods', 'invoices', 'usage', 'preview') then 'billing:read' else 'billing:write' end);
  if action = 'usage' then
    perform private.billing_check_arguments(arguments, '{}');
    return jsonb_build_object('answer', private.billing_usage(org));
  end if;
  perform private.limit_rate('billing:' || org, 60, interval '1 minute', 'billing: more than %s a minute');
  work := case action
    when 'checkout' then private.billing_checkout(org, arguments)
    when 'portal' then private.billing_portal(org, arguments)
    when 'preview' then private.billing_change(org, arguments, is_preview => true)
    when 'change' then private.billing_change(org, arguments, is_preview => false)
    when 'cancel' then private.billing_cancel(org, arguments, cancels => true)
    when 'resume' then private.billing_cancel(org, arguments, cancels => false)
    else private.billing_list(org, arguments, action)
  end;
  select a.* into account from private.billing_account as a;
  if not found then
    perform kijko.fail('unavailable', 'payments are not set up', 'An operator sets STRIPE_API_KEY.');
  end if;
  return jsonb_build_object('ticket', kijko.seal(
    jsonb_build_object(
      'org_id', org, 'livemode', account.livemode, 'work', work, 'expires_at', extract(epoch from clock_timestamp()) + 30
    )::text,
    'billing/ticket'
  ));
end
$$;
comment on function public.authorize_billing(text, jsonb) is 'Whether the caller may do this with the organization''s subscription; the sidecar asks it for each request to /functions/v1/billing-*. action: checkout, portal, change, cancel, resume (billing:write), preview, payment_methods, invoices, usage (billing:read). Returns {ticket}, which is of use to the sidecar only, or {answer}. Fails with not_identified, not_a_member, permission_denied, invalid_input, not_found, conflict, rate_limited, unavailable. Definer: users have no rights on the tables.';
grant execute on function public.authorize_billing(text, jsonb) to authenticated;

create function private.billing_open(ticket text, livemode boolean) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  opened constant jsonb := kijko.unseal(billing_open.ticket, 'billing/ticket')::jsonb;
begin
  -- A sidecar with the key of another account must not use what was meant for this one.
  if (opened ->> 'expires_at')::numeric <= extract(epoch from clock_timestamp()) or (opened ->> 'livemode')::boolean is distinct from billing_open.livemode then
    return null;
  end if;
  return opened - array['expires_at', 'livemode'];
end
$$;
comment on function private.billing_open(text, boolean) is 'What a ticket of authorize_billing() allows: the organization and the parameters of Stripe''s calls. Null when it has expired or is of the other mode. Nullable: result. Definer: only the domain opens tickets.';
grant execute on function private.billing_open(text, boolean) to kijko_sidecar;
