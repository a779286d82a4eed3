select (public.constant('tenant', 1000000000, '1 second')).allowed;
