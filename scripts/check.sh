# ./kijko check: one line that says whether the stack is well, for whatever raises alarms. Sourced by ./kijko.
# Every check ends by itself within seconds, also when a part hangs. None needs another one to work, except that the database's
# need the database.
# shellcheck shell=bash

CHECK_SECONDS=5

command_check() {
  local argument nagios=no verbose=no
  # Nagios reads 2 as critical and 3 as unknown, also for misuse.
  [[ " $* " != *' --nagios '* ]] || EXIT_MISUSED=3 EXIT_FAILED=3
  for argument in "$@"; do
    case $argument in
      --nagios) nagios=yes ;;
      --verbose) verbose=yes ;;
      *) misuse "check takes --verbose and --nagios" ;;
    esac
  done
  read_check_limits
  CHECK_NAMES=() CHECK_LEVELS=() CHECK_TEXTS=()
  run_checks
  print_checks "$nagios" "$verbose"
}

# Each limit is a number; the critical one is a fixed multiple or has its own setting.
read_check_limits() {
  local name
  QUEUE_WARN=${KIJKO_CHECK_QUEUE_SECONDS:-300} QUEUE_CRITICAL=${KIJKO_CHECK_QUEUE_CRITICAL_SECONDS:-1800}
  LEASE_WARN=${KIJKO_CHECK_LEASE_SECONDS:-120} DEAD_HOURS=${KIJKO_CHECK_DEAD_HOURS:-24}
  DISK_WARN=${KIJKO_CHECK_DISK_PERCENT:-15} EXPIRY_WARN=${KIJKO_CHECK_EXPIRY_DAYS:-14} SLOT_WARN=${KIJKO_CHECK_SLOT_MEGABYTES:-1024}
  for name in QUEUE_WARN QUEUE_CRITICAL LEASE_WARN DEAD_HOURS DISK_WARN EXPIRY_WARN SLOT_WARN; do
    [[ ${!name} =~ ^[0-9]{1,9}$ ]] || misuse "the limits KIJKO_CHECK_* are numbers, not '${!name}'"
  done
}

run_checks() {
  if ! [ -f "$KIJKO_HOME/applied" ] || ! load_secrets 2> /dev/null; then
    found critical stack "there is no stack in $KIJKO_HOME"
    return
  fi
  check_database
  check_passwords
  check_parts
  check_sidecar
  check_stripe
  check_disk
  check_keys
  check_certificate
  check_backups
  [ "$DATABASE_ANSWERS" = no ] || check_inside_database
}

# found LEVEL NAME TEXT, with LEVEL ok, warning or critical
found() {
  CHECK_LEVELS+=("$1") CHECK_NAMES+=("$2") CHECK_TEXTS+=("$3")
}

# One line on standard output: the worst level, then what is not well, critical first.
print_checks() {
  local nagios=$1 verbose=$2 level at worst=ok bad=() prefix
  for level in critical warning; do
    for at in "${!CHECK_NAMES[@]}"; do
      [ "${CHECK_LEVELS[at]}" = "$level" ] || continue
      [ "$worst" != ok ] || worst=$level
      prefix=''
      [ "$level" = "$worst" ] || prefix="($level) "
      bad+=("$prefix${CHECK_NAMES[at]}: ${CHECK_TEXTS[at]}")
    done
  done
  if [ "$worst" = ok ]; then
    printf 'OK: %s checks\n' "${#CHECK_NAMES[@]}"
  else
    local text
    text=$(printf '; %s' "${bad[@]}")
    # Others' words: a part of them can come from an answer over HTTP.
    printf '%s: %s\n' "${worst^^}" "$(printf '%s' "${text#; }" | tr '\n|' '  ' | printable)"
  fi
  [ "$verbose" = no ] || print_each_check
  case $nagios:$worst in
    *:ok) return 0 ;;
    yes:warning | no:*) return 1 ;;
    *) return 2 ;;
  esac
}

print_each_check() {
  local at
  for at in "${!CHECK_NAMES[@]}"; do
    printf '%-10s %-14s %s\n' "${CHECK_LEVELS[at]}" "${CHECK_NAMES[at]}" "$(printf '%s' "${CHECK_TEXTS[at]}" | tr '\n' ' ' | printable)"
  done
}

