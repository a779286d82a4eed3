# ./kijko backup: copies of the whole cluster, and the archive of WAL that leads from each to any later moment. Sourced by ./kijko and
# inside the postgres image.
# shellcheck shell=bash

# BACKUPS/base/NAME/data is a copy (NAME.partial until it is verified), BACKUPS/base/NAME/info says what it is, BACKUPS/wal is the
# archive, BACKUPS/objects the bytes of storage (backup_objects.sh). The secrets are kept in a folder of their own: together with the data they would reveal everything.
load_backup_settings() {
  BACKUPS=$(readlink -m "${KIJKO_BACKUP_DIR:-$KIJKO_HOME/backups}")
  SECRET_BACKUPS=$(readlink -m "${KIJKO_BACKUP_SECRETS_DIR:-$KIJKO_HOME/backup-secrets}")
  BACKUP_KEEP=${KIJKO_BACKUP_KEEP:-7} BACKUP_MAX_DAYS=${KIJKO_BACKUP_MAX_DAYS:-30}
  check_plain_path KIJKO_BACKUP_DIR "$BACKUPS"
  check_plain_path KIJKO_BACKUP_SECRETS_DIR "$SECRET_BACKUPS"
  check_plain_path KIJKO_HOME "$KIJKO_HOME"
  # A copy of the cluster would hold its former copies.
  [[ $BACKUPS/ != "$DATA"/* ]] || misuse "KIJKO_BACKUP_DIR is in the folder of the data: $BACKUPS"
  [[ $BACKUP_KEEP =~ ^[1-9][0-9]{0,3}$ ]] || misuse "KIJKO_BACKUP_KEEP must be a number from 1 to 9999, not '$BACKUP_KEEP'"
  [[ $BACKUP_MAX_DAYS =~ ^[1-9][0-9]{0,3}$ ]] || misuse "KIJKO_BACKUP_MAX_DAYS must be a number from 1 to 9999, not '$BACKUP_MAX_DAYS'"
}

command_backup() {
  local action=${1:-create}
  case $action in
    create | status | prune | off) [ "$#" -le 1 ] || misuse "backup $action takes no arguments" ;;
    verify) [ "$#" -le 2 ] || misuse "backup verify takes the name of a backup, or nothing" ;;
    *) misuse "backup takes nothing, or: status, verify [NAME], prune, off" ;;
  esac
  load_backup_settings
  case $action in create | prune) lock_backups ;; esac
  "backup_$action" "${@:2}"
  unlock_backups
}

# Two at once would remove each other's WAL.
lock_backups() {
  exec 7> "$KIJKO_HOME/backup.lock"
  flock -n 7 || fail "another 'backup' or 'restore' command is running"
}

# Not by the end of this process: what it has started may have inherited the file.
unlock_backups() { flock -u 7 2> /dev/null || true; }

backup_create() {
  local name partial started required free
  require_database
  [ -z "${KIJKO_BACKUP_CERTIFICATE:-}" ] || openssl x509 -in "$KIJKO_BACKUP_CERTIFICATE" -noout 2> /dev/null ||
    fail "KIJKO_BACKUP_CERTIFICATE is no certificate (PEM): $KIJKO_BACKUP_CERTIFICATE"
  make_backup_folders
  start_archiving
  name=$(date -u +%Y%m%dT%H%M%SZ)
  partial=$BACKUPS/base/$name.partial
  [ ! -e "$partial" ] && [ ! -e "$BACKUPS/base/$name" ] || fail "there is a backup $name already: try again in a second"
  required=$(admin_psql -At -c 'select (sum(pg_database_size(oid)) / 1024)::bigint + 100000 from pg_database')
  free=$(df -Pk "$BACKUPS/base" | awk 'NR == 2 { print $4 }')
  [ "$free" -gt "$required" ] || fail "a backup needs $((required / 1024)) MiB, and $BACKUPS has $((free / 1024)) MiB free"
  started=$(current_utc)
  "${AS_OS_USER[@]}" mkdir -m 0700 "$partial"
  # Left behind, it would take the space of the next one.
  trap 'rm -rf "$partial" "$SECRETS/backup.pgpass"' EXIT
  step "a copy of the cluster" "see the log; the stack goes on" copy_cluster "$partial/data"
  step "verification of the copy" "the copy is damaged: check the disk" verify_copy "$partial/data"
  write_backup_info "$name" "$started" > "$partial/info"
  erasure_entries | erasure_ids > "$partial/erasures"
  cp "$KIJKO_HOME/applied" "$partial/applied"
  give_to_os_user "$partial/info" "$partial/erasures" "$partial/applied"
  step "WAL up to the end of the copy" "see $LOGS/postgres.log: the archive cannot be written" await_archive "$partial/info"
  step "objects" "see $LOGS/postgres.log and the log: the objects cannot be copied" backup_objects "$partial/objects"
  backup_secrets "$name"
  backup_erasures
  sync -f "$partial"
  mv "$partial" "$BACKUPS/base/$name"
  sync "$BACKUPS/base"
  trap - EXIT
  rm -f "$SECRETS/backup.pgpass"
  say "backup $name: $(du -sh "$BACKUPS/base/$name" | cut -f1) in $BACKUPS$(objects_in_s3 && echo ", without the objects, which are in S3" || true)"
  backup_prune
}

make_backup_folders() {
  mkdir -p "$BACKUPS" "$SECRET_BACKUPS" || fail "$BACKUPS and $SECRET_BACKUPS cannot be made"
  local folders=("$BACKUPS" "$BACKUPS/base" "$BACKUPS/wal" "$BACKUPS/objects")
  mkdir -p "${folders[@]}"
  chmod 0700 "${folders[@]}" "$SECRET_BACKUPS"
  [ "$(id -u)" != 0 ] || chown "$OS_USER:" "${folders[@]}"
  [ "$(id -u)" != 0 ] || reachable_by_os_user "$BACKUPS/wal" ||
    fail "the user $OS_USER cannot enter $BACKUPS (Postgres does not run as root): set KIJKO_BACKUP_DIR to a folder it can enter"
}

# An archive belongs to one cluster: the WAL of another one, for example after `./kijko reset`, has the same names.
start_archiving() {
  local ours theirs
  ours=$(admin_psql -At -c 'select system_identifier from pg_control_system()')
  if [ -f "$BACKUPS/cluster" ]; then
    theirs=$(cat "$BACKUPS/cluster")
    [ "$ours" = "$theirs" ] || fail "$BACKUPS holds the backups of another cluster ($theirs): set KIJKO_BACKUP_DIR to another folder"
  else
    printf '%s\n' "$ours" > "$BACKUPS/cluster"
  fi
  [ "$(admin_psql -At -c 'show archive_mode')" = on ] || fail "this server was started without archive_mode: run './kijko down' and './kijko up' once"
  install_binary archive-wal "$ROOT/scripts/archive-wal.sh"
  install_binary archive-objects "$ROOT/scripts/archive-objects.sh"
  [ "$(archive_folder)" != "$BACKUPS" ] || return 0
  [ -z "$(archive_folder)" ] || say "kijko: the archive moves from $(archive_folder) to $BACKUPS"
  printf '%s\n' "$BACKUPS" > "$(archive_state)"
  configure_cluster
  admin_psql -c 'select pg_reload_conf()' > /dev/null
}

# By a file: command lines are public.
copy_cluster() {
  (umask 077 && printf '127.0.0.1:%s:*:supabase_admin:%s\n' "$DB_PORT" "$KIJKO_ADMIN_PASSWORD" > "$SECRETS/backup.pgpass")
  give_to_os_user "$SECRETS/backup.pgpass"
  "${AS_OS_USER[@]}" "$PG_BIN/pg_basebackup" --checkpoint=fast --wal-method=stream --manifest-checksums=SHA256 --no-password -D "$1" \
    -d "host=127.0.0.1 port=$DB_PORT user=supabase_admin sslmode=disable application_name=kijko-backup passfile='$SECRETS/backup.pgpass'"
}

verify_copy() { "${AS_OS_USER[@]}" "$PG_BIN/pg_verifybackup" "$1"; }

# A moment of `finished` must not be before the end of the copy: recovery to it could stop before the copy is consistent. So it is
# exact to the microsecond, as commits are.
write_backup_info() {
  local manifest=$BACKUPS/base/$1.partial/data/backup_manifest
  printf 'name=%s\nstarted=%s\nfinished=%s\nrelease=%s\n' "$1" "$2" "$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)" "$(kijko_release)"
  printf 'postgres=%s\narchitecture=%s\ndatabase=%s\n' "$(cat "$DATA/PG_VERSION")" "$(uname -m)" "$DATABASE_NAME"
  jq -r '."WAL-Ranges"[-1] | "timeline=\(.Timeline)\nstart_lsn=\(."Start-LSN")\nend_lsn=\(."End-LSN")"' "$manifest"
}

# backup_value INFO NAME
backup_value() { sed -n "s/^$2=//p" "$1"; }

backup_timeline() { printf '%08X' "$(backup_value "$1" timeline)"; }

# The first file of WAL that a backup needs: timelines have no part in it.
backup_first_segment() { segment_of_lsn "$(backup_value "$1" start_lsn)"; }

# Proves that the archive works, not only that it was asked for.
await_archive() {
  local file waited
  file=$(segment_name "$(backup_timeline "$1")" "$(segment_of_lsn "$(backup_value "$1" end_lsn)")")
  admin_psql -c 'select pg_switch_wal()' > /dev/null
  for ((waited = 0; waited < 600; waited++)); do
    [ ! -f "$BACKUPS/wal/$file.gz" ] || return 0
    sleep 0.1
  done
  echo "$BACKUPS/wal/$file.gz was not written within a minute"
  tail -n 10 "$LOGS/postgres.log"
  return 1
}

# ---- secrets: an operator who has the data without them cannot use it, and who has both can read everything

# Made for the certificate, when there is one: then this machine cannot read what it has written.
backup_secrets() {
  local name=$1 file=$SECRET_BACKUPS/secrets-$1.tar staged
  staged=$(mktemp -d "$SECRETS/backup.XXXXXX")
  cp -p "$SECRETS/passwords" "$staged/"
  [ ! -f "$SIGNING_KEY_FILE" ] || cp -p "$SIGNING_KEY_FILE" "$staged/signing.keys"
  [ ! -f "$SEAL_KEY_FILE" ] || cp -p "$SEAL_KEY_FILE" "$staged/seal.keys"
  local extra
  for extra in "$SECRETS/api_keys" "$SECRETS/storage_signing_key" "$SECRETS/stripe" "$ROOT/.env"; do
    [ ! -f "$extra" ] || cp -p "$extra" "$staged/"
  done
  [ -z "${KIJKO_BACKUP_CERTIFICATE:-}" ] || file+=.cms
  (umask 077 && pack_secrets "$staged" "$file.new" && sync "$file.new" && mv "$file.new" "$file") || {
    rm -rf "$staged" "$file.new"
    fail "the secrets could not be written to $SECRET_BACKUPS"
  }
  rm -rf "$staged"
  say "the secrets are in $SECRET_BACKUPS: keep them on another machine than $BACKUPS"
}

pack_secrets() {
  if [ -n "${KIJKO_BACKUP_CERTIFICATE:-}" ]; then
    tar -C "$1" -cf - . | openssl cms -encrypt -binary -stream -aes-256-gcm -outform DER -out "$2" "$KIJKO_BACKUP_CERTIFICATE"
  else
    tar -C "$1" -cf "$2" .
  fi
}

# ---- what there is

backup_names() {
  [ ! -d "$BACKUPS/base" ] || find "$BACKUPS/base" -mindepth 2 -maxdepth 2 -name info -printf '%h\n' | sed 's|.*/||' | grep -v '\.partial$' | sort || true
}

# Exit status 1 when something is wrong, so that a monitor can ask.
backup_status() {
  local name problems
  printf '%-18s %-28s %-10s %s\n' BACKUP 'RESTORES FROM' SIZE RELEASE
  for name in $(backup_names); do
    printf '%-18s %-28s %-10s %s\n' "$name" "$(backup_value "$BACKUPS/base/$name/info" finished)" \
      "$(du -sh "$BACKUPS/base/$name" | cut -f1)" "$(backup_value "$BACKUPS/base/$name/info" release)"
  done
  printf 'archive            %s, %s files, %s\n' "$(archive_folder || echo off)" "$(wal_names "$BACKUPS/wal" | wc -l)" \
    "$(du -sh "$BACKUPS/wal" 2> /dev/null | cut -f1)"
  printf 'objects            %s\n' "$(objects_in_s3 && echo "in S3, not in the backups" || du -sh "$BACKUPS/objects" 2> /dev/null | cut -f1)"
  problems=$(backup_problems)
  [ -z "$problems" ] || fail "$problems"
}

# One line for each thing that is wrong.
backup_problems() {
  backup_age_problem
  [ -n "$(backup_names)" ] || return 0
  archive_folder > /dev/null || { echo "nothing is archived: './kijko backup' turns the archive on"; return 0; }
  objects_problem
  load_secrets 2> /dev/null && postgres_answers || return 0
  admin_psql -At -c "select format('the archive fails since %s: %s', last_failed_time::timestamptz(0), last_failed_wal) from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')"
}

backup_age_problem() {
  local newest age
  newest=$(backup_names | tail -n 1)
  [ -n "$newest" ] || { echo "there is no backup"; return 0; }
  age=$((($(date +%s) - $(date -d "$(backup_value "$BACKUPS/base/$newest/info" finished)" +%s)) / 3600))
  [ "$age" -lt "${KIJKO_BACKUP_MAX_HOURS:-26}" ] || echo "the newest backup is $age hours old"
}

# For ./kijko check, where backups are taken at all. Whether the archive works is asked there, too.
check_backups() {
  local problem
  if [ -f "$KIJKO_HOME/paused" ]; then found warning restore "nothing runs since a restore: './kijko resume'"; fi
  archive_folder > /dev/null || return 0
  BACKUPS=$(archive_folder)
  problem=$(backup_age_problem)
  if [ -n "$problem" ]; then found warning backup "$problem"; else found ok backup "there is one of today"; fi
}

backup_verify() {
  local names=("$@") name missing chain wal
  [ "$#" -gt 0 ] || mapfile -t names < <(backup_names)
  [ "${#names[@]}" -gt 0 ] || fail "there is no backup in $BACKUPS"
  wal=$(wal_names "$BACKUPS/wal")
  chain=$(timeline_chain "$(latest_timeline "$BACKUPS/wal")" "$BACKUPS/wal")
  for name in "${names[@]}"; do
    [ -f "$BACKUPS/base/$name/info" ] || misuse "there is no backup '$name' in $BACKUPS"
    step "copy $name" "this backup is damaged: use another one" verify_copy "$BACKUPS/base/$name/data"
    step "objects of $name" "put them back, or take a new backup" verify_objects "$name"
    grep -q "^$(backup_timeline "$BACKUPS/base/$name/info") " <<< "$chain" || continue
    missing=$(missing_wal "$(backup_first_segment "$BACKUPS/base/$name/info")" "$chain" "$wal")
    [ -z "$missing" ] || fail "WAL is missing after $name: nothing later than file $(segment_name ........ "$missing") can be restored from it. Take a new backup"
  done
  say "${#names[@]} verified, the archive has no gap"
}

# Those that stay are the newest, at most BACKUP_KEEP and no older than BACKUP_MAX_DAYS, but always one; and the WAL since the oldest of them.
# The database is told which the oldest is: the proof of an erasure waits until that one is younger.
backup_prune() {
  local names old oldest removed
  removed=$(mktemp)
  mapfile -t names < <(backup_names)
  while [ "${#names[@]}" -gt "$BACKUP_KEEP" ] || { [ "${#names[@]}" -gt 1 ] && backup_is_old "${names[0]}"; }; do
    old=${names[0]}
    names=("${names[@]:1}")
    # Without its info it is none any more, also when the removal is interrupted.
    cat "$BACKUPS/base/$old/objects" >> "$removed" 2> /dev/null || true
    rm -f "$BACKUPS/base/$old/info"
    rm -rf "$BACKUPS/base/${old:?}"
    rm -f "$SECRET_BACKUPS/secrets-$old.tar" "$SECRET_BACKUPS/secrets-$old.tar.cms"
    say "removed the backup $old (KIJKO_BACKUP_KEEP is $BACKUP_KEEP, KIJKO_BACKUP_MAX_DAYS $BACKUP_MAX_DAYS)"
  done
  prune_objects "$removed"
  rm -f "$removed"
  find "$BACKUPS/base" -mindepth 1 -maxdepth 1 -name '*.partial' -mmin +1440 -exec rm -rf {} +
  record_backups
  [ "${#names[@]}" -gt 0 ] || return 0
  oldest=$BACKUPS/base/${names[0]}/info
  "${AS_OS_USER[@]}" "$PG_BIN/pg_archivecleanup" -x .gz "$BACKUPS/wal" \
    "$(segment_name "$(backup_timeline "$oldest")" "$(backup_first_segment "$oldest")")"
}

# Data that a restore has replaced are a copy, too.
record_backups() {
  local name oldest
  oldest=$({
    for name in $(backup_names); do backup_value "$BACKUPS/base/$name/info" started; done
    find "$(dirname "$DATA")" -maxdepth 1 -name "$(basename "$DATA").replaced-*" |
      sed -nE 's/.*\.replaced-([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z$/\1-\2-\3T\4:\5:\6Z/p'
  } | sort | head -n 1)
  # A database that does not answer, or of an older release, is told by the next run.
  load_secrets 2> /dev/null && postgres_answers && [ "$(owner_psql -At -c "select to_regprocedure('private.privacy_record_backups(timestamptz,integer)') is not null")" = t ] || return 0
  owner_psql -At -c "select private.privacy_record_backups(nullif('$oldest', '')::timestamptz, $BACKUP_MAX_DAYS)" > /dev/null
}

backup_is_old() {
  [ "$(date -d "$(backup_value "$BACKUPS/base/$1/info" finished)" +%s)" -lt "$(($(date +%s) - BACKUP_MAX_DAYS * 86400))" ]
}

# The folder can then be moved or unmounted.
backup_off() {
  [ -f "$(archive_state)" ] || { say "nothing is archived"; return 0; }
  rm -f "$(archive_state)"
  if load_secrets 2> /dev/null && postgres_answers; then
    configure_cluster
    admin_psql -c 'select pg_reload_conf()' > /dev/null
  fi
  say "nothing is archived any more: the backups in $BACKUPS lead up to now. The next './kijko backup' begins anew"
}
