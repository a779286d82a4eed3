-- From the synthetic predecessor 0.0.1: what assemble_upgrade.mjs cannot derive.
alter table kijko.ledger_partitions
    add column detached_at timestamptz check (detached_at is null or rolled_at is not null);
insert into kijko.error_codes (code, http_status, sqlstate, meaning)
values ('invalid_api_key', 401, 'KJ401', 'This API key is unknown, revoked or expired.');