# ---- the database, and each login

# try_login ROLE PASSWORD [SQL]: leaves LOGIN_ANSWER; on failure LOGIN_FAULT. The password is in the environment: command lines are public.
try_login() {
  local output
  LOGIN_ANSWER='' LOGIN_FAULT=''
  if output=$(PGPASSWORD=$2 PGCONNECT_TIMEOUT=$CHECK_SECONDS PGOPTIONS="$SUPERUSER_OPTIONS -c statement_timeout=${CHECK_SECONDS}s" \
    timeout $((CHECK_SECONDS * 2)) "$PG_BIN/psql" -X -q -At -F '|' -v ON_ERROR_STOP=1 -c "${3:-select 1}" \
    "host=127.0.0.1 port=$DB_PORT user=$1 dbname=$DATABASE_NAME sslmode=disable application_name=kijko-check" 2>&1); then
    LOGIN_ANSWER=$output
    return 0
  fi
  LOGIN_FAULT=${output##*FATAL:}
  LOGIN_FAULT=${LOGIN_FAULT%%$'\n'*}
  [[ $output != *'password authentication failed'* ]] || LOGIN_FAULT="wrong password for $1"
  LOGIN_FAULT=${LOGIN_FAULT# }
  [ -n "$LOGIN_FAULT" ] || LOGIN_FAULT="no answer within $((CHECK_SECONDS * 2)) s"
  return 1
}

check_database() {
  DATABASE_ANSWERS=no
  if try_login postgres "$KIJKO_POSTGRES_PASSWORD"; then
    DATABASE_ANSWERS=yes
    found ok database "answers on port $DB_PORT"
  else
    found critical database "$LOGIN_FAULT"
  fi
}

# The password of each part. While the database does not answer at all, one line about it is enough.
check_passwords() {
  local wrong=() role password
  [ "$DATABASE_ANSWERS" = yes ] || postgres_answers || return 0
  for role in supabase_admin authenticator kijko_login kijko_sidecar kijko_gateway kijko_realtime kijko_storage kijko_indexer; do
    case $role in
      supabase_admin) password=$KIJKO_ADMIN_PASSWORD ;;
      authenticator) password=$KIJKO_AUTHENTICATOR_PASSWORD ;;
      kijko_login) password=$KIJKO_LOGIN_PASSWORD ;;
      kijko_sidecar) password=$KIJKO_SIDECAR_PASSWORD ;;
      kijko_gateway) password=$KIJKO_GATEWAY_PASSWORD ;;
      kijko_realtime) password=$KIJKO_REALTIME_PASSWORD ;;
      kijko_storage) password=$KIJKO_STORAGE_PASSWORD ;;
      kijko_indexer) password=$KIJKO_INDEXER_PASSWORD ;;
    esac
    try_login "$role" "$password" || wrong+=("$LOGIN_FAULT")
  done
  if [ "${#wrong[@]}" = 0 ]; then
    found ok passwords "each part can log in"
  else
    found critical passwords "$(printf '%s, ' "${wrong[@]}" | sed 's/, $//') ($SECRETS/passwords)"
  fi
}

# ---- the parts

check_parts() {
  local name state
  for name in "${SERVICES[@]}"; do
    state=$(part_state "$name")
    if [ "$state" != running ]; then
      found critical "$name" "$state$(in_addition refused_password "$name")"
    elif answers "$name"; then
      found ok "$name" "ready"
    # The sidecar's own check says more.
    elif [ "$name" != sidecar ]; then
      found critical "$name" "does not answer at $(health_url "$name")$(in_addition refused_password "$name")"
    fi
  done
  state=$(part_state rotation)
  if [ "$state" = running ] || rotation_is_off; then found ok rotation "$state"; else found warning rotation "$state: logs grow without a bound"; fi
}

# in_addition COMMAND…: what it prints, after a colon
in_addition() {
  local text
  text=$("$@")
  [ -z "$text" ] || printf ': %s' "$text"
}

