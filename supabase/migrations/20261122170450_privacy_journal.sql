-- ============================================================================
-- Privacy: what an erasure does outside the rows: the journal, which comes first, proofs, and Stripe.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- The journal, which the sidecar writes
-- ----------------------------------------------------------------------------

create function private.privacy_enqueue_journal(request_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.jobs_enqueue(
    kijko.platform_org_id(), 'privacy_erasure', jsonb_build_object('request_id', privacy_enqueue_journal.request_id),
    priority => 5::smallint, max_attempts => 100, timeout_seconds => 60, unique_key => privacy_enqueue_journal.request_id::text
  );
end
$$;
comment on function private.privacy_enqueue_journal(uuid) is 'Queues the job that writes an erasure into the journal.';

create function private.privacy_start_journal(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request constant private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
begin
  if request.status is distinct from 'journaling' then
    return null;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('id', request.id, 'user_id', request.user_id, 'org_id', request.organization, 'at', kijko.now()));
end
$$;
comment on function private.privacy_start_journal(text, uuid, integer) is 'The entry of the journal for an erasure that is due: {id, user_id, org_id, at}. Null when the lease was lost or it is there already. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_start_journal(text, uuid, integer) to kijko_sidecar;

create function private.privacy_finish_journal(worker text, job_id uuid, attempt integer, entry_sha256 text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  request constant private.privacy_requests := private.privacy_lock(worker, job_id, attempt);
begin
  update private.privacy_requests as r set status = 'journaled', journaled_at = clock_timestamp() where r.id = request.id and r.status = 'journaling';
  if not found then
    return false;
  end if;
  perform private.privacy_prove(request.id, 'journal', 'done', jsonb_build_object('sha256', entry_sha256));
  return true;
end
$$;
comment on function private.privacy_finish_journal(text, uuid, integer, text) is 'Says that an erasure is in the journal, on the disk; false when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.privacy_finish_journal(text, uuid, integer, text) to kijko_sidecar;

create function private.privacy_prove(request_id uuid, target text, state text, details jsonb, due_at timestamptz default null) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into private.privacy_proofs as p (request_id, target, state, details, due_at, proved_at)
  values (
    privacy_prove.request_id, privacy_prove.target, privacy_prove.state, privacy_prove.details, privacy_prove.due_at,
    case when privacy_prove.state <> 'pending' then kijko.now() end
  )
  on conflict on constraint privacy_proofs_pkey do update set
    -- A repetition finds fewer rows than the first time.
    state = excluded.state, details = excluded.details || (p.details - array['effects', 'xid', 'looked_at', 'seen_at']), due_at = excluded.due_at, proved_at = excluded.proved_at
$$;
comment on function private.privacy_prove(uuid, text, text, jsonb, timestamptz) is 'Records what an erasure did at a place.';

-- ----------------------------------------------------------------------------
-- Stripe: the address goes, invoices stay
-- ----------------------------------------------------------------------------

create function private.privacy_redact(content jsonb, personal text[]) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  case jsonb_typeof(content)
    when 'object' then
      return coalesce((
        select jsonb_object_agg(e.key, private.privacy_redact(e.value, personal))
        from jsonb_each(content) as e where e.key <> all (personal)
      ), '{}');
    when 'array' then
      return coalesce((
        select jsonb_agg(private.privacy_redact(e.value, personal) order by e.place)
        from jsonb_array_elements(content) with ordinality as e (value, place)
      ), '[]');
    else
      return content;
  end case;
end
$$;
comment on function private.privacy_redact(jsonb, text[]) is 'JSON without these keys, however deep.';

create function private.privacy_redact_event(payload jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  personal constant text[] := array[
    'email', 'phone', 'address', 'shipping', 'shipping_details', 'billing_details', 'receipt_email', 'customer_email', 'customer_name', 'customer_phone',
    'customer_address', 'customer_shipping', 'customer_details', 'customer_tax_ids', 'owner', 'card', 'sepa_debit', 'custom_fields',
    'business_name', 'individual_name', 'verification'
  ];
  place text;
  content jsonb;
begin
  foreach place in array array['object', 'previous_attributes'] loop
    content := payload #> array['data', place];
    if jsonb_typeof(content) = 'object' then
      content := private.privacy_redact(content, personal) - array['name', 'description'];
      -- The number itself. An update has it among what was there before.
      if payload #>> '{data,object,object}' = 'tax_id' then
        content := content - 'value';
      end if;
      -- Of what others wrote there only the organization is known to be none of the person's data.
      if jsonb_typeof(content -> 'metadata') = 'object' then
        content := content || jsonb_build_object('metadata', coalesce(
          (select jsonb_object_agg(m.key, m.value) from jsonb_each(content -> 'metadata') as m where m.key in ('org_id', 'kijko_report')), '{}'
        ));
      end if;
      payload := jsonb_set(payload, array['data', place], content);
    end if;
  end loop;
  return payload;
end
$$;
comment on function private.privacy_redact_event(jsonb) is 'An event of Stripe without what it says about a person, however deep.';

create function private.privacy_customers(request private.privacy_requests, addresses text[]) returns table (id text, livemode boolean, organization uuid, is_sole boolean)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- Once, and not for each customer.
  with sole as materialized (select private.privacy_sole_organizations(request.user_id) as orgs)
  select c.id, c.livemode, coalesce(c.org_id, kijko.platform_org_id()), coalesce(c.org_id = any (sole.orgs), false)
  from public.stripe_customers as c cross join sole
  where request.organization is null and (
    c.org_id = any (sole.orgs)
    or (
      lower(c.email collate "C") = any (addresses) and private.privacy_had_address(request.user_id, c.email, c.created_at)
      and not private.privacy_is_others(request.user_id, c.email)
    )
  )
$$;
comment on function private.privacy_customers(private.privacy_requests, text[]) is 'Customers at Stripe with an address of the person that no other account has now, and those of organizations that go with them.';

create function private.privacy_send(kind text, subject text, org uuid, method text, path text, parameters jsonb) returns uuid
language sql set search_path = pg_catalog, pg_temp
as $$
  -- Another one of this subject may be on its way.
  select coalesce(
    private.billing_send(kind, subject, org, method, path, parameters),
    (select e.id from private.billing_effects as e where e.kind = privacy_send.kind and e.subject = privacy_send.subject and e.state = 'open')
  )
$$;
comment on function private.privacy_send(text, text, uuid, text, text, jsonb) is 'As private.billing_send(), and returns the open request of this kind and subject if there is one. Nullable: result.';

create function private.privacy_erase_customer(customer text, is_live boolean, org uuid, is_sole boolean) returns uuid[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  effects uuid[];
begin
  if (select a.livemode from private.billing_account as a) is not distinct from is_live then
    -- What was to tell Stripe of name, address and number must not come after this.
    if is_sole then
      perform kijko.http_cancel(e.request_id) from private.billing_effects as e
      where e.kind in ('customer', 'tax_id') and e.subject = customer and e.state = 'open';
    end if;
    -- Two subjects: one of which only the address goes must not stand for one of which all goes.
    effects := array[private.privacy_send('customer_erasure', customer || case when is_sole then '' else ':email' end, org, 'POST', '/v1/customers/' || customer, case
      when is_sole then '{"email": "", "name": "", "phone": "", "address": "", "shipping": "", "description": "", "metadata": "",
        "business_name": "", "individual_name": ""}'::jsonb
      else '{"email": ""}'
    end)];
    if is_sole then
      effects := effects || array(
        select private.privacy_send('tax_id_removal', t.id, org, 'DELETE', format('/v1/customers/%s/tax_ids/%s', customer, t.id), '{}')
        from private.billing_tax_ids as t where t.customer_id = customer and t.livemode = is_live and not t.deleted order by t.id
      );
    end if;
  end if;
  update public.stripe_customers as c set email = null, name = case when is_sole then null else c.name end
  where c.id = customer and c.livemode = is_live;
  update private.stripe_events as e set payload = private.privacy_redact_event(e.payload)
  where e.livemode = is_live and (e.object_id = customer or e.payload #>> '{data,object,customer}' = customer)
    and private.privacy_redact_event(e.payload) <> e.payload;
  if is_sole then
    update private.billing_tax_ids as t set value = '' where t.customer_id = customer and t.livemode = is_live;
    -- What Stripe was told of the name and address.
    update private.billing_effects as e set details = '{}' where e.kind in ('customer', 'tax_id') and e.subject = customer;
  end if;
  return coalesce(effects, array[null::uuid]);
end
$$;
comment on function private.privacy_erase_customer(text, boolean, uuid, boolean) is 'Takes the person''s address from a customer at Stripe and from what is mirrored here; of an organization that goes with the person name, telephone, postal address, metadata and VAT numbers, too. Invoices stay. Returns the requests to Stripe; null for one without a Stripe account of its mode.';

create function private.privacy_erase_own_customers(person uuid) returns uuid[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  customer record;
  effects uuid[] := '{}'::uuid[];
begin
  for customer in
    select c.id, c.livemode, c.org_id from public.stripe_customers as c where c.org_id = any (private.privacy_sole_organizations(person))
  loop
    effects := effects || private.privacy_erase_customer(customer.id, customer.livemode, customer.org_id, true);
  end loop;
  return effects;
end
$$;
comment on function private.privacy_erase_own_customers(uuid) is 'Erases the customers at Stripe of organizations that go with a person, and returns the requests.';

create function private.privacy_check_customer(effect private.billing_effects, body jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Not what it says: only which fields.
  update private.billing_effects as e set state = 'failed', error = 'Stripe still has: ' || kept.fields
  from (
    select string_agg(f.name, ', ') as fields
    from unnest(case
      when effect.subject like '%:email' then array['email']
      else array['email', 'name', 'phone', 'address', 'shipping', 'description', 'business_name', 'individual_name']
    end) as f (name)
    where jsonb_typeof(body) is distinct from 'object' or coalesce(body ->> f.name, '') <> ''
  ) as kept
  where e.id = effect.id and kept.fields is not null;
end
$$;
comment on function private.privacy_check_customer(private.billing_effects, jsonb) is 'Takes an erasure at Stripe as failed if the customer in the answer still has what was to be erased.';

create function private.privacy_redact_arriving() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  customer constant text := case new.object_type when 'customer' then new.object_id else private.stripe_customer_of(new.payload #> '{data,object}') end;
  erasure private.billing_effects;
  is_sole boolean;
begin
  select e.* into erasure from private.billing_effects as e
  where e.kind = 'customer_erasure' and e.subject in (customer, customer || ':email') and e.livemode = new.livemode
  order by e.subject = customer desc, e.ended_at desc nulls first limit 1;
  if erasure.id is null then
    return new;
  end if;
  if tg_when = 'BEFORE' and new.object_type is distinct from 'customer' then
    perform set_config('stripe.redacted_event', new.id, true);
    return new;
  end if;
  is_sole := erasure.subject = customer;
  -- Of an organization that goes on only what Stripe tells of before: what it writes later is its own.
  if not is_sole and new.created > erasure.ended_at and (new.payload #>> '{request,idempotency_key}' = erasure.request_id::text) is not true then
    return new;
  end if;
  if tg_when = 'AFTER' then
    -- Applied are the words of Stripe, such as the country of a card. Kept are those without the person.
    update private.stripe_events as e set payload = private.privacy_redact_event(e.payload) where e.id = new.id and e.livemode = new.livemode;
  elsif is_sole then
    new.payload := private.privacy_redact_event(new.payload);
  else
    new.payload := (new.payload #- '{data,object,email}') #- '{data,previous_attributes,email}';
  end if;
  return new;
end
$$;
comment on function private.privacy_redact_arriving() is 'Trigger: an event about an erased customer of Stripe is kept without the person. That of the erasure itself says what was there before. Definer: who stores events reads no effects.';
create trigger stripe_events_privacy before insert on private.stripe_events
  for each row execute function private.privacy_redact_arriving();
-- What the first one has found. For every event this one would read the row again from the table, and decompress its payload.
create trigger stripe_events_privacy_other after insert on private.stripe_events
  for each row when (new.id = current_setting('stripe.redacted_event', true)) execute function private.privacy_redact_arriving();
