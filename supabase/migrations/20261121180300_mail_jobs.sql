-- ============================================================================
-- Mail: what the sidecar calls, and what operators do.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- A job and its message
-- ----------------------------------------------------------------------------

create function private.mail_message_of(job public.jobs) returns uuid
language sql immutable set search_path = pg_catalog, pg_temp
return private.as_uuid(job.payload ->> 'mail_id');
comment on function private.mail_message_of(public.jobs) is 'The message that a job is for.';

create function private.mail_lock_of_job(job public.jobs) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  mail constant uuid := private.mail_message_of(job);
begin
  perform 1 from private.mail_messages as m where m.id = mail for no key update skip locked;
  return found or not exists (select 1 from private.mail_messages as m where m.id = mail);
end
$$;
comment on function private.mail_lock_of_job(public.jobs) is 'Locks the message of a locked job, without waiting; false when another transaction holds it. Called by jobs_lock_dependents().';
insert into private.job_dependents (family, lock_function) values ('mail', 'mail_lock_of_job');

create function private.mail_sync_status() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- A job that was cancelled while its worker sent the mail has the server's answer all the same.
  sent constant boolean := new.status = 'succeeded' or coalesce(new.result ? 'smtp_code', false);
begin
  update private.mail_messages as m
  set status = case when sent then 'sent' else 'failed' end,
    smtp_code = coalesce((new.result ->> 'smtp_code')::integer, m.smtp_code),
    error_code = case when not sent then new.error_code end,
    finished_at = clock_timestamp(),
    sealed_data = null
  where m.id = private.mail_message_of(new) and m.status = 'queued';
  return null;
end
$$;
comment on function private.mail_sync_status() is 'Trigger: a mail ends with its job, also when an expired lease ends the job, and loses its links and codes. Runs as postgres inside the job functions.';
create trigger jobs_mail after update of status on public.jobs
  for each row when (old.status <> new.status and new.status in ('succeeded', 'dead', 'cancelled') and split_part(new.kind, '.', 1) = 'mail')
  execute function private.mail_sync_status();

-- ----------------------------------------------------------------------------
-- Worker
-- ----------------------------------------------------------------------------