# Its answer names each of its own checks.
check_sidecar() {
  local body
  service_pid sidecar > /dev/null || return 0
  body=$(curl -sS --max-time "$CHECK_SECONDS" "$(health_url sidecar)" 2> /dev/null) || body=''
  local status checks
  status=$(jq -r '.status // empty' <<< "$body" 2> /dev/null) || status=''
  checks=$(jq -r '[.checks | to_entries[] | select(.value.status != "ok") | "\(.key) \(.value.status)"] | join(", ")' <<< "$body" 2> /dev/null) || checks=''
  case $status in
    ok) found ok sidecar-ready "ready" ;;
    degraded) found warning sidecar-ready "degraded: $checks" ;;
    down) found critical sidecar-ready "down: $checks$(in_addition refused_password sidecar)" ;;
    *) found critical sidecar-ready "does not answer at $(health_url sidecar)" ;;
  esac
}

# With a wrong signing secret no delivery of Stripe is taken, and nobody notices: the database never sees one. Others can send
# requests without a signature at any time, so one that was taken ends the warning.
check_stripe() {
  local metrics refused taken
  [ -n "${STRIPE_WEBHOOK_SECRET:-}" ] || return 0
  metrics=$(curl -sS --max-time "$CHECK_SECONDS" "http://127.0.0.1:$SIDECAR_OPERATORS_PORT/metrics" 2> /dev/null) || return 0
  refused=$(awk '/^kijko_stripe_rejected_total[{]reason="(signature_mismatch|timestamp)"/ { n += $2 } END { print n + 0 }' <<< "$metrics")
  taken=$(awk '/^kijko_stripe_events_total[{]/ { n += $2 } END { print n + 0 }' <<< "$metrics")
  if [ "$refused" -gt 0 ] && [ "$taken" = 0 ]; then
    found warning stripe "$refused deliveries were refused since the sidecar started, and none was taken: STRIPE_WEBHOOK_SECRET or the clock is wrong"
  else
    found ok stripe "$taken deliveries were taken, $refused refused"
  fi
}

# ---- the machine

# The fullest of the folders that grow is named.
check_disk() {
  local folder free least='' fullest=''
  while IFS='=' read -r _ folder; do
    free=$(df -P "$folder" 2> /dev/null | awk 'NR == 2 && $2 > 0 { print int(100 * $4 / $2) }')
    if [ -n "$free" ] && { [ -z "$least" ] || [ "$free" -lt "$least" ]; }; then least=$free fullest=$folder; fi
  done < <(disk_folders)
  if [ -n "$least" ] && [ "$least" -lt "$DISK_WARN" ]; then
    found "$([ "$least" -lt $(((DISK_WARN + 2) / 3)) ] && echo critical || echo warning)" disk "$least % free in $fullest"
  else
    found ok disk "${least:-?} % free"
  fi
}

# Files of keys that are gone, or that others may use, are noticed when the first token or secret needs them; here before that.
check_keys() {
  local file days
  for file in "$SIGNING_KEY_FILE" "$SEAL_KEY_FILE"; do
    [ -s "$file" ] || {
      found critical keys "$file is missing"
      return 0
    }
    # Postgres refuses a file that its group may write, or that others may use.
    if [ -n "$(find -L "$file" -maxdepth 0 -perm /027)" ]; then
      found critical keys "$file is open to other users, so Postgres refuses it: chmod 600"
      return 0
    fi
  done
  days=$(api_key_days) || days=''
  if [ -z "$days" ]; then
    found warning keys "$SECRETS/api_keys cannot be read: ./kijko up makes it"
  elif [ "$days" -lt "$EXPIRY_WARN" ]; then
    found "$([ "$days" -lt 1 ] && echo critical || echo warning)" keys "the anon and service keys expire in $days days: delete $SECRETS/api_keys, then ./kijko up"
  else
    found ok keys "the anon and service keys expire in $days days"
  fi
}

# Days until the first of the anon and the service key expires; nothing if they cannot be read.
api_key_days() {
  jq -nrR --argjson now "$(date +%s)" '
    [inputs | capture("^(ANON_KEY|SERVICE_ROLE_KEY)=[^.]+\\.(?<payload>[^.]+)\\.").payload
      | gsub("-"; "+") | gsub("_"; "/") | . + "=" * ((4 - length % 4) % 4) | @base64d | fromjson | (.exp - $now) / 86400 | floor]
    | min // empty' "$SECRETS/api_keys" 2> /dev/null
}

