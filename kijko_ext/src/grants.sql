-- No role may execute any function but those granted here. Functions for named roles are granted by the platform, not by
-- the extension, which must install where those roles do not exist.
revoke all on all functions in schema kijko from public;

-- Harmless readers, and what expressions that anybody may write need: policies, domain checks, refusals, indexes. pg_restore builds
-- indexes before it grants what the platform has granted.
grant execute on function
    kijko.claims(),
    kijko.claim(text),
    kijko.actor(),
    kijko.api_key_id(),
    kijko.api_key_permissions(),
    kijko.authenticate_api_key(),
    kijko.authenticate_issuer_token(),
    kijko.user_id(),
    kijko.session_id(),
    kijko.now(),
    kijko.platform_org_id(),
    kijko.requested_org_id(),
    kijko.is_request(),
    kijko.entitled(uuid, text),
    kijko.flag_enabled(text, jsonb, text),
    kijko.flag_variant(text, jsonb, text),
    kijko.request_header(text),
    kijko.client_address(),
    kijko.client_network(),
    kijko.subject(text, uuid),
    kijko.token_fault(),
    kijko.response_headers(),
    kijko.add_header(text, text),
    kijko.fail(text, text, text),
    kijko.admit_cached_member(),
    kijko.admit_known_request(),
    kijko.check_request(),
    kijko.seal_key_id(text),
    kijko.cron_problem(text, text),
    kijko.cron_check(text, text),
    kijko.cron_next_unchecked(text, text, timestamptz),
    kijko.cron_next(text, text, timestamptz),
    kijko.cron_latest_unchecked(text, text, timestamptz),
    kijko.cron_latest(text, text, timestamptz),
    kijko.cron_upcoming_unchecked(text, text, timestamptz, integer),
    kijko.cron_upcoming(text, text, timestamptz, integer),
    kijko.json_fits(jsonb, integer),
    kijko.text_grams(text, uuid),
    kijko.name_grams(text, uuid)
to public;
