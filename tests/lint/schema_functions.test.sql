-- Schema lint: what every function must be like, and who may call it.
begin;
\ir schema_catalog.sql

create view pg_temp.offences as
  select 'function without comment' as rule, f.name as object from pg_temp.functions as f where obj_description(f.oid, 'pg_proc') is null
  union all
  select 'function executable by everybody', f.name
  from pg_temp.functions as f
  where f.proacl is null or exists (select 1 from aclexplode(f.proacl) as x where x.grantee = 0)
  union all
  select 'definer function whose names a search_path can capture', f.name
  from pg_temp.functions as f
  where f.prosecdef and f.prosqlbody is null and not pg_temp.has_fixed_path(f.proconfig)
  union all
  -- A procedure that commits may not have a "set" clause; it qualifies every name instead.
  select 'function whose names a search_path can capture', f.name
  from pg_temp.functions as f
  where f.prokind <> 'p' and f.prosqlbody is null and not pg_temp.has_fixed_path(f.proconfig)
  union all
  select 'definer function without its reason in the comment', f.name
  from pg_temp.functions as f
  where f.prosecdef and coalesce(obj_description(f.oid, 'pg_proc'), '') not like '%Definer:%'
  union all
  select 'definer function of a superuser', f.name
  from pg_temp.functions as f
  join pg_roles as r on r.oid = f.proowner
  where f.prosecdef and r.rolsuper
  union all
  -- errors
  select 'code of kijko.fail that is not in kijko.error_codes', f.name || ' ' || m.code[1]
  from pg_temp.functions as f
  cross join lateral regexp_matches(f.prosrc, 'kijko\.fail\(\s*''([^'']*)''', 'g') as m (code)
  where not exists (select 1 from kijko.error_codes as c where c.code = m.code[1])
  union all
  select 'raises an exception past kijko.fail', f.name
  from pg_temp.functions as f
  where f.prosrc ~* '\mraise\s+(exception|sqlstate|''|using)'
  union all
  -- Most collations turn letters beyond ASCII into others: a Kelvin sign into a k, and so an address into another person's.
  select 'lowers an address beyond ASCII', f.name
  from pg_temp.functions as f
  where f.prosrc ~* '\mlower\((?![^;\n]*\mcollate "C")[^;\n]*(email|address)'
  union all
  select 'renders a value to measure it: use private.json_fits()', f.name
  from pg_temp.functions as f
  where f.name <> all (pg_temp.measuring_text())
    and coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) ~ 'octet_length\([^;\n]*::text\)+ *[<>]'
  union all
  -- SQL is parsed when the function is made. On self-hosted Supabase these services make their tables when they first start.
  select 'SQL of a table that may not be there yet: use to_regclass() or plpgsql', f.name
  from pg_temp.functions as f
  join pg_language as l on l.oid = f.prolang
  where l.lanname = 'sql'
    and regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc), 'to_reg\w+\([^)]*\)', '', 'g') ~ '\m(realtime|storage)\.';

select plan(10);
select is_empty('select rule, object from pg_temp.offences order by 1, 2', 'no offences');

-- ---- who may call what: a new grant is a decision, made here as well
create function pg_temp.callable(role text) returns setof text language sql stable as $$
  select f.name from pg_temp.functions as f where has_function_privilege(role, f.oid, 'execute') order by 1
