# ./kijko restore: a backup and the archive of WAL become the data of this stack, as of any moment since the backup. Sourced by ./kijko
# and inside the postgres image.
# shellcheck shell=bash

RESTORE_OPTIONS='--at TIME, --backup NAME, --from FOLDER, --timeline N, --secrets FILE, --secrets-key FILE, --erasures FILE, --database NAME, --replace'

command_restore() {
  load_backup_settings
  parse_restore_options "$@"
  lock_backups
  [ -f "$BACKUPS/cluster" ] || fail "there is no backup in $BACKUPS: name its folder by --from"
  make_folders
  refuse_unreachable_home
  [ "$(id -u)" != 0 ] || reachable_by_os_user "$BACKUPS/wal" || fail "the user $OS_USER cannot enter $BACKUPS: copy it to a folder it can enter"
  refuse_data
  take_secrets_back
  prepare_programs
  choose_backup
  require_erasures
  trap 'abandon_recovery' EXIT
  export_later_work
  # What is archived last is archived when the server stops.
  stop_services
  if [ -x "$PG_BIN/pg_ctl" ]; then stop_postgres; fi
  SOCKETS=$(mktemp -d)
  step "a copy of the backup $BACKUP" "see the log" copy_backup
  give_to_os_user "$SOCKETS"
  step "recovery to ${TARGET:-the end of the archive}" "see $LOGS/recovery.log" recover
  step "passwords, database, pause" "see the log and $LOGS/recovery.log" finish_recovery
  step "erasures since the backup" "see $LOGS/erasures.log" replay_erasures
  step "objects" "see the log" restore_objects
  stop_recovery
  rm -rf "$SOCKETS"
  trap - EXIT
  take_into_use
  unlock_backups
  command_up
  report_erasures
  # Bytes that were stored after the restored moment have no row here. They are only queued for deletion, because the data that were
  # replaced still name them.
  check_storage --queue || say "kijko: some objects have no bytes in the backup: './kijko storage check' names them"
  say "restored. The queue and the schedules are paused: look at the data, then run './kijko resume'"
  [ -z "$FORMER_DATA" ] || say "what was there before is in $FORMER_DATA: remove it when you are sure"
}

parse_restore_options() {
  TARGET='' BACKUP='' TIMELINE='' ERASURES_FILE='' SECRETS_FILE='' SECRETS_KEY='' REPLACE=no FORMER_DATA='' FORMER_WAL=''
  SOCKETS='' LATER_WORK='' PAUSED_FORMER=no
  while [ "$#" -gt 0 ]; do
    if [ "$1" = --replace ]; then
      REPLACE=yes
      shift
      continue
    fi
    [ "$#" -ge 2 ] || misuse "restore takes $RESTORE_OPTIONS"
    case $1 in
      --at) TARGET=$2 ;;
      --backup) BACKUP=$2 ;;
      --from) BACKUPS=$(readlink -m "$2") ;;
      --timeline) TIMELINE=$2 ;;
      --erasures) ERASURES_FILE=$(readlink -m "$2") ;;
      --secrets) SECRETS_FILE=$2 ;;
      --secrets-key) SECRETS_KEY=$2 ;;
      --database) DATABASE_NAME=$2 ;;
      *) misuse "restore takes $RESTORE_OPTIONS, not '$1'" ;;
    esac
    shift 2
  done
  check_plain_path --from "$BACKUPS"
  [[ $DATABASE_NAME =~ ^[a-z_][a-z0-9_]{0,62}$ ]] || misuse "--database must be a name of small letters, digits and _, not '$DATABASE_NAME'"
  case $DATABASE_NAME in template0 | template1) misuse "--database cannot be $DATABASE_NAME" ;; esac
  [[ $TIMELINE =~ ^([1-9][0-9]{0,8})?$ ]] || misuse "--timeline must be a number, not '$TIMELINE'"
  [ -z "$TARGET" ] || TARGET=$(date -u -d "$TARGET" '+%Y-%m-%d %H:%M:%S.%6N+00' 2> /dev/null) ||
    misuse "--at must be a time, such as '2026-11-28 14:05:00+00', not '$TARGET'"
  [ -z "$TARGET" ] || [ "$(date -d "$TARGET" +%s)" -le "$(date +%s)" ] || misuse "--at is in the future: $TARGET"
}

