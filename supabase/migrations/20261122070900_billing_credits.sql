-- ============================================================================
-- Billing: credit notes and mandates, and the VAT that goes back when a number turns out to have been valid.
-- ============================================================================

create table public.stripe_credit_notes (
  id text not null check (octet_length(id) <= 254),
  livemode boolean not null,
  org_id uuid references public.organizations (id) on delete set null,
  invoice_id text not null check (octet_length(invoice_id) <= 254),
  number text check (octet_length(number) <= 254),
  status text not null check (octet_length(status) <= 100),
  reason text check (octet_length(reason) <= 100),
  total bigint not null,
  currency text not null check (octet_length(currency) <= 10),
  pdf text check (octet_length(pdf) <= 5000),
  vat_credit_id text check (octet_length(vat_credit_id) <= 500),
  as_of timestamptz not null,
  primary key (id, livemode)
);
create index stripe_credit_notes_org_id_idx on public.stripe_credit_notes (org_id);
create index stripe_credit_notes_invoice_id_idx on public.stripe_credit_notes (invoice_id, livemode);
comment on table public.stripe_credit_notes is 'Credit notes in Stripe. Written only by functions.';
comment on column public.stripe_credit_notes.id is 'Stripe''s id.';
comment on column public.stripe_credit_notes.livemode is 'False in Stripe''s test mode.';
comment on column public.stripe_credit_notes.org_id is 'Organization; null while unknown.';
comment on column public.stripe_credit_notes.invoice_id is 'Invoice of which it takes something back.';
comment on column public.stripe_credit_notes.number is 'Number on the credit note.';
comment on column public.stripe_credit_notes.status is 'issued or void.';
comment on column public.stripe_credit_notes.reason is 'duplicate, fraudulent, order_change, product_unsatisfactory, or null.';
comment on column public.stripe_credit_notes.total is 'Total in the smallest unit of the currency.';
comment on column public.stripe_credit_notes.currency is 'Currency.';
comment on column public.stripe_credit_notes.pdf is 'URL of the PDF file.';
comment on column public.stripe_credit_notes.vat_credit_id is 'Row of private.vat_credits for which it was made; null for none.';
comment on column public.stripe_credit_notes.as_of is 'Time of the event that the row shows.';
select private.describe_data('public.stripe_credit_notes', '{
  "livemode, invoice_id, number, status, reason, total, currency, pdf, vat_credit_id, as_of": "what was taken back of invoices"
}');
alter table public.stripe_credit_notes enable row level security;

create table public.stripe_mandates (
  id text not null check (octet_length(id) <= 254),
  livemode boolean not null,
  org_id uuid references public.organizations (id) on delete set null,
  payment_method_id text check (octet_length(payment_method_id) <= 254),
  status text not null check (octet_length(status) <= 100),
  reference text check (octet_length(reference) <= 254),
  as_of timestamptz not null,
  primary key (id, livemode)
);
create index stripe_mandates_org_id_idx on public.stripe_mandates (org_id);
create index stripe_mandates_payment_method_id_idx on public.stripe_mandates (payment_method_id, livemode);
comment on table public.stripe_mandates is 'Mandates by which bank accounts are debited. Written only by functions.';
comment on column public.stripe_mandates.id is 'Stripe''s id.';
comment on column public.stripe_mandates.livemode is 'False in Stripe''s test mode.';
comment on column public.stripe_mandates.org_id is 'Organization; null while the customer of its payment method is unknown.';
comment on column public.stripe_mandates.payment_method_id is 'Bank account.';
comment on column public.stripe_mandates.status is 'active, pending or inactive (withdrawn, or refused by the bank).';
comment on column public.stripe_mandates.reference is 'Reference that the payer''s bank shows.';
comment on column public.stripe_mandates.as_of is 'Time of the event that the row shows.';
select private.describe_data('public.stripe_mandates', '{
  "livemode, payment_method_id, status, reference, as_of": "proves that a bank account may be debited"
}');
alter table public.stripe_mandates enable row level security;