$$;
select results_eq(
  $$select pg_temp.callable('anon')$$,
  array['authorize_function(text)', 'before_request()', 'blog_feed(text,text,text)', 'private.requests_admit()', 'private.requests_admit_issuer_caller()',
    'private.requests_admit_unknown()', 'private.storage_list_roots(text)', 'published_post(text,text,text)',
    'published_posts(text,text,text,timestamp with time zone,integer)'],
  'what anon may call'
);
select results_eq(
  $$select pg_temp.callable('authenticated')$$,
  array[
    'accept_invitation(text)',
    'active_org_id(profiles)',
    'add_research_source(uuid,text,text,text,text,timestamp with time zone)',
    'analytics_funnel(jsonb)', 'analytics_retention(jsonb)', 'analytics_series(jsonb)',
    'approve_change(uuid,text)',     'archive_notifications(uuid[],boolean)',
    'archive_project(uuid)',
    'authorize_billing(text,jsonb)',
    'authorize_function(text)',
    'authorize_llm_call(text,text,bigint,bigint,integer,integer,uuid,uuid,text[],text,uuid)',
    'before_request()',
    'begin_connection(text,text[],text,uuid)',
    'blog_feed(text,text,text)',
    'can(uuid,text)',
    'cancel_erasure(uuid)', 'cancel_execution(uuid)',
    'cancel_executions(uuid[])',
    'cancel_flag_change(uuid)', 'cancel_indexing(uuid)', 'cancel_ingestion(uuid)', 'cancel_social_post(uuid)', 'change_flag(text,text,jsonb,text,timestamp with time zone)',
    'check_prompt(text,text,integer)',
    'check_skill(uuid,text,jsonb)',
    'check_vat_number()',
    'claim_export(text)', 'code_candidates(jsonb,text[],text,uuid,text,integer,text)',
    'code_overview(uuid,text)',
    'compare_post_revisions(uuid,integer,integer)',
    'compare_prompt_versions(text,integer,integer,timestamp with time zone,timestamp with time zone)',
    'complete_connection(text)', 'confirm_erasure(uuid,text)', 'confirm_social_post(uuid,text)',
    'content_cost_report(text,timestamp with time zone,timestamp with time zone,integer)',
    'create_api_key(text,jsonb,text,integer,bigint,timestamp with time zone,bigint,text[])',
    'create_organization(text)',
    'create_post(text,jsonb,uuid,text,uuid)',
    'decline_invitation(text)',
    'delete_account()',
    'delete_image(uuid)', 'delete_post(uuid)', 'delete_project_file(uuid)',
    'delete_prompt(text)',
    'delete_secret(text)',
    'delete_skills(uuid[])',
    'describe_cron(text,text)',
    'diff_skill_versions(uuid,integer,integer)',
    'draft_post(uuid,integer,text,text,text)',
    'duplicate_skill(uuid,text)', 'embed_topic(uuid,text)', 'end_session(uuid)',
    'enroll_issuer(text,text[],text[],jsonb,text,text,text,text[],boolean)',
    'entitled(text)',
    'execute_skill(uuid,jsonb,text)',
    'execution_detail(uuid)',
    'execution_stats(text,text,text,timestamp with time zone,timestamp with time zone,uuid,uuid,uuid,uuid)',
    'explain_access(uuid,text,text,uuid)',
    'explain_limit(uuid,text)',
    'export_audit_log(uuid,bigint,integer)',
    'export_skills(uuid[])', 'flag_definitions(text,bigint)', 'flags(jsonb,text)',
    'generate_image(uuid,integer,text,text,text,text,text)', 'get_prompt(text,text,integer)',
    'habit_stats(uuid,timestamp with time zone,timestamp with time zone)',
    'has_role(uuid,text)', 'image_url(images)',
    'import_research(jsonb,boolean)',
    'import_skills(jsonb,text)',
    'index_repository(uuid,text)',
    'ingest_usage(jsonb)',
    'ingestion_status(uuid)',
    'invite_member(text,text,uuid)',
    'last_used_at(api_keys)',
    'leave_organization(uuid)',
    'list_code_files(uuid,text,text,text,integer)',
    'list_connection_providers()',
    'list_consents()', 'list_file_symbols(uuid,text,text)',
    'list_issuers()',
    'list_llm_models()',
    'list_notification_preferences()',
    'list_notifications(text,integer,uuid,boolean)',
    'list_privacy_requests()', 'list_prompts(text,text,text,text,text,integer,integer,timestamp with time zone,timestamp with time zone,boolean)',
    'list_sessions()',
    'list_topics(text,text,integer,integer)',
    'list_webhook_attempts(uuid)',
    'list_webhook_deliveries(uuid,text,uuid,integer)',
    'llm_budget_usage(uuid)',
    'llm_usage(text,timestamp with time zone,timestamp with time zone)',
    'mark_read(uuid[],boolean)',
    'mark_seen(uuid[])',
    'notify(text,text,text,text,jsonb,uuid,text)',
    'open_export(uuid)', 'org_id()',
    'org_ids()',
    'permissions()',
    'post_seo(uuid)',
    'preview_cron(text,text,integer)',
    'preview_habit(uuid,integer)', 'preview_social_post(uuid)', 'private.blog_is_member_list(uuid[])',
    'private.code_usage_of(uuid)', 'private.executions_attempts(uuid,uuid)',
    'private.files_is_writable(text)',
    'private.has_visible_text(text)', 'private.is_name(text)', 'private.json_fits(jsonb,integer)', 'private.llm_is_target_list(text[])',
    'private.notifications_granted()',
    'private.notifications_topic_is_readable(text)',
    'private.notifications_topic_is_writable(text,text)',
    'private.org_ids_with(text)',
    'private.projects_hidden_ids()',
    'private.projects_is_managed(uuid)',
    'private.projects_is_visible(uuid)',
    'private.projects_is_writable(uuid)',
    'private.projects_unwritable_ids()',
    'private.prompts_uses(uuid,timestamp with time zone,timestamp with time zone)',
    'private.reflexes_is_shallow(jsonb)',
    'private.requests_admit()',
    'private.requests_admit_issuer_caller()',
    'private.requests_admit_unknown()',
    'private.skills_hidden_ids()',
    'private.skills_is_tag_list(text[])',
    'private.skills_is_token_limit(jsonb)',
    'private.skills_is_visible(uuid)',
    'private.skills_is_writable(uuid)',
    'private.skills_model_problems(text,jsonb)',
    'private.skills_unwritable_ids()',
    'private.social_is_deletable(text)',
    'private.storage_list_roots(text)',
    'private.storage_org_id(text)',
    'private.storage_segment_id(text,integer)',
    'private.tenancy_colleague_ids()',
    'private.tenancy_org_ids_as(text)',
    'private.tenancy_person_id()',
    'private.tenancy_refuse_closed()',
    'private.topics_canonical_url(text)',
    'private.topics_hash(text)',
    'private.topics_host(text)',
    'private.topics_is_language(text)',
    'private.topics_is_url(text)',
    'private.topics_is_word_list(text[])',
    'private.topics_title_key(text)',
    'private.webhooks_is_filter(jsonb)',
    'project_stats(uuid,timestamp with time zone,timestamp with time zone)',
    'prompt_stats(text,timestamp with time zone,timestamp with time zone)',
    'provision()',
    'publish_post(uuid,integer)',
    'published_post(text,text,text)',
    'published_posts(text,text,text,timestamp with time zone,integer)',
    'push_prompt(text,jsonb,text,text,jsonb,text,jsonb,text,text[],text,integer)',
    'read_code_file(uuid,text,text,integer,integer)',
    'record_consent(text,text,boolean)', 'record_flag_evaluations(jsonb,text,jsonb)', 'recover_webhooks(uuid,timestamp with time zone)',
    'redeliver_reflex_delivery(uuid)',
    'redeliver_webhook(uuid,uuid)',
    'reflex_stats(uuid,timestamp with time zone,timestamp with time zone)', 'register_flag_application(jsonb,text)',
    'reject_change(uuid,text)',
    'remove_issuer(uuid)',
    'request_erasure(uuid,uuid)', 'request_export(uuid,uuid)', 'resend_invitation(uuid)', 'resend_social_post(uuid)', 'restore_post_revision(uuid,integer,integer)',
    'restore_project(uuid)',
    'restore_project_file(uuid,integer)',
    'restore_skill_version(uuid,integer)',
    'retried_execution(executions)',
    'retries(executions)',
    'retry_execution(uuid)',
    'retry_executions(uuid[])',
    'retry_indexing(uuid)',
    'revoke_api_key(uuid)',
    'revoke_invitation(uuid)',
    'rotate_api_key(uuid,interval)',
    'rotate_reflex_secret(uuid,text,interval)',
    'rotate_repository_secret(uuid,interval)',
    'rotate_webhook_secret(uuid,interval)',
    'run_analytics_query(uuid)', 'run_discovery(uuid)',
    'run_habit(uuid)',
    'save_post(uuid,integer,jsonb,text)',
    'schedule_post(uuid,integer,timestamp with time zone)', 'schedule_social_post(uuid,timestamp without time zone,text)', 'score_topic(uuid)',
    'search_code(text,boolean,boolean,integer,text[],text,uuid,text,integer)',
    'search_documents(text,text[],text,uuid,integer,integer)',
    'search_skills(text,text[],uuid,boolean,integer,integer)',
    'search_symbols(text,text[],text[],text,uuid,text,real,integer,text[])',
    'secret(api_keys)',
    'send_test_webhook(uuid)',
    'service_levels(timestamp with time zone,timestamp with time zone,uuid)', 'set_active_organization(uuid)',
    'set_blog_settings(text,text,text,boolean,integer)',
    'set_connection_application(text,text,text)', 'set_digest_time(text,integer)', 'set_flag_environment(text,boolean)', 'set_flag_segment(text,jsonb,text)', 'set_image_alt_text(uuid,text)', 'set_llm_provider_key(uuid,text)',
    'set_llm_settings(boolean,boolean,integer)',
    'set_notification_preference(text,boolean,text,uuid)',
    'set_prompt_label(text,text,integer,text)',
    'set_prompt_settings(boolean,text[],integer)',
    'set_secret(text,text)', 'set_social_settings(text,boolean,integer)', 'signing_secret(reflexes)', 'similar_sources(uuid,integer)',
    'skill_stats(uuid,timestamp with time zone,timestamp with time zone)', 'social_calendar(date,date)', 'stale_flags(text,uuid)', 'start_ingestion(uuid)',
    'submit_post(uuid,integer,text)', 'submit_social_post(uuid,text)', 'symbol_graph(text,text,uuid,text,text,integer,text[],text,integer)',
    'test_reflex(uuid,jsonb,text,jsonb,boolean)',
    'test_skill(uuid,jsonb,boolean)',
    'track(jsonb)', 'transfer_ownership(uuid,uuid)',
    'unpublish_post(uuid)',
    'unread_count()',
    'unschedule_post(uuid)',
    'update_issuer(uuid,jsonb)',
    'update_skills(uuid[],boolean,uuid,boolean)',
    'usage_alerts(timestamp with time zone)',
    'usage_by(text,text,date,date)',
    'usage_forecast()', 'usage_metrics(timestamp with time zone,timestamp with time zone)', 'usage_summary()',
    'validate_project(uuid)',
    'vat_treatment()',
    'verify_audit_chain(uuid,bigint,bigint,bigint,text)',
    'webhook_secret(webhook_endpoints)',
    'withdraw_change(uuid)'
  ],
  'what a user may call'
);
select results_eq(
  $$select pg_temp.callable('kijko_sidecar')$$,
  array[
    'private.billing_catalogue()',
    'private.billing_compare(jsonb,boolean,text)', 'private.billing_compare_customers(jsonb,boolean)',
    'private.billing_end_session(text,boolean,text)',
    'private.billing_open(text,boolean)',
    'private.billing_record_customer(uuid,boolean,text,text)',
    'private.billing_record_object(text,text,boolean,text)',
    'private.billing_record_session(uuid,boolean,text,boolean)',
    'private.billing_register(text,text,boolean,text)',
    'private.blog_end_render(text,uuid,integer)',
    'private.blog_finish_draft(text,uuid,integer,jsonb)', 'private.blog_finish_image(text,uuid,integer,jsonb)',
    'private.blog_record_render(uuid,text,text,integer)',
    'private.blog_start_draft(text,uuid,integer)', 'private.blog_start_image(text,uuid,integer)',
    'private.blog_start_render(uuid,text)',
    'private.connections_authorized(uuid,jsonb)',
    'private.connections_claim_revocations()',
    'private.connections_end_revocation(uuid)',
    'private.connections_fail(uuid,text,text)',
    'private.connections_refresh_failed(uuid,integer,boolean,boolean,text)',
    'private.connections_refreshed(uuid,integer,jsonb)',
    'private.connections_register_providers(jsonb)',
    'private.connections_reject(uuid,uuid,integer)',
    'private.connections_start_refresh(text,uuid,integer)',
    'private.connections_take_state(text,text)',
    'private.connections_take_ticket(text,text,text)',
    'private.connections_use(uuid,uuid)', 'private.documents_next_files(text,uuid,integer)', 'private.documents_store_files(text,uuid,integer,jsonb,jsonb)',
    'private.executions_fail(text,uuid,text,text,boolean,interval,integer,jsonb,boolean)',
    'private.executions_finish(text,uuid,jsonb,integer)',
    'private.executions_record_call(text,uuid,integer,jsonb)',
    'private.executions_reserve_call(text,uuid,integer,jsonb)',
    'private.executions_start(text,uuid,integer)',
    'private.executions_stream_text(text,uuid,integer,integer,text)',
    'private.files_open(text,uuid,integer)',
    'private.flags_count(uuid,text,jsonb)', 'private.functions_open(text)',
    'private.issuers_backlog()',
    'private.jobs_add_event(text,uuid,text,jsonb)',
    'private.jobs_claim(text,interval,integer,text[])',
    'private.jobs_complete(text,jsonb)',
    'private.jobs_fail(text,uuid,text,text,boolean,interval,integer,boolean)',
    'private.jobs_heartbeat(text,uuid[],interval)',
    'private.jobs_release(text,uuid[])',
    'private.jobs_requeue_expired()',
    'private.jobs_stats()',
    'private.llm_gateway_key(uuid)', 'private.llm_gateway_pass()', 'private.llm_is_calling(uuid)', 'private.llm_open(text)', 'private.llm_raise(uuid,integer,jsonb)', 'private.llm_settle_many(uuid[],jsonb)',
    'private.mail_backlog()',
    'private.mail_hand_over(text,uuid,integer)',
    'private.mail_report(text,uuid,integer,integer,boolean)',
    'private.mail_start(text,uuid,integer)',
    'private.models_report_providers(text[])',
    'private.notifications_emit_thresholds(integer)',
    'private.observability_log_position(text)', 'private.observability_record_requests(text,bigint,bigint,jsonb)',
    'private.observability_retained_wal()',
    'private.privacy_backlog()', 'private.privacy_export_piece(text,uuid,integer,integer)', 'private.privacy_finish_export(text,uuid,integer,bigint,text)', 'private.privacy_finish_journal(text,uuid,integer,text)', 'private.privacy_object_ticket(text,uuid,integer,uuid)', 'private.privacy_read_export(uuid)', 'private.privacy_start_export(text,uuid,integer)', 'private.privacy_start_journal(text,uuid,integer)', 'private.privacy_store_ticket(text,uuid,integer)', 'private.prompts_end_check(text,uuid,integer)',
    'private.prompts_record_check(uuid,jsonb)',
    'private.prompts_start_check(uuid)',
    'private.reflexes_finish(text,uuid,integer,jsonb)',
    'private.reflexes_ingest(uuid,text,jsonb,text,text,text)',
    'private.reflexes_ingest_github(uuid,text,jsonb,text,text,text)',
    'private.reflexes_rejected(uuid)',
    'private.reflexes_repository_secrets(uuid)',
    'private.reflexes_start(text,uuid,integer)',
    'private.reflexes_verifier(uuid)',
    'private.requests_admit_external(text,text,text)',
    'private.skills_end_check(text,uuid,integer)',
    'private.skills_estimate_cost(text,bigint,bigint,text)',
    'private.skills_record_check(uuid,integer,jsonb)',
    'private.skills_start_check(uuid)', 'private.social_begin(text,uuid,integer)', 'private.social_charge_reads(uuid,uuid,integer)', 'private.social_end_job(text,uuid,integer)',
    'private.social_failed(text,uuid,integer,text,text,text,integer,double precision)', 'private.social_lost(uuid,text,text,integer)',
    'private.social_not_found(uuid,boolean,text)', 'private.social_prepared(text,uuid,integer,jsonb)', 'private.social_published(uuid,text,text,integer)', 'private.social_record_measurement(text,uuid,integer,jsonb)',
    'private.social_refused(uuid,text,text,text,integer,double precision)', 'private.social_start_create(text,uuid,integer,uuid,double precision)',
    'private.stripe_backlog()',
    'private.stripe_ingest_event(jsonb)', 'private.stripe_ingest_events(jsonb[])',
    'private.topics_finish_embedding(text,uuid,integer,jsonb)', 'private.topics_finish_run(text,uuid,integer,jsonb)', 'private.topics_score_embedded(uuid)',
    'private.topics_start_embedding(text,uuid,integer)', 'private.topics_start_run(text,uuid,integer)',
    'private.webhooks_outbox_backlog()'
  ],
  'what the sidecar may call'
);
select results_eq(
  $$select pg_temp.callable('kijko_indexer')$$,
  array[
    'private.code_index_begin(text,uuid,integer)',
    'private.code_index_commit(text,uuid,integer,text,timestamp with time zone)',
    'private.code_index_fail(text,uuid,integer,text,text,boolean)',
    'private.code_index_known(uuid[])', 'private.code_index_missing(text,uuid,integer,text[],text[],boolean[])',
    'private.code_index_progress(text,uuid,integer,text,integer,integer)',
    'private.code_index_put(text,uuid,integer,jsonb)',
    'private.code_index_stage(text,uuid,integer,boolean,jsonb)',
    'private.jobs_add_event(text,uuid,text,jsonb)',
    'private.jobs_claim(text,interval,integer,text[])',
    'private.jobs_complete(text,jsonb)',
    'private.jobs_fail(text,uuid,text,text,boolean,interval,integer,boolean)',
    'private.jobs_heartbeat(text,uuid[],interval)',
    'private.jobs_release(text,uuid[])',
    'private.jobs_requeue_expired()',
    'private.jobs_stats()'
  ],
  'what the indexer may call'
);
select is_empty(
  $$select g.roleid::regrole from pg_auth_members as g where g.member in (to_regrole('kijko_sidecar'), to_regrole('kijko_indexer'))$$,
  'the sidecar and the indexer are members of nothing'
);

