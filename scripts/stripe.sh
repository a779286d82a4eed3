# Stripe: the local signing secret, and what an operator does with events. Sourced by ./kijko.
# shellcheck shell=bash

# A secret of this stack's own beside the account's, so that tests and the demo can sign without an account. It is as good
# as any other: random, and readable by the stack's user alone.
make_stripe_secret() {
  local file=$SECRETS/stripe
  if [ ! -f "$file" ]; then
    (
      umask 077
      printf 'STRIPE_WEBHOOK_SECRET_LOCAL=whsec_%s\n' "$(random_password)" > "$file.new"
      mv "$file.new" "$file"
    )
    give_to_os_user "$file"
  fi
  # shellcheck source=/dev/null
  . "$file"
}

command_stripe() {
  local action=${1:-status}
  [ "$#" = 0 ] || shift
  require_running
  case $action in
    status)
      [ "$#" = 0 ] || misuse "stripe status takes no arguments"
      stripe_status
      ;;
    replay) stripe_replay "$@" ;;
    *) misuse "stripe takes: status, replay --failed, replay EVENT_ID…" ;;
  esac
}

stripe_psql() { owner_psql -P footer=off -P null=- "$@"; }

# Everything that needs a person, each list only when there is something in it.
stripe_status() {
  stripe_psql -f - <<'SQL'
\echo 'Events'
select status, count(*), max(received_at)::timestamptz(0) as latest from private.stripe_events group by status order by status;
select exists (select from private.stripe_events where status = 'failed') as failed,
  exists (select from private.stripe_entitlements where org_id is null and running) as unlinked,
  exists (select from private.stripe_entitlements where org_id is not null and plan is null and running) as unplanned,
  exists (select from private.stripe_plan_refreshes) as waiting
\gset
\if :failed
\echo 'Failed: ./kijko stripe replay --failed tries them now'
select id, type, created::timestamptz(0), attempts, next_attempt_at::timestamptz(0), error_code, left(error, 100) as error
from private.stripe_events where status = 'failed' order by created, id limit 50;
\endif
\if :unlinked
\echo 'Running subscriptions of no known organization: no checkout session or metadata names one'
select id, customer_id, status, created_at::timestamptz(0) from private.stripe_entitlements
where org_id is null and running order by created_at limit 50;
\endif
\if :unplanned
\echo 'Running subscriptions whose price names no plan: give the price a lookup key such as pro_monthly'
select s.id, s.org_id, s.status, s.items from private.stripe_entitlements as st join public.stripe_subscriptions as s using (id, livemode)
where st.org_id is not null and st.plan is null and st.running order by s.created_at limit 50;
\endif
\if :waiting
\echo 'Organizations whose plan is still to follow a price that changed'
select org_id, created_at::timestamptz(0), attempts, due_at::timestamptz(0), error_code, left(error, 100) as error
from private.stripe_plan_refreshes order by id limit 50;
\endif
SQL
}

# Exit status 1 when an event failed again or does not exist, so that scripts can ask.
stripe_replay() {
  local ids='' result wanted=0
  case "$#:${1:-}" in
    0:) misuse "stripe replay takes --failed or the ids of events" ;;
    1:--failed) ;;
    *)
      local id
      for id in "$@"; do
        [[ $id =~ ^evt_[A-Za-z0-9_]+$ ]] || misuse "'$id' is not the id of an event (evt_…)"
      done
      wanted=$#
      ids=$(
        IFS=,
        printf '{%s}' "$*"
      )
      ;;
  esac
  result=$(stripe_psql -At -F ' ' -v ids="$ids" -f - <<'SQL'
select r.status, r.id, r.type, coalesce(r.error_code || ': ' || r.error, '') from private.stripe_replay_events(nullif(:'ids', '')::text[]) as r;
SQL
  )
  [ -z "$result" ] || printf '%s\n' "$result"
  # An id can be there in both modes.
  [ "$wanted" = 0 ] || [ "$(cut -d' ' -f2 <<< "$result" | sort -u | grep -c .)" = "$(printf '%s\n' "$@" | sort -u | grep -c .)" ] || fail "some of these events are not there, or are ignored"
  ! grep -q '^failed ' <<< "$result" || fail "some events failed again"
}
