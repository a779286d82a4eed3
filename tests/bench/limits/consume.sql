select (kijko.consume('00000000-0000-4000-8000-000000000001', 'calls', 1)).allowed;