# Data are never overwritten: what is there is kept under another name, and only when that was asked for.
refuse_data() {
  RECOVERED=$DATA.restored
  if [ ! -e "$DATA/PG_VERSION" ]; then
    refuse_lost_data
    return 0
  fi
  # Beside data that are in their place, it is a copy of a backup that an interrupted restore has left.
  if [ -e "$RECOVERED" ]; then
    stop_recovery
    rm -rf "$RECOVERED"
  fi
  [ "$REPLACE" = yes ] || fail "there is data in $DATA: --replace keeps it as $DATA.replaced-TIME and restores in its place. Or restore elsewhere: KIJKO_HOME=/new/folder KIJKO_API_PORT=56000 ./kijko restore --from $BACKUPS"
}

# ---- secrets

# Those of the file that go into the folder of secrets, beside the keys.
RESTORED_SECRETS=(passwords api_keys storage_signing_key stripe)

# From the file that `./kijko backup` made; without one, those of this stack.
take_secrets_back() {
  local staged name
  if [ -z "$SECRETS_FILE" ]; then
    [ -f "$SECRETS/passwords" ] && [ -f "$SEAL_KEY_FILE" ] && [ -f "$SIGNING_KEY_FILE" ] ||
      fail "this stack has no secrets: name the file of the backup by --secrets. Without seal.keys no stored secret could be read"
    load_secrets
    return 0
  fi
  [ -r "$SECRETS_FILE" ] || fail "$SECRETS_FILE cannot be read"
  staged=$(umask 077 && mktemp -d "$SECRETS/restore.XXXXXX")
  unpack_secrets "$staged" && [ -f "$staged/passwords" ] || {
    rm -rf "$staged"
    fail "$SECRETS_FILE holds no secrets, or --secrets-key is not the key of its certificate"
  }
  for name in "${RESTORED_SECRETS[@]}"; do place_secret "$staged/$name" "$SECRETS/$name"; done
  place_secret "$staged/signing.keys" "$SIGNING_KEY_FILE"
  place_secret "$staged/seal.keys" "$SEAL_KEY_FILE"
  if [ -f "$staged/.env" ] && [ ! -f "$ROOT/.env" ]; then say "the backup has an .env, and this checkout has none: take it from $SECRETS_FILE"; fi
  rm -rf "$staged"
  # What the file does not have, because it is of an older release.
  make_secrets
  load_secrets
}

unpack_secrets() {
  if [[ $SECRETS_FILE == *.cms ]]; then
    [ -r "$SECRETS_KEY" ] || misuse "$SECRETS_FILE is encrypted: name the private key by --secrets-key"
    openssl cms -decrypt -binary -inform DER -in "$SECRETS_FILE" -inkey "$SECRETS_KEY" | tar -C "$1" --no-same-owner -xf -
  else
    tar -C "$1" --no-same-owner -xf "$SECRETS_FILE"
  fi
}

# Different keys that are there already are kept beside, never thrown away.
place_secret() {
  [ -f "$1" ] || return 0
  if [ -f "$2" ] && ! cmp -s "$1" "$2"; then mv "$2" "$2.replaced-$(date -u +%Y%m%dT%H%M%SZ)"; fi
  (umask 077 && cp "$1" "$2")
  give_to_os_user "$2"
}

# ---- the lost time: what this stack has done since the moment that is restored, while its database still answers