select is(
  (select count(*) from pg_temp.functions as f where f.prosrc ~ 'kijko\.fail\(\s*[^''\s]'), 0::bigint,
  'codes are literals, so that they can be looked up'
);

-- Whoever seals stores the text in a column that private.seal_column() knows, or a change of the key loses it. Tickets of
-- authorize_billing(), authorize_function(), blog_start_image(), llm_gateway_pass(), llm_reserve_call(), files_ticket() and privacy_ticket() last for minutes at most and are stored nowhere.
select is_empty(
  $$select p.oid::regprocedure from pg_proc as p
    where p.prosrc ~ '\mkijko\.seal\(' and p.proname <> all (array['authorize_billing', 'authorize_function', 'blog_start_image', 'connections_seal', 'llm_gateway_pass', 'llm_reserve_call', 'set_connection_application', 'set_llm_provider_key', 'files_ticket', 'privacy_ticket', 'set_secret', 'set_http_secret', 'mail_store', 'seal_seed', 'keep_provider_tokens', 'rotate_repository_secret', 'reflexes_store_secret', 'reflexes_verifier', 'reflexes_repository_secrets'])$$,
  'every function that seals is listed here, once its column is registered'
);
-- An empty search_path finds temporary types before those of Postgres.
select is_empty(
  $$select r.rolname from pg_roles as r
    where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'kijko_sidecar', 'kijko_indexer')
      and has_database_privilege(r.oid, current_database(), 'temporary')$$,
  'the roles of requests and of the sidecar cannot make temporary types'
);
-- ---- every rule finds its offender
\ir schema_offenders.sql
select is_empty(
  $$select rule from (values
      ('function without comment'),
      ('function executable by everybody'),
      ('definer function whose names a search_path can capture'),
      ('function whose names a search_path can capture'),
      ('definer function without its reason in the comment'),
      ('definer function of a superuser'),
      ('code of kijko.fail that is not in kijko.error_codes'),
      ('raises an exception past kijko.fail'),
      ('lowers an address beyond ASCII'),
      ('renders a value to measure it: use private.json_fits()'),
      ('SQL of a table that may not be there yet: use to_regclass() or plpgsql')
    ) as expected (rule)
    except select rule from pg_temp.offences$$,
  'each rule finds an offender'
);
select * from finish();
rollback;