# The certificate that clients see, when they see one.
check_certificate() {
  local host days end
  [[ $PUBLIC_URL =~ ^https://([^/:]+)(:([0-9]+))? ]] || return 0
  host=${BASH_REMATCH[1]}:${BASH_REMATCH[3]:-443}
  end=$(timeout "$CHECK_SECONDS" openssl s_client -connect "$host" -servername "${host%:*}" < /dev/null 2> /dev/null |
    openssl x509 -noout -enddate 2> /dev/null | cut -d= -f2) || end=''
  if [ -z "$end" ]; then
    found critical certificate "$host shows none"
    return 0
  fi
  days=$((($(date -d "$end" +%s) - $(date +%s)) / 86400))
  if [ "$days" -ge "$EXPIRY_WARN" ]; then
    found ok certificate "expires in $days days"
  else
    found "$([ "$days" -lt 3 ] && echo critical || echo warning)" certificate "of $host expires in $days days"
  fi
}

# ---- what the database knows

check_inside_database() {
  # Since a restore: neither schedules nor jobs run, until somebody has looked.
  if [ -f "$KIJKO_HOME/paused" ]; then found warning paused "nothing runs since a restore: ./kijko resume"; fi
  check_jobs
  check_catalogs
}

check_jobs() {
  local oldest waiting overdue dead billing privacy
  # Leases are taken back every minute, so one that ended longer ago means that nothing does it.
  if ! try_login postgres "$KIJKO_POSTGRES_PASSWORD" "select coalesce(max(s.oldest_queued_seconds), 0)::bigint,
      coalesce((array_agg(translate(s.kind, '|', ' ') order by s.oldest_queued_seconds desc))[1], '-'),
      (select count(*) from public.jobs as j where j.status = 'running' and j.attempt >= 0 and j.locked_until < clock_timestamp() - make_interval(secs => $LEASE_WARN)),
      (select count(*) from public.jobs as j where j.status = 'dead' and j.finished_at > clock_timestamp() - make_interval(hours => $DEAD_HOURS)
        and not private.jobs_is_refusal(j.kind, j.error_code)),
      (select count(*) from private.billing_problems() where exists (select from private.billing_account)),
      (select count(*) from private.privacy_problems())
    from private.jobs_stats() as s"; then
    found critical jobs "$LOGIN_FAULT"
    return 0
  fi
  IFS='|' read -r oldest waiting overdue dead billing privacy <<< "$LOGIN_ANSWER"
  if [ "$oldest" -ge "$QUEUE_CRITICAL" ]; then
    found critical queue "the oldest due job, of the kind $waiting, waits for $oldest s (./kijko jobs)"
  elif [ "$oldest" -ge "$QUEUE_WARN" ]; then
    found warning queue "the oldest due job, of the kind $waiting, waits for $oldest s (./kijko jobs)"
  else
    found ok queue "the oldest due job waits for $oldest s"
  fi
  if [ "$overdue" = 0 ]; then found ok leases "none is overdue"; else found warning leases "$overdue overdue (./kijko jobs overdue)"; fi
  if [ "$dead" = 0 ]; then found ok dead-jobs "none in $DEAD_HOURS hours"; else found warning dead-jobs "$dead in $DEAD_HOURS hours (./kijko jobs dead)"; fi
  if [ "$billing" = 0 ]; then found ok billing "nothing differs from Stripe"; else found warning billing "$billing to look at (select * from private.billing_problems())"; fi
  if [ "$privacy" = 0 ]; then found ok erasures "none fails"; else found warning erasures "$privacy to look at (select * from private.privacy_problems())"; fi
}

# Of Postgres and pg_cron only, as the superuser, who reads nothing of postgres'. Each line is a level, a name and a text.
check_catalogs() {
  local level name text
  if ! try_login supabase_admin "$KIJKO_ADMIN_PASSWORD" "$(catalog_checks)"; then
    found critical catalogs "$LOGIN_FAULT"
    return 0
  fi
  while IFS='|' read -r level name text; do
    [ -z "$name" ] || found "$level" "$name" "$text"
  done <<< "$LOGIN_ANSWER"
}

catalog_checks() {
  cat << SQL
with slots as (
  select s.slot_name, s.active, s.wal_status,
    coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, s.restart_lsn), 0)::bigint / 1048576 as megabytes
  from pg_replication_slots as s
), bad_slots as (
  select case when s.wal_status in ('lost', 'unreserved') or s.megabytes > 10 * $SLOT_WARN::bigint then 'critical' else 'warning' end as level,
    format('%s %s holds %s MB of WAL', s.slot_name, case when s.active then 'is used and' else 'is unused and' end, s.megabytes) as text
  from slots as s
  where s.wal_status in ('lost', 'unreserved') or s.megabytes > $SLOT_WARN::bigint or not s.active
), ranges as (
  select p.partrelid::regclass::text as name, max(substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)')::timestamptz) as until,
    p.partdefid <> 0 as has_default
  from pg_partitioned_table as p
  join pg_attribute as a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0] and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
  join pg_inherits as i on i.inhparent = p.partrelid
  join pg_class as c on c.oid = i.inhrelid
  where p.partstrat = 'r'
  group by p.partrelid, p.partdefid
), bad_ranges as (
  select case when r.until < now() and not r.has_default then 'critical' else 'warning' end as level, format('%s ends at %s', r.name, r.until::timestamptz(0)) as text
  from ranges as r where r.until < now() + interval '1 hour'
), ages as (
  select max(age(d.datfrozenxid)) as age from pg_database as d
), runs as (
  select (select count(*) from cron.job as j where j.active and j.schedule = '* * * * *') as minutely,
    (select max(d.start_time) from cron.job_run_details as d where d.start_time > now() - interval '1 hour') as latest, pg_postmaster_start_time() as started
), bad_runs as (
  select j.jobname as name from cron.job as j
  where j.active and j.schedule = '* * * * *' and pg_postmaster_start_time() < now() - interval '10 minutes'
    -- Not a new one.
    and exists (select from cron.job_run_details as d where d.jobid = j.jobid and d.start_time between now() - interval '1 day' and now() - interval '10 minutes')
    and not exists (select from cron.job_run_details as d where d.jobid = j.jobid and d.status = 'succeeded' and d.end_time > now() - interval '10 minutes')
), archiver as (
  select current_setting('archive_mode') as mode, a.last_failed_time, a.last_archived_time, a.last_failed_wal from pg_stat_archiver as a
)
select coalesce(min(b.level), 'ok'), 'slots', coalesce(string_agg(b.text, ', '), 'none that is unused or far behind') from bad_slots as b
union all
select coalesce(min(b.level), 'ok'), 'partitions', coalesce(string_agg(b.text, ', '), 'made ahead') from bad_ranges as b
union all
select case when a.age > 1500000000 then 'critical' when a.age > 1000000000 then 'warning' else 'ok' end, 'vacuum', format('the oldest transaction id is %s old', a.age) from ages as a
union all
select case when $([ -f "$KIJKO_HOME/paused" ] && echo false || echo true) and r.minutely > 0 and greatest(r.latest, r.started) < now() - interval '5 minutes' then 'critical' else 'ok' end, 'schedule',
  case when r.latest is null then 'pg_cron has run nothing yet' else format('pg_cron ran last at %s', r.latest::timestamptz(0)) end from runs as r
union all
select case when $([ -f "$KIJKO_HOME/paused" ] && echo false || echo true) and count(*) > 0 then 'warning' else 'ok' end, 'runs',
  case when count(*) = 0 then 'each schedule has ended well in the last minutes'
    else format('%s schedules have not ended well for 10 minutes: %s', count(*), (select string_agg(f.name, ', ') from (select b.name from bad_runs as b order by 1 limit 3) as f)) end
from bad_runs
union all
select case when a.last_failed_time > coalesce(a.last_archived_time, '-infinity') then 'critical' else 'ok' end, 'archive',
  case when a.last_failed_time > coalesce(a.last_archived_time, '-infinity') then format('%s could not be archived', a.last_failed_wal) else 'WAL is archived' end
from archiver as a where a.mode <> 'off'
SQL
}
