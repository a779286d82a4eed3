-- Development data: prices of well-known models in millionths of a US dollar for a million tokens. Safe to run again;
-- a price that an operator has set stays.
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, source) values
  ('openai/gpt-4o', 2500000, 10000000, 'seed'),
  ('openai/gpt-4o-mini', 150000, 600000, 'seed'),
  ('openai/gpt-4.1', 2000000, 8000000, 'seed'),
  ('openai/gpt-4.1-mini', 400000, 1600000, 'seed'),
  ('openai/gpt-4.1-nano', 100000, 400000, 'seed')
on conflict (id) do nothing;
