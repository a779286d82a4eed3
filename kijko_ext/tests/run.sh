#!/usr/bin/env bash
# The extension's tests. Without arguments all of them, in this order:
#   regress    every function's answer and error, and the rights (tests/pg_regress)
#   isolation  races between sessions (tests/isolation)
#   crash      what a crash and a restart do, and that a late load is refused
#   workers    databases with a worker each: metering apart, DROP DATABASE, no room (tests/workers)
#   replication  what a logical subscription applies reaches the caches (tests/replication)
#   outbox     what it sends, and what a crash and hostile receivers do (tests/outbox)
#   pg_upgrade the server is upgraded under the extension (tests/pg_upgrade)
#   upgrade    this library under a predecessor's SQL, the upgrade, and that it equals a fresh installation; dump and restore
#   cron       agreement with npm cron-parser over generated expressions (tests/cron_agreement.mjs)
#   model      every interleaving of the quota counters' steps, by loom (kijko_ext/model)
#   unit       #[test]
# `regress --accept` takes the answers over as the expected ones: read the diff. As root, Postgres runs as the user postgres.
set -euo pipefail

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
TESTS=$ROOT/kijko_ext/tests
# Not in the checkout: the user postgres must be able to reach it. Not in target/pgsql: layers put other files there.
HOME_DIR=${KIJKO_EXT_TEST_HOME:-/var/tmp/kijko_ext-$(id -u)-$(printf '%s' "$ROOT" | sha256sum | cut -c1-12)}
DATA=$HOME_DIR/data
RUN=$HOME_DIR/run

# shellcheck source=scripts/ui.sh
source "$ROOT/scripts/ui.sh"
# shellcheck source=scripts/postgres.sh
source "$ROOT/scripts/postgres.sh"
# shellcheck source=scripts/build.sh
source "$ROOT/scripts/build.sh"
choose_build_profile
choose_pg_major
PREFIX=$HOME_DIR/pgsql
BIN=$(pg_bin "$PREFIX")
EXTENSION_DIR=$(pg_extension "$PREFIX")
PGXS_TESTS=$(dirname "$(pg_library "$PREFIX")")/pgxs/src/test
# shellcheck source=kijko_ext/tests/pg_regress/layer.sh
source "$TESTS/pg_regress/layer.sh"
# shellcheck source=kijko_ext/tests/replication/layer.sh
source "$TESTS/replication/layer.sh"
# shellcheck source=kijko_ext/tests/workers/layer.sh
source "$TESTS/workers/layer.sh"
# shellcheck source=kijko_ext/tests/outbox/layer.sh
source "$TESTS/outbox/layer.sh"
# shellcheck source=kijko_ext/tests/pg_upgrade/layer.sh
source "$TESTS/pg_upgrade/layer.sh"

main() {
  local layers=(regress isolation crash workers replication outbox pg_upgrade upgrade cron model unit) layer started accept=no
  if [ "${2:-}" = --accept ]; then accept=yes && set -- "$1"; fi
  [ "$#" = 0 ] || layers=("$@")
  prepare
  trap stop_server EXIT
  for layer in "${layers[@]}"; do
    started=$SECONDS
    printf '\n== extension: %s\n' "$layer"
    case $layer in
      regress | isolation | crash | workers | replication | outbox | pg_upgrade | upgrade | cron)
        # Plain commands: in a list of && a failure inside the function would not end it.
        install_tested_extension
        start_server
        "layer_$layer" "$accept"
        stop_server
        ;;
      model) layer_model ;;
      unit) layer_unit ;;
      *) sed -n '2,13p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
    esac
    printf '== extension: %s passed in %s s\n' "$layer" "$((SECONDS - started))"
  done
}

prepare() {
  unset RUST_BACKTRACE PGDATABASE PGUSER PGSERVICE PGPASSWORD # a backtrace would end up in every error's detail
  mkdir -p "$RUN"
  chmod 755 "$HOME_DIR"
  if [ "$(id -u)" = 0 ]; then chown postgres "$RUN"; fi
  copy_postgres "$PREFIX"
}

