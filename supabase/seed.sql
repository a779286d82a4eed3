-- Development data: prices of well-known models in millionths of a US dollar for a million tokens. Safe to run again;
-- a price that an operator has set or imported stays.
insert into public.llm_models (
  id, input_microusd_per_mtok, output_microusd_per_mtok, cache_read_microusd_per_mtok, cache_write_microusd_per_mtok,
  cache_write_1h_microusd_per_mtok, batch_input_microusd_per_mtok, batch_output_microusd_per_mtok, source
) values
  ('openai/gpt-4o', 2500000, 10000000, 1250000, null, null, 1250000, 5000000, 'seed'),
  ('openai/gpt-4o-mini', 150000, 600000, 75000, null, null, 75000, 300000, 'seed'),
  ('openai/gpt-4.1', 2000000, 8000000, 500000, null, null, 1000000, 4000000, 'seed'),
  ('openai/gpt-4.1-mini', 400000, 1600000, 100000, null, null, 200000, 800000, 'seed'),
  ('openai/gpt-4.1-nano', 100000, 400000, 25000, null, null, 50000, 200000, 'seed'),
  ('anthropic/claude-sonnet-4-5', 3000000, 15000000, 300000, 3750000, 6000000, 1500000, 7500000, 'seed'),
  ('anthropic/claude-haiku-4-5', 1000000, 5000000, 100000, 1250000, 2000000, 500000, 2500000, 'seed'),
  ('gemini/gemini-2.5-flash', 300000, 2500000, 30000, null, null, 150000, 1250000, 'seed'),
  ('gemini/gemini-2.5-flash-lite', 100000, 400000, 10000, null, null, 50000, 200000, 'seed')
on conflict (id) do nothing;