create function private.mail_start(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_unanswered constant integer := 2;
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  message private.mail_messages;
  mail jsonb;
begin
  if job.id is null then
    return null;
  end if;
  update private.mail_messages as m
  set attempts = m.attempts + 1
  where m.id = private.mail_message_of(job) and m.status = 'queued'
  returning m.* into message;
  if message.id is null then
    return jsonb_build_object('refused', 'mail_gone');
  elsif message.expires_at <= clock_timestamp() then
    return jsonb_build_object('refused', 'mail_expired');
  elsif message.unanswered >= max_unanswered then
    return jsonb_build_object('refused', 'mail_unanswered');
  end if;
  select to_jsonb(r) into mail
  from (
    select message.id, message.template, extract(epoch from message.created_at)::bigint as created, r.recipient, r.subject, r.text, r.html from private.mail_render(message.id) as r
  ) as r;
  return coalesce(mail, jsonb_build_object('refused', 'mail_gone'));
end
$$;
comment on function private.mail_start(text, uuid, integer) is 'Begins an attempt to send the mail of a held job: returns it, or {refused: code} when it is not to be sent: mail_gone, mail_expired, or mail_unanswered (it was handed over twice without an answer, so sending it again could make a second duplicate). Null when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.mail_start(text, uuid, integer) to kijko_sidecar;

create function private.mail_hand_over(worker text, job_id uuid, attempt integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
begin
  update private.mail_messages as m
  set unanswered = m.unanswered + 1
  where m.id = private.mail_message_of(job) and m.status = 'queued' and not job.cancel_requested;
  return found;
end
$$;
comment on function private.mail_hand_over(text, uuid, integer) is 'Records that a worker is about to give the mail''s text to the mail server, after which it may be delivered. False when the lease was lost or the job is to be cancelled: then the worker must not. Definer: the sidecar holds no table rights.';
grant execute on function private.mail_hand_over(text, uuid, integer) to kijko_sidecar;

create function private.mail_report(worker text, job_id uuid, attempt integer, smtp_code integer, answered boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
begin
  update private.mail_messages as m
  set smtp_code = coalesce(mail_report.smtp_code, m.smtp_code),
    unanswered = greatest(m.unanswered - case when mail_report.answered then 1 else 0 end, 0)
  where m.id = private.mail_message_of(job) and m.status = 'queued';
  return found;
end
$$;
comment on function private.mail_report(text, uuid, integer, integer, boolean) is 'Records what the mail server answered in an attempt that failed. answered: the mail had been handed over and the server refused it, so this attempt has not delivered it. False when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.mail_report(text, uuid, integer, integer, boolean) to kijko_sidecar;

create function private.mail_backlog()
returns table (delivery text, queued bigint, oldest_queued_seconds double precision, kept bigint, failed_last_hour bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select
    s.delivery, q.queued, coalesce(greatest(extract(epoch from clock_timestamp() - q.oldest), 0), 0)::double precision,
    (select count(*) from private.mail_messages as m where m.status = 'kept' and m.sealed_data is not null),
    (select count(*) from private.mail_messages as m where m.status = 'failed' and m.finished_at > clock_timestamp() - interval '1 hour')
  from private.mail_settings as s
  cross join (
    select count(*) as queued, min(m.created_at) as oldest from private.mail_messages as m where m.status = 'queued'
  ) as q
$$;
comment on function private.mail_backlog() is 'Whether mails are delivered (smtp or keep), how many wait and how long the oldest of them, how many are kept with their data, and how many were given up in the last hour. Definer: the sidecar holds no table rights.';
grant execute on function private.mail_backlog() to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- Operators
-- ----------------------------------------------------------------------------

create function private.mail_set_delivery(delivery text, site_url text default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs;
begin
  update private.mail_settings as s
  set delivery = mail_set_delivery.delivery, site_url = coalesce(rtrim(mail_set_delivery.site_url, '/'), s.site_url)
  where (s.delivery, s.site_url) is distinct from (mail_set_delivery.delivery, coalesce(rtrim(mail_set_delivery.site_url, '/'), s.site_url));
  if mail_set_delivery.delivery is distinct from 'keep' then
    return;
  end if;
  -- Nobody will send them. Those that a worker has begun end by themselves.
  for job in
    select j.* from public.jobs as j where j.kind = 'mail' and j.status = 'queued' and j.attempt >= 0 order by j.id for update skip locked
  loop
    update private.mail_messages as m set status = 'kept', finished_at = clock_timestamp(), job_id = null
    where m.id = private.mail_message_of(job) and m.status = 'queued';
    perform private.jobs_finish(job, 'cancelled', null, 'cancelled', null);
  end loop;
end
$$;
comment on function private.mail_set_delivery(text, text) is 'Sets whether mails are delivered (smtp) or kept (keep), and the address of the frontend. With keep, mails that wait are kept too. With smtp, kept ones stay where they are.';

create function private.mail_send_kept(id uuid) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  message private.mail_messages;
begin
  update private.mail_messages as m
  set status = 'queued', finished_at = null, expires_at = clock_timestamp() + s.max_age
  from private.mail_settings as s
  where m.id = mail_send_kept.id and m.status = 'kept' and m.sealed_data is not null and s.delivery = 'smtp'
  returning m.* into message;
  if message.id is null then
    return (select m.status from private.mail_messages as m where m.id = mail_send_kept.id);
  end if;
  perform private.mail_queue(message);
  return 'queued';
end
$$;
comment on function private.mail_send_kept(uuid) is 'Queues one kept mail. Returns the status it has now: kept if mails are not delivered, or its data is gone; null if there is no such mail. Nullable: result.';

select private.set_retention('private.mail_messages', null, 'finding out why a mail did not arrive', kept_by => 'private.mail_settings.retention');

create function private.mail_purge(max_rows integer default 100000) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  settings private.mail_settings;
  purged bigint;
begin
  select s.* into settings from private.mail_settings as s;
  update private.mail_messages as m set sealed_data = null
  where m.id = any (array(
    select k.id from private.mail_messages as k
    where k.status = 'kept' and k.sealed_data is not null and k.finished_at < clock_timestamp() - settings.kept_data_for
    order by k.finished_at limit max_rows for update skip locked
  ));
  delete from private.mail_messages as m
  where m.id = any (array(
    select o.id from private.mail_messages as o
    where o.status <> 'queued' and o.created_at < clock_timestamp() - settings.retention
    order by o.created_at limit max_rows for update skip locked
  ));
  get diagnostics purged = row_count;
  return purged;
end
$$;
comment on function private.mail_purge(integer) is 'Clears the data of kept mails after kept_data_for, and deletes messages after retention: the oldest first, at most max_rows of each in one transaction.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-mail-purge', '*/10 * * * *', 'perform private.mail_purge()');
