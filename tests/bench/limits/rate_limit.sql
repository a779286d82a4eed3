select (kijko.rate_limit('tenant', 1000000000, '1 second')).allowed;