# Copied while nothing has changed. The upgrade layer puts other files there, and removes the stamp.
install_tested_extension() {
  if ! extension_is_current; then
    (build_extension) > "$HOME_DIR/install.log" 2>&1 & # bash ignores `set -e` on the left of ||
    wait "$!" || { cat "$HOME_DIR/install.log" && return 1; }
  fi
  cmp -s "$PREFIX/.extension" "$BUILD_PREFIX/.extension" || copy_extension "$BUILD_PREFIX" "$PREFIX"
}

# ---- a throwaway server on a socket of its own

as_postgres() {
  if [ "$(id -u)" = 0 ]; then
    (cd / && setpriv --reuid=postgres --regid=postgres --init-groups "$@")
  else
    "$@"
  fi
}

start_server() {
  stop_server
  rm -rf "$DATA"
  if [ "$(id -u)" = 0 ]; then install -d -o postgres -g postgres -m 700 "$DATA"; fi
  as_postgres "$BIN/initdb" -D "$DATA" -U postgres -A trust -E UTF8 --no-locale -N > /dev/null
  # The first key signs; tokens of the others are valid, too.
  as_postgres tee "$DATA/signing.keys" > /dev/null < <(
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2> /dev/null
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
    openssl genpkey -algorithm ED25519
  )
  # The id is what the server computes of the key, whose bytes are 0 to 31.
  as_postgres tee "$DATA/seal.keys" > /dev/null <<< '41428f809d93edc8 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='
  as_postgres chmod 600 "$DATA/signing.keys" "$DATA/seal.keys"
  as_postgres tee "$DATA/postgresql.auto.conf" > /dev/null << CONF
listen_addresses = ''
unix_socket_directories = '$RUN'
port = 5432
fsync = off
max_prepared_transactions = 4
shared_preload_libraries = 'kijko'
kijko.trusted_session_users = 'authenticator, postgres'
kijko.signing_key_file = '$DATA/signing.keys'
kijko.seal_key_file = '$DATA/seal.keys'
kijko.rate_limit_slots = 1024
kijko.session_slots = 1024
kijko.trusted_proxies = '10.9.0.0/16, fd09::/16'
CONF
  server start
}

server() { as_postgres "$BIN/pg_ctl" -D "$DATA" -l "$RUN/server.log" -w -s "$@"; }

stop_server() {
  if [ -f "$DATA/postmaster.pid" ]; then server -m immediate stop || true; fi
}

run_psql() { "$BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$RUN" -p 5432 -U postgres "$@"; }

# ---- layers

layer_crash() {
  local call claims revoked used written in_flight="select value from kijko.stats() where metric = 'request.in_flight'"
  local waiting="select value from kijko.stats() where metric = 'quota.waiting'"
  revoked="select kijko.session_id() is null from (select set_config('request.jwt.claims',
    '{\"session_id\": \"22222222-2222-4222-8222-222222222222\"}', false) offset 0) as s"
  run_psql -d postgres -c 'create extension kijko'
  run_psql -d postgres -c "select kijko.set_limit('11111111-1111-4111-8111-111111111111', 'x', 'lifetime', 1)" \
    -c "select kijko.consume('11111111-1111-4111-8111-111111111111', 'x')" -c "select kijko.rate_limit('x', 1, '1 hour')" > /dev/null
  expect f "select allowed from kijko.rate_limit('x', 1, '1 hour')"
  run_psql -d postgres -c "select kijko.revoke_session('22222222-2222-4222-8222-222222222222')" > /dev/null
  expect t "$revoked"
  # An API key whose use is written, and then another use.
  run_psql -d postgres > /dev/null << SQL
create table secret (text text);
create function use_key() returns timestamptz language plpgsql as \$\$
begin
  perform set_config('request.method', 'GET', true), set_config('request.jwt.claims', '{"role": "anon"}', true),
    set_config('request.headers', jsonb_build_object('x-api-key', (select text from secret))::text, true);
  perform kijko.authenticate_api_key();
  return kijko.now();
