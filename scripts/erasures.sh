# The journal of erasures: who was erased, outside the data and outside their backups. A restored backup is erased again by it before
# anybody reaches it. Sourced by ./kijko and inside the postgres image.
# shellcheck shell=bash

erasure_journal() { printf '%s\n' "${KIJKO_ERASURE_JOURNAL:-$KIJKO_HOME/erasures/journal}"; }

# Its copy goes with the secrets, which are kept on another machine than the backups.
backup_erasures() {
  local copy=$SECRET_BACKUPS/erasures
  [ -f "$(erasure_journal)" ] || return 0
  (umask 077 && erasure_entries > "$copy.new" && sync "$copy.new" && mv "$copy.new" "$copy") ||
    fail "the journal of erasures could not be written to $SECRET_BACKUPS"
}

# Entries of the journal and of its copies, each once. A line that a crash has torn is no entry.
erasure_entries() {
  local file
  for file in "$(erasure_journal)" "$SECRET_BACKUPS/erasures" "$@"; do
    [ ! -f "$file" ] || jq -Rc 'fromjson? | select(type == "object" and .id != null and .user_id != null)' "$file"
  done | sort -u
}

# The ids of entries, in order.
erasure_ids() { jq -r .id | LC_ALL=C sort -u; }

# Also those of the file that was named, and of the copy beside the secrets that were named.
known_erasures() {
  erasure_entries ${ERASURES_FILE:+"$ERASURES_FILE"} ${SECRETS_FILE:+"$(dirname "$SECRETS_FILE")/erasures"}
}

# Before a backup is copied over anything: a journal that was left behind, or that of another stack, would bring people back. A backup
# has the ids of the entries that there were. They are those of erasures, and name nobody.
require_erasures() {
  local missing
  [ -f "${INFO%/info}/erasures" ] || return 0
  missing=$(LC_ALL=C comm -23 "${INFO%/info}/erasures" <(known_erasures | erasure_ids) | wc -l)
  [ "$missing" = 0 ] ||
    fail "the journal of erasures lacks $missing entries that it had when the backup was made: name its file by --erasures, or people who were erased come back"
}

replay_erasures() {
  local entries
  rm -f "$LOGS/erasures.json"
  entries=$(known_erasures | jq -sc .)
  [ "$entries" != '[]' ] || return 0
  if [ "$(recovery_psql postgres "$DATABASE_NAME" -At -c "select to_regprocedure('private.privacy_replay(jsonb)') is not null")" != t ]; then
    echo "the backup is of a release without erasures, and $(jq length <<< "$entries") people have been erased since"
    return 1
  fi
  printf 'select private.privacy_replay($kijko$%s$kijko$::jsonb);\n' "$entries" |
    recovery_psql postgres "$DATABASE_NAME" -At -v ON_ERROR_STOP=1 > "$LOGS/erasures.json" 2> "$LOGS/erasures.log" || { tail -n 5 "$LOGS/erasures.log"; return 1; }
  # What is erased goes on being in the journal of this machine.
  make_private_folder "$(dirname "$(erasure_journal)")"
  jq -c '.[]' <<< "$entries" > "$(erasure_journal).new"
  chmod 0600 "$(erasure_journal).new"
  give_to_os_user "$(erasure_journal).new"
  sync "$(erasure_journal).new"
  mv "$(erasure_journal).new" "$(erasure_journal)"
}

# An erasure that could not be replayed stops no restore: its person is locked out.
report_erasures() {
  local failed
  [ -s "$LOGS/erasures.json" ] || return 0
  failed=$(jq -r '.failed | length' "$LOGS/erasures.json")
  [ "$failed" = 0 ] ||
    say "kijko: $failed erasures could not be replayed, and their people are locked out: see $LOGS/erasures.json, and private.privacy_problems()"
}