grant select on public.stripe_credit_notes, public.stripe_mandates to authenticated, service_role;
create policy stripe_credit_notes_select on public.stripe_credit_notes for select to authenticated
  using (org_id = any (array(select private.org_ids_with('billing:read'))));
create policy stripe_mandates_select on public.stripe_mandates for select to authenticated
  using (org_id = any (array(select private.org_ids_with('billing:read'))));

create function private.billing_method_organization(method text, livemode boolean) returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select private.billing_customer_organization(m.customer_id, m.livemode)
  from private.billing_payment_methods as m where m.id = method and m.livemode = billing_method_organization.livemode
$$;
comment on function private.billing_method_organization(text, boolean) is 'The organization whose customer has a payment method; null while one of them is unknown. Nullable: result.';

create function private.billing_show_mandates() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.stripe_mandates as m set org_id = private.billing_customer_organization(new.customer_id, new.livemode)
  where m.payment_method_id = new.id and m.livemode = new.livemode;
  return null;
end
$$;
comment on function private.billing_show_mandates() is 'Trigger: a mandate whose event came before that of its bank account belongs to the organization of the account. Definer: only functions write mandates.';
create trigger billing_payment_methods_mandates after insert or update of customer_id on private.billing_payment_methods
  for each row execute function private.billing_show_mandates();