end \$\$;
create function refusal(call text) returns text language plpgsql as \$\$
begin execute call; return null; exception when others then return sqlstate; end \$\$;
select kijko.put_api_key('$SUBJECT', '$SUBJECT', 'service', null, '{}', null, null, null, null, null, null, null);
begin;
select kijko.generate_api_key('$SUBJECT'), kijko.store_api_key_secret('$SUBJECT');
insert into secret values (kijko.issued_api_key('$SUBJECT'));
commit;
SQL
  written=$(run_psql -d postgres -At -c 'select use_key()')
  wait_for "$written" 'select last_used_at from kijko.api_key_uses'
  run_psql -d postgres -c 'select use_key()' > /dev/null
  # A terminated backend waits for no counter any more.
  run_psql -d postgres -c 'begin' -c "select kijko.consume('$SUBJECT', 'waited_for')" -c 'select pg_sleep(600)' > /dev/null 2>&1 &
  wait_for 1 "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'"
  run_psql -d postgres -c "select kijko.reload_counters('$SUBJECT')" > /dev/null
  run_psql -d postgres -c "select kijko.consume('$SUBJECT', 'waited_for', 1, 'waiter')" > /dev/null 2>&1 &
  wait_for 1 "$waiting"
  expect t "select pg_terminate_backend(pid) from pg_stat_activity where query like '%waiter%' and pid <> pg_backend_pid()"
  wait_for 0 "$waiting"
  expect t "select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(600)'"
  # A request in flight, whose backend will die with all others.
  run_psql -d postgres -c 'begin' -c "select kijko.admit_request('11111111-1111-4111-8111-111111111111')" -c 'select pg_sleep(60)' \
    > /dev/null 2>&1 &
  wait_for 1 "$in_flight"
  # A backend killed hard takes the shared memory of all of them along.
  kill -9 "$(run_psql -d postgres -At -c 'select pid from pg_stat_activity where backend_type = $$checkpointer$$')"
  wait_until_ready
  expect t "select allowed from kijko.rate_limit('x', 1, '1 hour')" # forgotten, and works
  expect f "select allowed from kijko.rate_limit('x', 1, '1 hour')"
  expect f "select allowed from kijko.try_consume('11111111-1111-4111-8111-111111111111', 'x')" # not forgotten
  expect t "$revoked" # loaded again
  expect 0 "$in_flight"
  # Uses of the last minute are lost. A later one is written at once, and when the server stops.
  expect "$written" "select kijko.api_key_last_used_at('$SUBJECT')"
  written=$(run_psql -d postgres -At -c 'select use_key()')
  wait_for "$written" 'select last_used_at from kijko.api_key_uses'
  used=$(run_psql -d postgres -At -c 'select use_key()')
  expect "$written" 'select last_used_at from kijko.api_key_uses'
  # Without a file of keys every call is unavailable.
  as_postgres sed -i '/^kijko.seal_key_file/d' "$DATA/postgresql.auto.conf"
  server -m fast restart
  for call in "seal('x', 'x')" "unseal('x', 'x')" "reseal('x', 'x')" "can_unseal('x', 'x')" 'seal_key_ids()'; do
    expect KJ503 "select refusal(\$\$select kijko.$call\$\$)"
  done
  expect '' "select refusal(\$\$select kijko.seal_key_id('x')\$\$)"
  expect "$used" 'select last_used_at from kijko.api_key_uses'
  expect t "$revoked"
  expect t "select allowed from kijko.rate_limit('x', 1, '1 hour')"
  # Removed from shared_preload_libraries: its functions refuse to load, and say what to do.
  as_postgres sed -i '/^shared_preload_libraries/d' "$DATA/postgresql.auto.conf"
  server -m fast restart
  claims=$(run_psql -d postgres -c 'select kijko.claims()' 2>&1 || true)
  printf '%s\n' "$claims"
  grep -q 'Add kijko to shared_preload_libraries and restart the server' <<< "$claims"
}

# expect ANSWER QUERY [DATABASE]
expect() {
  local answer
  answer=$(run_psql -d "${3:-postgres}" -At -c "$2")
  [ "$answer" = "$1" ] || { printf 'expected %s, got %s: %s\n' "$1" "$answer" "$2" && return 1; }
}

