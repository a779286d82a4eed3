# ./kijko jobs: what waits, runs too long or was given up, and what an operator does about it. Sourced by ./kijko.
# shellcheck shell=bash

command_jobs() {
  local action=${1:-summary}
  [ "$#" = 0 ] || shift
  JOB_IDS=() JOB_KIND='' JOB_ORG='' JOB_LIMIT=50
  case $action in
    summary | requeue)
      [ "$#" = 0 ] || misuse "jobs $action takes no arguments"
      ;;
    queued | running | overdue | dead | retry | cancel | delete) read_job_options "$action" "$@" ;;
    show)
      [ "$#" = 1 ] && is_uuid "$1" || misuse "jobs show takes the id of a job"
      JOB_IDS=("$1")
      ;;
    *) misuse "jobs takes: summary, queued, running, overdue, dead, show ID, retry, cancel, delete, requeue" ;;
  esac
  require_database
  "jobs_$action"
}

is_uuid() { [[ $1 =~ ^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$ ]]; }

# read_job_options ACTION ARGUMENT…: what an action changes is named, one by one or by kind and organization. Nothing is changed
# because an argument was forgotten.
read_job_options() {
  local action=$1 selected=no usage
  shift
  case $action in
    retry | cancel | delete) usage="jobs $action takes ids of jobs, or --all, --kind KIND, --org ID, with --limit N" ;;
    *) usage="jobs $action takes --kind KIND, --org ID, --limit N" ;;
  esac
  while [ "$#" -gt 0 ]; do
    case $1 in
      --kind)
        [[ ${2:-} =~ ^[a-z][a-z0-9_.]*$ ]] || misuse "$usage"
        JOB_KIND=$2 selected=yes
        shift
        ;;
      --org)
        is_uuid "${2:-}" || misuse "$usage"
        JOB_ORG=$2 selected=yes
        shift
        ;;
      --limit)
        [[ ${2:-} =~ ^[1-9][0-9]{0,5}$ ]] || misuse "$usage"
        JOB_LIMIT=$2
        shift
        ;;
      --all) selected=yes ;;
      *)
        is_uuid "$1" || misuse "$usage"
        JOB_IDS+=("$1") selected=yes
        ;;
    esac
    shift
  done
  case $action in retry | cancel | delete) [ "$selected" = yes ] || misuse "$usage" ;; esac
  [ "${#JOB_IDS[@]}" = 0 ] || [ -z "$JOB_KIND$JOB_ORG" ] || misuse "$usage"
  JOB_LIMIT=$((JOB_LIMIT > ${#JOB_IDS[@]} ? JOB_LIMIT : ${#JOB_IDS[@]}))
}

# As the owner of the table. What the database holds was written by others: no control character of it reaches the terminal.
jobs_psql() {
  owner_psql -P footer=off -P null=- -v ids="{$(IFS=,; printf '%s' "${JOB_IDS[*]}")}" -v kind="$JOB_KIND" -v org="$JOB_ORG" -v most="$JOB_LIMIT" "$@" |
    printable
}

# shellcheck disable=SC2016 # psql's variables
JOBS_SELECTED="(:'ids' = '{}' or j.id = any (:'ids'::uuid[])) and (:'kind' = '' or j.kind = :'kind') and (:'org' = '' or j.org_id = nullif(:'org', '')::uuid)"

jobs_summary() {
  jobs_psql -f - << 'SQL'
select s.kind, s.queued, s.running, s.overdue, s.dead, s.oldest_queued_seconds::numeric(12, 1) as oldest_seconds
from private.jobs_stats() as s order by s.kind;
SQL
}

jobs_queued() {
  jobs_list queued "j.status = 'queued' and j.attempt >= 0" j.run_at 'j.run_at::timestamptz(0) as due, j.attempt, j.error_code'
}

jobs_running() {
  jobs_list running "j.status = 'running' and j.attempt >= 0" j.locked_until 'j.locked_by as worker, j.locked_until::timestamptz(0) as lease_ends, j.attempt'
}

jobs_overdue() {
  jobs_list overdue "j.status = 'running' and j.attempt >= 0 and j.locked_until < clock_timestamp()" j.locked_until \
    'j.locked_by as worker, j.locked_until::timestamptz(0) as lease_ended, j.attempt'
}

jobs_dead() {
  jobs_list dead "j.status = 'dead'" 'j.finished_at desc' \
    "j.finished_at::timestamptz(0) as ended, j.attempt, case when private.jobs_is_refusal(j.kind, j.error_code) then 'tenant' else 'operator' end as whose,
    j.error_code, left(j.error, 80) as error"
}

# jobs_list NAME CONDITION ORDER COLUMNS
jobs_list() {
  jobs_psql -f - << SQL
select j.id, j.kind, j.org_id, $4 from public.jobs as j where $2 and $JOBS_SELECTED order by $3, j.id limit :most;
SQL
}

# Without the payload and the result, which belong to the tenant.
jobs_show() {
  local found
  found=$(jobs_psql -At -c "select exists (select from public.jobs as j where j.id = any ('{${JOB_IDS[0]}}'))")
  [ "$found" = t ] || fail "there is no job ${JOB_IDS[0]}"
  jobs_psql -x -f - << 'SQL'
select j.id, j.kind, j.org_id, j.project_id, j.status, j.priority, j.attempt, j.uncounted_attempts, j.max_attempts, j.created_at, j.run_at, j.started_at,
  j.finished_at, j.locked_by, j.locked_until, j.cancel_requested, j.error_code, j.error
from public.jobs as j where j.id = any (:'ids'::uuid[]);
SQL
  jobs_psql -f - << 'SQL'
select e.created_at, e.event, e.attempt, e.worker, e.data ->> 'code' as code
from public.job_events as e where e.job_id = any (:'ids'::uuid[]) order by e.created_at;
SQL
}

jobs_retry() { jobs_change retry dead; }
jobs_cancel() { jobs_change cancel 'queued, running'; }
jobs_delete() { jobs_change delete dead; }

jobs_requeue() {
  local count
  count=$(owner_psql -At -c 'select private.jobs_requeue_expired()')
  say "$count jobs whose lease had ended were taken back"
}

# jobs_change ACTION STATES: each job by itself, so that one that cannot be changed stops no other. Exit status 1 when one could
# not be changed, or one that was named is in another state.
jobs_change() {
  local result done_count refused
  result=$(jobs_psql -At -F ' ' -v states="{${2// /}}" -v action="$1" -f - << SQL
select id, outcome, code, message from private.jobs_operate(:'action', array(
  select j.id from public.jobs as j where j.status = any (:'states'::text[]) and $JOBS_SELECTED order by j.created_at, j.id limit :most
));
SQL
  )
  refused=$(grep -c ' refused ' <<< "$result" || true)
  done_count=$(($(grep -c . <<< "$result" || true) - refused))
  [ -z "$result" ] || printf '%s\n' "$result"
  say "$1: $done_count done, $refused refused"
  [ "$refused" = 0 ] && [ "$done_count" -ge "${#JOB_IDS[@]}" ] || fail "not every job was found in a state to $1 ($2)"
}
