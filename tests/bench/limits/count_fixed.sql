-- What the run adds is outside the window, so that it stays as large as it was.
insert into public.events (subject, at) select '00000000-0000-4000-8000-000000000001', now() - interval '1 hour' where (select count(*) from public.events where subject = '00000000-0000-4000-8000-000000000001' and at > now() - interval '1 minute') < 1000000;
