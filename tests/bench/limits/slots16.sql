\set slot random(0, 15)
update public.slots set used = used + 1 where slot = :slot and used + 1 <= "limit";