# Jobs that wait there untouched can still run. `./kijko resume` cancels all others: their mails may be sent and their models
# called, or somebody has deleted them. Habits go on after their last slot.
export_later_work() {
  rm -f "$KIJKO_HOME/untouched-jobs.new" "$KIJKO_HOME/later-habits.new"
  [ -n "$TARGET" ] && [ "$REPLACE" = yes ] && [ -x "$PG_BIN/psql" ] && postgres_running && postgres_answers || return 0
  stop_service sidecar
  # Workers of your own go on claiming until the server stops: what they claimed after this would count as untouched.
  if [ "$(owner_psql -At -c 'select count(*) from private.job_queue_pause')" = 0 ]; then
    owner_psql -c "select private.jobs_pause_queue('a restore replaces this database')" > /dev/null
    PAUSED_FORMER=yes
  fi
  owner_psql -At -F ' ' -c "select j.id, j.attempt from public.jobs as j where j.status = 'queued'" > "$KIJKO_HOME/untouched-jobs.new"
  owner_psql -At -F ' ' -v at="$TARGET" > "$KIJKO_HOME/later-habits.new" <<'SQL'
select e.habit_id, extract(epoch from max(e.scheduled_for))
from public.executions as e
where e.habit_id is not null and e.scheduled_for is not null and e.created_at >= :'at'::timestamptz - interval '1 minute'
group by e.habit_id;
SQL
  LATER_WORK=known
}

# ---- the backup and its WAL

prepare_programs() {
  [ -f "$BUILD_PREFIX/.extension" ] && [ -f "$SIDECAR_BINARY" ] || {
    check_toolchain
    install_apt_packages
    install_npm_packages
    build_all
  }
  [ -f "$PG_PREFIX/.extension" ] || install_extension
  install_binary restore-wal "$ROOT/scripts/restore-wal.sh"
  install_binary archive-wal "$ROOT/scripts/archive-wal.sh"
}

# The newest one that was complete at that time and lies on the timeline.
choose_backup() {
  local name info wal chain left missing wanted=$BACKUP
  use_former_wal
  [ -n "$TIMELINE" ] && TIMELINE=$(printf '%08X' "$TIMELINE") || TIMELINE=$(latest_timeline "$BACKUPS/wal" "$FORMER_WAL")
  wal=$(wal_names "$BACKUPS/wal" "$FORMER_WAL")
  [ -n "$TIMELINE" ] || fail "the archive $BACKUPS/wal is empty"
  chain=$(timeline_chain "$TIMELINE" "$BACKUPS/wal" "$FORMER_WAL")
  BACKUP=
  for name in $(backup_names); do
    [ -z "$wanted" ] || [ "$name" = "$wanted" ] || continue
    info=$BACKUPS/base/$name/info
    [ -z "$TARGET" ] || [ "$(date -d "$(backup_value "$info" finished)" +%s%6N)" -le "$(date -d "$TARGET" +%s%6N)" ] || continue
    left=$(sed -n "s/^$(backup_timeline "$info") //p" <<< "$chain")
    [ -n "$left" ] || continue
    [ "$left" = - ] || [ "$(lsn_number "$(backup_value "$info" end_lsn)")" -le "$(lsn_number "$left")" ] || continue
    BACKUP=$name
  done
  [ -n "$BACKUP" ] || fail "no backup${wanted:+ of this name} in $BACKUPS leads to ${TARGET:-the end of timeline $TIMELINE}: $(backup_names | tr '\n' ' ')"
  INFO=$BACKUPS/base/$BACKUP/info
  refuse_other_server
  missing=$(missing_wal "$(backup_first_segment "$INFO")" "$chain" "$wal")
  [ -z "$missing" ] || explain_gap "$missing"
}

