select public.insert_counted();
