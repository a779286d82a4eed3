# ./kijko secrets: the keys that seal secrets, and what is sealed by which. Sourced by ./kijko and inside the postgres image.
# shellcheck shell=bash

# How long other transactions are waited for, in seconds.
SECRETS_WAIT_SECONDS=${KIJKO_SECRETS_WAIT_SECONDS:-60}

command_secrets() {
  local action=${1:-status}
  [ "$#" -le 1 ] || misuse "secrets $action takes no arguments"
  case $action in status | check | create | rotate | reseal | prune) ;; *) misuse "secrets takes: status, check, create, rotate, reseal, prune" ;; esac
  require_database
  SEAL_KEY_FILE=$(readlink -m "$SEAL_KEY_FILE")
  # Two commands at once would take each other's keys away.
  exec 8> "$KIJKO_HOME/seal-keys.lock"
  flock -n 8 || fail "another 'secrets' command is running"
  "secrets_$action"
}

require_database() {
  load_secrets 2> /dev/null && postgres_answers || fail "the database is not running: start it with './kijko up'"
}

# The server must read the file that is changed here.
require_seal_keys() {
  local ours theirs
  [ -f "$SEAL_KEY_FILE" ] || fail "the file $SEAL_KEY_FILE is missing: put it back from your backup. './kijko secrets create' makes a new one, and what is sealed stays unreadable"
  ours=$(seal_key_ids "$SEAL_KEY_FILE")
  theirs=$(owner_psql -At -c 'select unnest(kijko.seal_key_ids())') || fail "the server cannot use the file of kijko.seal_key_file"
  [ "$ours" = "$theirs" ] || fail "the server reads another file than $SEAL_KEY_FILE: compare it with 'show kijko.seal_key_file' as the superuser"
}

# Exit status 1 when a value needs a key that is not in the file.
secrets_status() {
  local missing
  require_seal_keys
  owner_psql -P footer=off -P null=- -f - << 'SQL'
with keys as (
  select k.id, case k.place when 1 then 'seals' else 'unseals only' end as state, k.place
  from unnest(kijko.seal_key_ids()) with ordinality as k (id, place)
), counts as (
  select c.key_id, sum(c.row_count) as rows from private.count_sealed_rows() as c group by c.key_id
)
select coalesce(k.id, c.key_id) as key, coalesce(k.state, 'MISSING') as state, coalesce(c.rows, 0) as values
from keys as k full join counts as c on c.key_id = k.id
order by k.place nulls last, c.key_id;
SQL
  missing=$(sealed_values 'c.key_id <> all (kijko.seal_key_ids())')
  [ "$missing" = 0 ] || fail "$missing values need a key that is not in $SEAL_KEY_FILE: add its line at the end of the file"
}

# sealed_values CONDITION: how many there are
sealed_values() {
  owner_psql -At -c "select coalesce(sum(c.row_count), 0) from private.count_sealed_rows() as c where $1"
}

# Opens every value, as after a restore.
secrets_check() {
  local bad
  require_seal_keys
  bad=$(owner_psql -At -c 'select coalesce(sum(c.row_count), 0) from private.count_unsealable_rows() as c')
  say "$(sealed_values true) sealed values, $bad cannot be opened"
  [ "$bad" = 0 ] || fail "their key is missing, or they were changed or copied: './kijko secrets status' shows keys that are missing"
}

secrets_create() {
  [ ! -e "$SEAL_KEY_FILE" ] || fail "there is a file of keys already: $SEAL_KEY_FILE"
  create_seal_keys
  require_seal_keys
  say "made $SEAL_KEY_FILE: back it up, apart from the database"
}

secrets_rotate() {
  require_seal_keys
  add_seal_key "$SEAL_KEY_FILE"
  require_seal_keys
  say "the key $(seal_key_ids "$SEAL_KEY_FILE" | head -n 1) seals from now on: back up $SEAL_KEY_FILE, then run './kijko secrets reseal'"
}

FORMER_KEYS='c.key_id = any ((kijko.seal_key_ids())[2:])'

# In transactions of 500 values a column. What another transaction holds is tried again for a while.
secrets_reseal() {
  local changed left total=0 waited=$SECONDS
  require_seal_keys
  while :; do
    changed=$(owner_psql -At -c 'select private.reseal_rows()')
    total=$((total + changed))
    if [ "$changed" -gt 0 ]; then
      waited=$SECONDS
      continue
    fi
    left=$(sealed_values "$FORMER_KEYS")
    [ "$left" != 0 ] && [ "$(openable_former_values)" != 0 ] && [ $((SECONDS - waited)) -lt "$SECRETS_WAIT_SECONDS" ] || break
    sleep 0.2
  done
  say "$total values were sealed anew, $left are left under a former key"
  [ "$left" = 0 ] || fail "other transactions hold them, or they cannot be opened: './kijko secrets check' counts the latter. Run this again"
}

# 0 when every value that is left cannot be opened: then there is nothing to wait for.
openable_former_values() {
  owner_psql -At -c "select greatest((select coalesce(sum(c.row_count), 0) from private.count_sealed_rows() as c where $FORMER_KEYS)
    - (select coalesce(sum(c.row_count), 0) from private.count_unsealable_rows() as c), 0)"
}

# Removes former keys that seal nothing any more. A transaction that began before this may hold a value that a former key has
# sealed and that nobody sees yet; those that begin later seal by the first key.
secrets_prune() {
  local needed=() unused=() id
  require_seal_keys
  await_older_transactions
  while read -r id; do
    if [ "$(sealed_values "c.key_id = '$id'")" = 0 ]; then unused+=("$id"); else needed+=("$id"); fi
  done < <(seal_key_ids "$SEAL_KEY_FILE" | tail -n +2)
  if [ "${#unused[@]}" -gt 0 ]; then
    remove_seal_keys "$SEAL_KEY_FILE" "${unused[@]}"
    require_seal_keys
    say "removed: ${unused[*]}. Backups that are older still need these keys"
  fi
  [ "${#needed[@]}" = 0 ] || fail "still needed, and kept: ${needed[*]}. Run './kijko secrets reseal' first"
  [ "${#unused[@]}" -gt 0 ] || say "there is no former key"
}

# By the superuser, who sees the transactions of every role. It reads the catalog only.
await_older_transactions() {
  local since older waited=$SECONDS
  since=$(admin_psql -At -c 'select clock_timestamp()')
  while :; do
    older=$(admin_psql -At -v since="$since" <<'SQL'
select count(*) from (
  select from pg_stat_activity as a
  where a.datname = current_database() and a.pid <> pg_backend_pid() and a.xact_start < :'since'
    and a.backend_type in ('client backend', 'background worker', 'parallel worker')
  union all
  select from pg_prepared_xacts as p where p.database = current_database() and p.prepared < :'since'
) as older;
SQL
    )
    [ "$older" != 0 ] || return 0
    [ $((SECONDS - waited)) -lt "$SECRETS_WAIT_SECONDS" ] ||
      fail "$older transactions have been open for $SECRETS_WAIT_SECONDS s, and one may hold a value that a former key has sealed: end them and try again"
    sleep 0.2
  done
}
