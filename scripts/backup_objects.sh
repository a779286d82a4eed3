# The objects of storage in a backup: BACKUPS/objects has the files of all backups, BACKUPS/base/NAME/objects lists those that this
# backup needs, and those that were archived since the one before. Sourced by ./kijko.
#
# What a row names is in BACKUPS/objects before the WAL that has the row is in BACKUPS/wal: archive-wal copies new objects first.
# Bytes of a deleted object stay in the folder for KIJKO_STORAGE_KEEP_DELETED_DAYS, so that none goes before it is copied.
# shellcheck shell=bash

# objects_in FOLDER: VERSION BYTES of each
objects_in() {
  [ ! -d "$1" ] || "${AS_OS_USER[@]}" find "$1" -mindepth 3 -maxdepth 3 -type f -name '????????-????-????-????-????????????' -printf '%f %s\n' | sort
}

# Lists of the backups that are kept, as one.
kept_objects() {
  local name lists=()
  for name in $(backup_names); do
    [ ! -f "$BACKUPS/base/$name/objects" ] || lists+=("$BACKUPS/base/$name/objects")
  done
  sort -u /dev/null "${lists[@]}"
}

# The newest ones are copied, and listed beside the copy of the cluster.
backup_objects() {
  objects_in_s3 && return 0
  "${AS_OS_USER[@]}" bash "$KIJKO_HOME/bin/archive-objects" "$OBJECTS" "$BACKUPS/objects" || return 1
  list_objects "$1"
}

# list_objects: the archived objects that are in the folder now, and those that no former backup lists
list_objects() {
  local work
  work=$(mktemp -d)
  objects_in "$BACKUPS/objects" > "$work/archived"
  objects_in "$OBJECTS" > "$work/present"
  kept_objects > "$work/listed"
  { comm -12 "$work/archived" "$work/present" && comm -23 "$work/archived" "$work/listed"; } | sort -u > "$1"
  rm -rf "$work"
  give_to_os_user "$1"
}

# verify_objects NAME: whether what it lists is there, in its length
verify_objects() {
  local list=$BACKUPS/base/$1/objects lost
  [ -f "$list" ] || return 0
  lost=$(objects_in "$BACKUPS/objects" | comm -23 "$list" -)
  [ -z "$lost" ] || { echo "$(wc -l <<< "$lost") objects are missing in $BACKUPS/objects, or have another length: $(head -n 1 <<< "$lost" | cut -d ' ' -f 1)"; return 1; }
}

# prune_objects FILE: deletes what only backups listed that are removed now
prune_objects() {
  local version
  sort -u "$1" | comm -23 - <(kept_objects) | while read -r version _; do
    "${AS_OS_USER[@]}" rm -f "$BACKUPS/objects/${version:0:2}/${version:2:2}/$version"
  done
}

# One line if WAL goes into the archive and objects do not.
objects_problem() {
  local newest pass=$BACKUPS/objects/.pass
  objects_in_s3 && return 0
  [ -d "$OBJECTS" ] && [ -d "$BACKUPS/objects" ] || return 0
  newest=$(find "$BACKUPS/wal" -name '*.gz' -printf '%T@\n' | sort -n | tail -n 1)
  [ "$(stat -c %Y "$pass" 2> /dev/null || echo 0)" -ge "$((${newest%.*} - 300))" ] ||
    echo "new objects are not archived: see $LOGS/postgres.log"
}

# ---- restore

# Brings back the bytes of every row of the recovered database that are not there. What is not in the backup either is named by
# the check at the end.
restore_objects() {
  local work
  objects_in_s3 && { echo "the objects are in the bucket $KIJKO_STORAGE_S3_BUCKET"; return 0; }
  make_private_folder "$OBJECTS"
  install_binary archive-objects "$ROOT/scripts/archive-objects.sh"
  [ -d "$BACKUPS/objects" ] && recovered_has_storage || return 0
  work=$(mktemp -d)
  recovery_psql kijko_storage "$DATABASE_NAME" -At -F ' ' -c 'set statement_timeout = 0' \
    -c "select version, bytes from storage_service.inventory() where kind = 'object'" | sort > "$work/rows"
  objects_in "$OBJECTS" | comm -23 "$work/rows" - |
    sed -nE 's|^((..)(..)[0-9a-f-]{32}) .*|\2/\3/\1|p' > "$work/wanted"
  give_to_os_user "$work"
  "${AS_OS_USER[@]}" bash "$KIJKO_HOME/bin/archive-objects" "$BACKUPS/objects" "$OBJECTS" "$work/wanted"
  rm -rf "$work" "$OBJECTS/.lock"
}

# A backup of an older release has no storage service.
recovered_has_storage() {
  [ "$(recovery_psql supabase_admin "$DATABASE_NAME" -At -c "select to_regprocedure('storage_service.inventory()') is not null")" = t ]
}