lsn_number() { echo $((16#${1%/*} << 32 | 16#${1#*/})); }

# The server that is replaced has WAL that was not archived yet, unless it is another cluster.
use_former_wal() {
  local ours
  FORMER_WAL=
  [ -d "$DATA/pg_wal" ] || return 0
  ours=$("${AS_OS_USER[@]}" "$PG_BIN/pg_controldata" "$DATA" 2> /dev/null | sed -n 's/^Database system identifier: *//p')
  if [ "$ours" = "$(cat "$BACKUPS/cluster")" ]; then FORMER_WAL=$DATA/pg_wal; fi
}

refuse_other_server() {
  local major architecture
  major=$(backup_value "$INFO" postgres) architecture=$(backup_value "$INFO" architecture)
  [ "$major" = "$("$PG_BIN/postgres" --version | sed -E 's/.* ([0-9]+)\..*/\1/')" ] || fail "the backup is of PostgreSQL $major, and this is $("$PG_BIN/postgres" --version)"
  [ "$architecture" = "$(uname -m)" ] || fail "the backup is of a machine with $architecture, and this is $(uname -m): use a dump"
}

# Without a target the server would take a gap for the end.
explain_gap() {
  local file
  file=$(segment_name "$TIMELINE" "$1")
  [ -n "$TARGET" ] || fail "WAL is missing: $file is not in $BACKUPS/wal, but later files are. Put it back, or restore a moment before it by --at"
  say "kijko: $file is missing in $BACKUPS/wal; a moment after it cannot be restored"
}

copy_backup() {
  local required free
  required=$(du -sk "$BACKUPS/base/$BACKUP/data" | cut -f1)
  free=$(df -Pk "$KIJKO_HOME" | awk 'NR == 2 { print $4 }')
  [ "$free" -gt $((required + 100000)) ] || { echo "the copy needs $((required / 1024)) MiB, and $KIJKO_HOME has $((free / 1024)) MiB free"; return 1; }
  cp -a "$BACKUPS/base/$BACKUP/data" "$RECOVERED"
  give_to_os_user "$RECOVERED"
  chmod 0700 "$RECOVERED"
  verify_copy "$RECOVERED"
}

# ---- recovery, on a server that nobody reaches: no port, and a socket in a folder of its own

recover() {
  local command="bash \"$KIJKO_HOME/bin/restore-wal\" \"%f\" \"%p\" \"$BACKUPS/wal\""
  [ -z "$FORMER_WAL" ] || command+=" \"$FORMER_WAL\""
  recovery_configuration "$command"
  printf 'local all all trust\n' > "$RECOVERED/recovery_hba.conf"
  touch "$RECOVERED/recovery.signal"
  give_to_os_user "$RECOVERED"
  : > "$LOGS/recovery.log"
  give_to_os_user "$LOGS/recovery.log"
  "${AS_BARE_OS_USER[@]}" "$PG_BIN/pg_ctl" -D "$RECOVERED" -w -t 864000 -s -l "$LOGS/recovery.log" start || true
  # It takes hours when there is much WAL. It is done when connections are accepted, and has failed when the server is gone.
  while "${AS_OS_USER[@]}" "$PG_BIN/pg_ctl" -D "$RECOVERED" status > /dev/null 2>&1; do
    [ "$(recovery_psql supabase_admin template1 -At -c 'select pg_is_in_recovery()' 2> /dev/null)" != f ] || return 0
    sleep 0.2
  done
  explain_recovery
  return 1
}

recovery_configuration() {
  local DATA=$RECOVERED
  configure_cluster
  cat >> "$DATA/kijko.conf" << CONF
listen_addresses = ''
unix_socket_directories = '$SOCKETS'
hba_file = '$RECOVERED/recovery_hba.conf'
archive_command = ''
cron.database_name = '$(backup_value "$INFO" database)'
kijko.databases = '"$(backup_value "$INFO" database)"'
shared_preload_libraries = 'kijko'
# No connection before it is done.
hot_standby = off
restore_command = '$1'
recovery_target_timeline = '$((16#$TIMELINE))'
recovery_target_action = 'promote'
${TARGET:+recovery_target_time = '$TARGET'}
CONF
  # Settings of an operator come after kijko.conf, and could send WAL into the archive of the lost server.
  sed -i -E '/^(archive_|restore_command|recovery_|hba_file|listen_addresses|port|unix_socket|hot_standby|primary_)/d' "$RECOVERED/postgresql.auto.conf"
}

explain_recovery() {
  tail -n 20 "$LOGS/recovery.log"
  if grep -q 'recovery ended before configured recovery target was reached' "$LOGS/recovery.log"; then
    echo "the WAL that is there ends before $TARGET: choose an earlier time, or leave --at out for all that there is"
  fi
}

stop_recovery() {
  [ ! -f "$RECOVERED/postmaster.pid" ] || "${AS_OS_USER[@]}" "$PG_BIN/pg_ctl" -D "$RECOVERED" -w -t 600 -s -m fast stop || true
}

# The former data have not been touched, but for the pause.
abandon_recovery() {
  stop_recovery
  rm -rf ${SOCKETS:+"$SOCKETS"} "$RECOVERED"
  if [ "$PAUSED_FORMER" = yes ] && start_postgres > /dev/null 2>&1; then
    owner_psql -c 'select private.jobs_resume_queue()' > /dev/null || say "kijko: the queue is still paused: './kijko resume' ends that"
    stop_postgres
  fi
  say "kijko: nothing was restored, and the data are as they were. './kijko up' starts the stack again"
}

# recovery_psql USER DATABASE …
recovery_psql() {
  PGOPTIONS=$SUPERUSER_OPTIONS "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 \
    "host=$SOCKETS port=$DB_PORT user=$1 dbname=$2 sslmode=disable application_name=kijko-restore" "${@:3}"
}

# The secrets of this stack hold from here on. Roles are changed by the superuser, rows by their owner.
finish_recovery() {
  local former name password
  former=$(backup_value "$INFO" database)
  for name in ADMIN:supabase_admin POSTGRES:postgres AUTHENTICATOR:authenticator LOGIN:kijko_login SIDECAR:kijko_sidecar GATEWAY:kijko_gateway REALTIME:kijko_realtime STORAGE:kijko_storage INDEXER:kijko_indexer; do
    password=KIJKO_${name%%:*}_PASSWORD
    # A backup of an older release has no such password, or no such role.
    [ -n "${!password:-}" ] || continue
    printf "select format('alter role %%I password %%L', rolname, '%s') from pg_roles where rolname = '%s' \\gexec\n" "${!password}" "${name#*:}"
  done | recovery_psql supabase_admin "$former"
  recovery_psql postgres "$former" -c "delete from private.job_queue_pause; select private.jobs_pause_queue('restored from backup $BACKUP${TARGET:+ to $TARGET}')" > /dev/null
  move_schedules "$former"
  [ "$former" = "$DATABASE_NAME" ] || rename_database "$former"
  recovery_psql supabase_admin "$DATABASE_NAME" -c checkpoint
}

# pg_cron runs a job at the address and in the database that its row names. Its trigger on that table needs the library, which is
# not loaded here.
move_schedules() {
  recovery_psql supabase_admin "$1" -v former="$1" -v name="$DATABASE_NAME" <<SQL
set session_replication_role = replica;
update cron.job set (nodename, nodeport) = $SCHEDULE_ADDRESS, database = case database when :'former' then :'name' else database end;
SQL
}

rename_database() {
  recovery_psql supabase_admin template1 -v former="$1" -v name="$DATABASE_NAME" <<'SQL'
select pg_terminate_backend(pid) from pg_stat_activity where datname = :'former' and pid <> pg_backend_pid() \g /dev/null
alter database :"former" rename to :"name";
SQL
}

# One rename brings the new data in. Before it, the former data are in their place, whatever happens.
take_into_use() {
  rm -f "$RECOVERED/recovery_hba.conf"
  sed -i '/^restore_command\|^recovery_\|^hba_file\|^hot_standby/d' "$RECOVERED/kijko.conf"
  cp "$(dirname "$INFO")/applied" "$KIJKO_HOME/applied"
  printf '%s\n' "${TARGET:-end of the archive}" > "$KIJKO_HOME/paused"
  rm -f "$KIJKO_HOME/untouched-jobs" "$KIJKO_HOME/later-habits"
  if [ "$LATER_WORK" = known ]; then
    mv "$KIJKO_HOME/untouched-jobs.new" "$KIJKO_HOME/untouched-jobs"
    mv "$KIJKO_HOME/later-habits.new" "$KIJKO_HOME/later-habits"
  fi
  if [ -e "$DATA" ]; then
    FORMER_DATA=$DATA.replaced-$(date -u +%Y%m%dT%H%M%SZ)
    mv "$DATA" "$FORMER_DATA"
  fi
  mv "$RECOVERED" "$DATA"
  save_ports
}
