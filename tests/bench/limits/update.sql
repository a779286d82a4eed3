update public.row set used = used + 1 where subject = '00000000-0000-4000-8000-000000000001' and used + 1 <= "limit";