# wait_for ANSWER QUERY [DATABASE]
wait_for() {
  local try
  for ((try = 0; try < 1000; try++)); do
    if [ "$(run_psql -d "${3:-postgres}" -At -c "$2")" = "$1" ]; then return 0; fi
    sleep 0.1
  done
  printf 'waited for %s: %s\n' "$1" "$2" && return 1
}

wait_until_ready() {
  local try
  for ((try = 0; try < 1000; try++)); do
    if run_psql -d postgres -c 'select' > /dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  echo 'the server did not come back' && return 1
}

# Upgrades a predecessor to the installed version and compares it with a fresh installation. There is always a synthetic
# predecessor, 0.0.1, which differs from the present in every way that a release may (tests/upgrade). After the first release
# the newest frozen install script, kijko_ext/sql/kijko--VERSION.sql, is another.
layer_upgrade() {
  local current fresh=$HOME_DIR/fresh.catalog frozen released
  current=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$EXTENSION_DIR/kijko.control")
  run_psql -d postgres -c 'create database fresh'
  run_psql -d fresh -c 'create extension kijko'
  run_psql -d fresh -At -f "$TESTS/catalog.sql" > "$fresh"
  rm -f "$PREFIX/.extension"
  make_predecessor "$EXTENSION_DIR/kijko--$current.sql" "$current"
  check_upgrade 0.0.1 "$current" "$fresh"
  frozen=$(find "$ROOT/kijko_ext/sql" -regextype posix-extended -regex '.*/kijko--[0-9.]+\.sql' | sort -V | tail -n 1)
  if [ -n "$frozen" ]; then
    released=$(basename "$frozen" .sql)
    cp --remove-destination "$frozen" "$EXTENSION_DIR/"
    check_upgrade "${released#kijko--}" "$current" "$fresh"
  fi
  dump_and_restore "$fresh"
}

# make_predecessor INSTALL_SCRIPT VERSION: the synthetic predecessor, and the upgrade script from it
make_predecessor() {
  local predecessor=$EXTENSION_DIR/kijko--0.0.1.sql assemble=$ROOT/kijko_ext/sql/assemble_upgrade.mjs
  node "$TESTS/upgrade/predecessor.mjs" "$1" > "$predecessor"
  # Without the part by hand it must refuse.
  if node "$assemble" "$predecessor" "$1" > /dev/null 2> "$HOME_DIR/assemble.err"; then
    echo 'an upgrade script without what changes in tables was assembled' && return 1
  fi
  grep -q 'kijko.error_codes, table kijko.ledger_partitions' "$HOME_DIR/assemble.err" || { cat "$HOME_DIR/assemble.err" && return 1; }
  node "$assemble" "$predecessor" "$1" "$TESTS/upgrade/tables.sql" > "$EXTENSION_DIR/kijko--0.0.1--$2.sql"
}

