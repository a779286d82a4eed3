# ./kijko resume: a restored stack may work again, and what its lost database may have run does not run twice. Sourced by ./kijko
# and inside the postgres image.
# shellcheck shell=bash

command_resume() {
  local choice=${1:-}
  [ "$#" -le 1 ] || misuse "resume takes --run or --cancel, or nothing"
  case $choice in '' | --run | --cancel) ;; *) misuse "resume takes --run or --cancel, or nothing" ;; esac
  require_database
  [ -f "$KIJKO_HOME/paused" ] || [ "$(owner_psql -At -c 'select count(*) from private.job_queue_pause')" != 0 ] || { say "nothing is paused"; return 0; }
  settle_restored_jobs "$choice"
  owner_psql -c 'select private.jobs_resume_queue()' > /dev/null
  if [ -f "$KIJKO_HOME/paused" ]; then
    rm -f "$KIJKO_HOME/paused" "$KIJKO_HOME/untouched-jobs" "$KIJKO_HOME/later-habits"
    start_schedules
  fi
  say "the queue and the schedules run"
}

# pg_cron reads its setting at the start of the server only.
start_schedules() {
  stop_services
  stop_postgres
  command_up
}

UNFINISHED="from public.jobs as j where j.status in ('queued', 'running')"

# What may have run later on is decided here, once. Nothing is repeated unless the operator says so.
settle_restored_jobs() {
  local count
  [ -f "$KIJKO_HOME/paused" ] || return 0
  count=$(owner_psql -At -c "select count(*) $UNFINISHED")
  case $1 in
    --cancel) say "$(owner_psql -At -c 'select private.jobs_cancel_restored()') jobs were cancelled" ;;
    --run) say "$count jobs run: what the lost database had run after the restored moment happens again" ;;
    *)
      if [ -f "$KIJKO_HOME/untouched-jobs" ]; then
        cancel_later_jobs
      elif [ "$count" != 0 ]; then
        owner_psql -P footer=off -c "select j.kind, j.status, count(*) as jobs $UNFINISHED group by j.kind, j.status order by 1, 2"
        fail "the lost database may have run these after $(cat "$KIJKO_HOME/paused"). './kijko resume --run' runs them all (mails, calls of models and social posts may happen twice), '--cancel' cancels them all"
      fi
      ;;
  esac
  # No platform has a key by which it would know a post again.
  say "$(owner_psql -At -c 'select private.social_doubt_restored()') social posts wait for a member's word whether they were published"
}

# All that the replaced database had not left waiting. What was queued during the pause is new, and runs.
cancel_later_jobs() {
  {
    echo 'begin; create temporary table untouched (id uuid, attempt integer) on commit drop; create temporary table slots (habit_id uuid, slot double precision) on commit drop;'
    echo "copy untouched from stdin (delimiter ' ');"
    cat "$KIJKO_HOME/untouched-jobs"
    printf '\\.\n'
    echo "copy slots from stdin (delimiter ' ');"
    cat "$KIJKO_HOME/later-habits"
    printf '\\.\n'
    cat << 'SQL'
select format('%s jobs were cancelled, because the replaced database may have run them', private.jobs_cancel_restored(coalesce((
  select array_agg(j.id) from public.jobs as j
  where j.status in ('queued', 'running') and j.created_at < (select p.paused_at from private.job_queue_pause as p)
    and not exists (select 1 from untouched as u where u.id = j.id and u.attempt = j.attempt and j.status = 'queued')
), '{}')));
update public.habits as h
set next_run_at = private.habits_next_slot(h, to_timestamp(s.slot)), last_run_at = to_timestamp(s.slot)
from slots as s
where h.id = s.habit_id and h.next_run_at <= to_timestamp(s.slot);
commit;
SQL
  } | owner_psql -At >&2
}
