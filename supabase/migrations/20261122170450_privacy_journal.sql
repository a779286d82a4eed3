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
    'customer_address', 'customer_shipping', 'customer_details', 'customer_tax_ids', 'owner', 'card', 'sepa_debit', 'custom_fields'
  ];
  place text;
  content jsonb;
begin
  foreach place in array array['object', 'previous_attributes'] loop
    content := payload #> array['data', place];
    if jsonb_typeof(content) = 'object' then
      content := private.privacy_redact(content, personal) - array['name', 'description'];
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
  select c.id, c.livemode, coalesce(c.org_id, kijko.platform_org_id()), coalesce(c.org_id = any (private.privacy_sole_organizations(request.user_id)), false)
  from public.stripe_customers as c
  where request.organization is null and (
    c.org_id = any (private.privacy_sole_organizations(request.user_id))
    or (
      lower(c.email collate "C") = any (addresses) and private.privacy_had_address(request.user_id, c.email, c.created_at)
      and not private.privacy_is_others(request.user_id, c.email)
    )
  )
$$;
comment on function private.privacy_customers(private.privacy_requests, text[]) is 'Customers at Stripe with an address of the person that no other account has now, and those of organizations that go with them.';

create function private.privacy_erase_customer(customer text, is_live boolean, org uuid, is_sole boolean) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  effect uuid;
begin
  effect := private.billing_send(
    'customer_erasure', customer, org, 'POST', '/v1/customers/' || customer,
    case when is_sole then '{"email": "", "name": "", "phone": "", "address": "", "shipping": ""}'::jsonb else '{"email": ""}'::jsonb end
  );
  update public.stripe_customers as c set email = null, name = case when is_sole then null else c.name end
  where c.id = customer and c.livemode = is_live;
  update private.stripe_events as e set payload = private.privacy_redact_event(e.payload)
  where e.livemode = is_live and (e.object_id = customer or e.payload #>> '{data,object,customer}' = customer)
    and private.privacy_redact_event(e.payload) <> e.payload;
  -- What Stripe was told of the name and address.
  update private.billing_effects as e set details = '{}' where e.kind = 'customer' and e.subject = customer and is_sole;
  -- Another one of this customer may be on its way.
  return coalesce(effect, (
    select e.id from private.billing_effects as e where e.kind = 'customer_erasure' and e.subject = customer and e.state = 'open'
  ));
end
$$;
comment on function private.privacy_erase_customer(text, boolean, uuid, boolean) is 'Takes the person''s address from a customer at Stripe and from what is mirrored here; of an organization that goes with the person name, telephone and postal address, too. Invoices stay. Returns the request to Stripe; null without a Stripe account. Nullable: result.';