# check_upgrade FROM TO FRESH_CATALOG
check_upgrade() {
  local from=$1 to=$2 database=from_${1//./_} upgraded=$HOME_DIR/upgraded.catalog name
  # One stays at FROM, one is compared while nothing else has made tables in it, one was used.
  for name in "$database" "${database}_kept" "${database}_used"; do
    run_psql -d postgres -c "create database $name"
    run_psql -d "$name" -c "create extension kijko version '$from'"
  done
  echo "-- this library under the SQL of $from"
  run_regress "$TESTS/pg_regress/predecessor_schedule" no "${database}_kept"
  use_before_upgrade "${database}_used"
  if [ "$from" = "$to" ]; then return 0; fi
  # The predecessor must differ, or the comparison shows nothing.
  run_psql -d "$database" -At -f "$TESTS/catalog.sql" > "$upgraded"
  if diff -q "$3" "$upgraded" > /dev/null; then echo "$from equals $to" && return 1; fi
  run_psql -d "$database" -c "alter extension kijko update to '$to'"
  run_psql -d "${database}_used" -c "alter extension kijko update to '$to'"
  run_psql -d "$database" -At -f "$TESTS/catalog.sql" > "$upgraded"
  diff "$3" "$upgraded"
  echo "-- $from upgraded to $to equals a fresh $to"
  expect_use_after_upgrade "${database}_used"
  run_regress "$TESTS/pg_regress/schedule" no "$database"
}

SUBJECT=11111111-1111-4111-8111-111111111111

# Usage of every kind: an idempotent use, a gauge, an open hold, a past use, a revoked session, and a rolled-up part.
use_before_upgrade() {
  run_psql -d "$1" > /dev/null << SQL
select kijko.set_limit('$SUBJECT', 'x', 'month', 20), kijko.set_limit('$SUBJECT', 'things', 'lifetime', 5), kijko.set_tier('$SUBJECT', 'PRO');
select kijko.record_usage('$SUBJECT', 'x', 3, now());
select kijko.make_ledger_partitions('10 seconds', '1 second');
select kijko.consume('$SUBJECT', 'x', 2, 'key'), kijko.adjust_gauge('$SUBJECT', 'things', 4);
select kijko.reserve('$SUBJECT', 'x', 5, '1 day', 'hold');
select pg_sleep(1.2);
select kijko.rollup_usage(100000);
select kijko.revoke_session('22222222-2222-4222-8222-222222222222');
SQL
}

expect_use_after_upgrade() {
  expect 'things 4 5,x 10 20' "select string_agg(concat_ws(' ', meter, used, \"limit\"), ',' order by meter) from kijko.usage('$SUBJECT')" "$1"
  expect 't 5 20' "select concat_ws(' ', allowed, used, \"limit\") from kijko.try_consume('$SUBJECT', 'x', 2, 'key')" "$1"
  expect t "select kijko.reserve('$SUBJECT', 'x', 5, '1 day', 'hold') = (select id from kijko.holds where state = 'open')" "$1"
  expect t "select kijko.settle(id, 1) from kijko.holds where state = 'open'" "$1"
  expect 't 7' "select concat_ws(' ', allowed, used) from kijko.try_consume('$SUBJECT', 'x')" "$1"
  expect f "select allowed from kijko.try_consume('$SUBJECT', 'x', 14)" "$1"
  expect 'PRO 1' "select concat_ws(' ', (select tier from kijko.tiers), (select count(*) from kijko.revoked_sessions))" "$1"
  echo '-- usage before the upgrade counts after it'
}

# What customers used is part of a dump, and counting goes on from there.
dump_and_restore() {
  local use="select kijko.set_limit('11111111-1111-4111-8111-111111111111', 'x', 'lifetime', 3);
    select kijko.consume('11111111-1111-4111-8111-111111111111', 'x', 2, 'key');
    select kijko.revoke_session('22222222-2222-4222-8222-222222222222')"
  run_psql -d fresh -c "$use" > /dev/null
  run_psql -d postgres -c 'create database restored'
  "$BIN/pg_dump" -h "$RUN" -p 5432 -U postgres fresh | run_psql -d restored > /dev/null
  run_psql -d restored -At -f "$TESTS/catalog.sql" > "$HOME_DIR/restored.catalog"
  diff "$1" "$HOME_DIR/restored.catalog"
  expect 't 2' "select concat_ws(' ', allowed, used) from kijko.try_consume('11111111-1111-4111-8111-111111111111', 'x', 2, 'key')" restored
  expect 't 3' "select concat_ws(' ', allowed, used) from kijko.try_consume('11111111-1111-4111-8111-111111111111', 'x')" restored
  expect f "select allowed from kijko.try_consume('11111111-1111-4111-8111-111111111111', 'x')" restored
  expect 1 'select count(*) from kijko.revoked_sessions' restored
  echo '-- a restored dump equals its database and counts on'
}

layer_cron() {
  run_psql -d postgres -c 'create extension kijko'
  (cd "$ROOT" && PGHOST=$RUN PGPORT=5432 PGUSER=postgres PGDATABASE=postgres node "$TESTS/cron_agreement.mjs")
}

layer_model() {
  (cd "$ROOT" && cargo test --profile "$BUILD_PROFILE" --package kijko-model)
}

# They run without a server: the linker drops what calls one, as no test reaches it.
layer_unit() {
  pgrx_environment
  (cd "$ROOT" && cargo test --profile "$BUILD_PROFILE" --package kijko_ext --package kijko-schema --features "kijko_ext/pg$PG_MAJOR")
}

main "$@"