create function private.billing_keep_document(event private.stripe_events) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  o constant jsonb := event.payload #> '{data,object}';
begin
  if event.object_type = 'mandate' then
    insert into public.stripe_mandates as m (id, livemode, org_id, payment_method_id, status, reference, as_of)
    values (
      event.object_id, event.livemode, private.billing_method_organization(private.stripe_id(o -> 'payment_method'), event.livemode),
      private.stripe_id(o -> 'payment_method'), o ->> 'status',
      coalesce(o #>> '{payment_method_details,sepa_debit,reference}', o ->> 'reference'), event.created
    )
    on conflict (id, livemode) do update set
      org_id = coalesce(excluded.org_id, m.org_id), payment_method_id = excluded.payment_method_id, status = excluded.status, reference = coalesce(excluded.reference, m.reference), as_of = excluded.as_of
    -- The later state wins; of one second, the end.
    where excluded.as_of > m.as_of or (excluded.as_of = m.as_of and excluded.status = 'inactive');
    return;
  end if;
  insert into public.stripe_credit_notes as c (id, livemode, org_id, invoice_id, number, status, reason, total, currency, pdf, vat_credit_id, as_of)
  values (
    event.object_id, event.livemode, private.billing_customer_organization(private.stripe_id(o -> 'customer'), event.livemode),
    private.stripe_id(o -> 'invoice'), o ->> 'number', o ->> 'status', o ->> 'reason', coalesce((o ->> 'total')::bigint, 0),
    coalesce(o ->> 'currency', 'eur'), o ->> 'pdf', o #>> '{metadata,kijko_vat_credit}', event.created
  )
  on conflict (id, livemode) do update set
    org_id = coalesce(excluded.org_id, c.org_id), status = excluded.status, pdf = excluded.pdf, as_of = excluded.as_of
  -- Void is final.
  where c.status <> 'void' and (excluded.as_of >= c.as_of or excluded.status = 'void');
end
$$;
comment on function private.billing_keep_document(private.stripe_events) is 'Keeps a credit note or mandate as Stripe has reported it.';

-- ----------------------------------------------------------------------------
-- VAT that goes back
-- ----------------------------------------------------------------------------

create function private.billing_found_vat_credit(of_subject text, credit_note text) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  update private.billing_effects as e
  set state = 'done', error = null, details = e.details || jsonb_build_object('credit_note', credit_note)
  where e.kind = 'vat_credit' and e.subject = of_subject and e.state in ('unknown', 'failed')
$$;
comment on function private.billing_found_vat_credit(text, text) is 'Stripe has the credit note of a request whose answer was lost.';

create function private.billing_credit_vat(max_credits integer default 100) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  due record;
  charged record;
  last private.billing_effects;
  found_note text;
  n integer := 0;
  is_open boolean;
begin
  for due in
    select c.credit_id, c.org_id, c.vat_number, c.charged_from, c.charged_until from private.vat_credits_due() as c
    -- Events of invoices come late.
    where c.charged_until < kijko.now() - interval '5 minutes' and exists (select from private.billing_account) limit max_credits
  loop
    is_open := false;
    for charged in
      select i.id, i.livemode, i.status, i.tax, due.credit_id || ':' || i.id as subject
      from public.stripe_invoices as i join private.billing_account as a on a.livemode = i.livemode
      where i.org_id = due.org_id and i.tax > 0 and i.status in ('paid', 'open')
        and i.created_at >= due.charged_from and i.created_at < due.charged_until
      order by i.id
    loop
      select e.* into last from private.billing_effects as e
      where e.kind = 'vat_credit' and e.subject = charged.subject
      order by e.state = 'done' desc, e.created_at desc limit 1;
      -- A refusal is final, unless it is about the key: an operator credits that invoice.
      continue when last.state = 'done' or (last.state = 'failed' and last.http_status not in (401, 403));
      select c.id into found_note from public.stripe_credit_notes as c
      where c.invoice_id = charged.id and c.livemode = charged.livemode and c.vat_credit_id = due.credit_id::text limit 1;
      if found_note is not null and last.state in ('unknown', 'failed') then
        perform private.billing_found_vat_credit(charged.subject, found_note);
        continue;
      end if;
      is_open := true;
      continue when private.billing_is_recent('vat_credit', charged.subject, '{}');
      -- Without an answer, Stripe is asked first: it takes several credit notes of one invoice.
      if last.state = 'unknown' and not exists (
        select from private.billing_effects as e
        where e.kind = 'vat_credit_check' and e.subject = charged.subject and e.state = 'done' and e.created_at > last.ended_at
      ) then
        if not private.billing_is_recent('vat_credit_check', charged.subject, '{"never": "the same"}') then
          n := n + (private.billing_send(
            'vat_credit_check', charged.subject, due.org_id, 'GET', '/v1/credit_notes', jsonb_build_object('invoice', charged.id, 'limit', 100)
          ) is not null)::integer;
        end if;
        continue;
      end if;
      n := n + (private.billing_send('vat_credit', charged.subject, due.org_id, 'POST', '/v1/credit_notes', jsonb_strip_nulls(jsonb_build_object(
        'invoice', charged.id,
        'lines', jsonb_build_array(jsonb_build_object(
          'type', 'custom_line_item', 'quantity', 1, 'unit_amount', charged.tax, 'description', 'VAT, reverse-charged: ' || due.vat_number
        )),
        -- What was paid goes to the customer's balance and lowers the next invoice.
        'credit_amount', case charged.status when 'paid' then charged.tax end,
        'metadata', jsonb_build_object('kijko_vat_credit', due.credit_id)
      ))) is not null)::integer;
    end loop;
    continue when is_open;
    perform private.vat_credits_settle(due.credit_id, coalesce((
      select left(string_agg(coalesce(e.details ->> 'credit_note', 'refused:' || split_part(e.subject, ':', 2)), ' ' order by e.created_at), 500)
      from private.billing_effects as e where e.kind = 'vat_credit' and starts_with(e.subject, due.credit_id || ':')
        and (e.state = 'done' or (e.state = 'failed' and e.http_status not in (401, 403)))
    ), 'nothing was charged'));
  end loop;
  return n;
end
$$;
comment on function private.billing_credit_vat(integer) is 'Credits the VAT of invoices of times in which a number was valid and not yet known to be: by a credit note for each, whose amount lowers the next invoice. After a request without an answer it asks Stripe for the invoice''s credit notes first; a refusal is final, and an operator''s to settle. Returns how many it asked for.';
