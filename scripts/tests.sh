# Tests. Each area is a function; every runner's own counts are collected and printed again at the end.
# Sourced by ./kijko.
# shellcheck shell=bash

TEST_AREAS=(lint ext db sidecar journeys crash cli attacks)
# By name only. For other major versions: pgtap and races are parts of db, and pg_upgrade needs the programs of two: ./kijko test --pg MAJOR races pg_upgrade
# What takes minutes: encryption starts a machine of its own, kubernetes applies everything to a cluster as CloudNativePG makes it, failover kills and cuts off a primary.
# site installs 500 MB of packages and builds the documentation, fuzz sends requests made from the API's description, coverage_sql is pgTAP
# with each statement counted, coverage_rust compiles everything again and runs the journeys: the workflow on GitHub runs these four beside the gate.
NAMED_AREAS=(pgtap races pg_upgrade kubernetes failover encryption site fuzz coverage_sql coverage_rust)
# Beside db, sidecar and journeys, on stacks of their own: they mostly wait, for clusters that recover and parts that start.
BESIDE_AREAS=(crash cli attacks)

command_test() {
  if [ "${1:-}" = --pg ]; then
    [ "$#" -ge 2 ] || misuse "test --pg MAJOR [AREA…]"
    test_on_major "${@:2}"
    return
  fi
  local asked=("$@") areas=() area
  [ "$#" -gt 0 ] || asked=("${TEST_AREAS[@]}")
  for area in "${asked[@]}"; do
    [[ " ${TEST_AREAS[*]} ${NAMED_AREAS[*]} " = *" $area "* ]] || misuse "there is no test area '$area': ${TEST_AREAS[*]}; by name only: ${NAMED_AREAS[*]}"
  done
  # Always in this order, since they share a database: db needs an unused one.
  for area in "${TEST_AREAS[@]}" "${NAMED_AREAS[@]}"; do
    [[ " ${asked[*]} " != *" $area "* ]] || areas+=("$area")
  done
  [[ ! " ${areas[*]} " =~ \ (journeys|coverage_rust)\  ]] || APT_PACKAGES+=("${JOURNEY_APT_PACKAGES[@]}")
  [[ " ${areas[*]} " != *" cli "* ]] || APT_PACKAGES+=("${CLI_APT_PACKAGES[@]}")
  [[ ! " ${areas[*]} " =~ \ (lint|fuzz|coverage_rust)\  ]] || APT_PACKAGES+=("${LINT_APT_PACKAGES[@]}")
  [[ " ${areas[*]} " != *" failover "* ]] || APT_PACKAGES+=("${FAILOVER_APT_PACKAGES[@]}")
  [[ " ${areas[*]} " != *" encryption "* ]] || APT_PACKAGES+=("${ENCRYPTION_APT_PACKAGES[@]}")
  [[ " ${areas[*]} " != *" coverage_rust "* ]] || APT_PACKAGES+=("llvm-$(llvm_major)")
  prepare_machine
  # For all builds alike: with another set of packages cargo would compile again what they share.
  export KIJKO_BUILD_INDEXER=1
  [[ "${KIJKO_LINT_BUILDS:-}" != 1 || ! " ${areas[*]} " =~ \ lint\ .*ext\ .*sidecar\  ]] || lint_builds
  [[ " ${areas[*]} " != *" lint "* ]] || install_cargo_deny
  [[ ! " ${areas[*]} " =~ \ (journeys|cli|coverage_rust)\  ]] || install_python_tests
  [[ " ${areas[*]} " != *" cli "* ]] || { install_kubernetes_tools; export KUBECTL; }
  [[ " ${areas[*]} " != *" fuzz "* ]] || install_schemathesis
  [[ " ${areas[*]} " != *" coverage_rust "* ]] || install_cargo_llvm_cov
  TEST_LOGS=$KIJKO_HOME/test-log
  rm -rf "$TEST_LOGS"
  mkdir -p "$TEST_LOGS"
  trap 'stop_tests' EXIT
  trap 'exit 130' INT TERM
  watch_time
  run_areas "${areas[@]}"
  print_counts "${areas[@]}" || echo counts >> "$TEST_LOGS/failed"
  [ ! -s "$TEST_LOGS/failed" ] || fail "failed: $(paste -sd ' ' "$TEST_LOGS/failed") (logs: $TEST_LOGS)"
}

# KIJKO_LINT_BUILDS=1: the areas compile all crates and their tests, and clippy does it for rustc, as `cargo clippy` has it done. By itself
# it would check each dependency once more. It leaves out a step of optimization, so these builds are for tests only.
LINTED_BUILDS=no
lint_builds() {
  LINTED_BUILDS=yes
  RUSTC_WORKSPACE_WRAPPER=$(rustc --print sysroot)/bin/clippy-driver
  export RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
}

# lint and ext alone, since they compile what all use; then the others in two rows. The names of those that fail go to TEST_LOGS/failed.
run_areas() {
  local area first=() row=() other=()
  for area in "$@"; do
    if [[ $area = lint || $area = ext ]]; then first+=("$area")
    elif [[ " ${BESIDE_AREAS[*]} " = *" $area "* ]]; then other+=("$area")
    else row+=("$area"); fi
  done
  for area in "${first[@]}"; do
    if [ "$area" = ext ] && [ "$(("${#row[@]}" + "${#other[@]}"))" -gt 0 ]; then build_beside "${row[*]}"; fi
    run_row "$area"
  done
  await_builds
  # One row is easier to follow, and needs one stack.
  if [ "${#row[@]}" = 0 ] || [ "${#other[@]}" = 0 ]; then
    run_row "${row[@]}" "${other[@]}"
    return
  fi
  # Here, so that the two do not build at once: a stack that comes up again, which tests of a crash wait for, would wait for cargo's lock.
  start_test_stack test
  [[ " ${row[*]} " != *" sidecar "* ]] || build_sidecar_tests
  run_other_row "${other[@]}" > "$TEST_LOGS/other" 2>&1 &
  OTHER_ROW=$!
  run_row "${row[@]}"
  wait "$OTHER_ROW" || echo "${other[*]}" >> "$TEST_LOGS/failed"
  OTHER_ROW=''
  cat "$TEST_LOGS/other"
}

# Beside ext, which waits more than it computes: what the stacks need, and the sidecar's tests. The extension first, since ext needs it.
BUILDS=''
build_beside() {
  if is_prebuilt; then return 0; fi
  step "the extension (minutes the first time)" "the compiler's message above says what is wrong" build_extension
  {
    build_programs
    [[ " $1 " != *" sidecar "* ]] || build_sidecar_tests
  } > "$TEST_LOGS/builds" 2>&1 &
  BUILDS=$!
}

# What failed is built again by who needs it, and says so there.
await_builds() {
  [ -z "$BUILDS" ] || wait "$BUILDS" || cat "$TEST_LOGS/builds"
  BUILDS=''
}

build_sidecar_tests() { (cd "$ROOT" && cargo test --profile "$BUILD_PROFILE" --no-run "${ALL_PACKAGES[@]}"); }

run_row() {
  local area
  for area in "$@"; do
    run_area "$area"
    [ "$AREA_STATUS" = 0 ] || echo "$area" >> "$TEST_LOGS/failed"
  done
}

# In a process of its own.
run_other_row() {
  trap 'stop_test_stack' EXIT
  trap 'exit 130' INT TERM
  TEST_STACK=no
  TEST_STACK_NAME=second
  TEST_PORTS_FROM=26000
  run_row "$@"
}

OTHER_ROW=''
stop_tests() {
  local status=$?
  [ -z "$WATCH" ] || kill "$WATCH" 2> /dev/null || true
  [ -z "$BUILDS" ] || kill "$BUILDS" 2> /dev/null || true
  if [ -n "$OTHER_ROW" ]; then
    kill "$OTHER_ROW" 2> /dev/null || true
    wait "$OTHER_ROW" || true
  fi
  stop_test_stack || true
  return "$status"
}

prepare_machine() {
  check_toolchain
  install_apt_packages
  install_npm_packages
  make_folders
  refuse_unreachable_home
}

# The area's output goes to the terminal and to its log; its own exit status is what counts, and is left in AREA_STATUS.
# Never called as a condition (`run_area … ||`): bash would ignore `set -e` in all of it, and only an area's last command would count.
run_area() {
  local area=$1 started=$SECONDS
  AREA_STATUS=0
  printf '\n===== %s, after %s s\n' "$area" "$SECONDS"
  case $area in
    db | pgtap | races | sidecar | journeys | crash | cli | pg_upgrade | kubernetes | failover | site | fuzz | coverage_sql | coverage_rust) start_test_stack "$TEST_STACK_NAME" ;;
    # On a stack of their own, which no other area uses: they plant leaks.
    attacks)
      stop_test_stack || true
      start_test_stack attacks
      ;;
  esac
  (
    trap - EXIT INT TERM
    cd "$ROOT" || exit 1
    set -o pipefail
    "test_$area" 2>&1 | tee "$TEST_LOGS/$area.log"
  ) &
  wait "$!" || AREA_STATUS=$?
  [ "$area" != attacks ] || stop_test_stack || true
  printf '%s in %ss\n' "$([ "$AREA_STATUS" = 0 ] && echo "$area passed" || echo "$area FAILED")" "$((SECONDS - started))" |
    tee -a "$TEST_LOGS/$area.log"
}

# ---- areas

# The quick ones first: what takes seconds should not wait for the compiler.
test_lint() {
  node tests/lint/layout.mjs
  node tests/lint/cycles.mjs
  node tests/lint/deployments.mjs
  node tests/lint/subjects.mjs
  node tests/lint/places.mjs
  node tests/lint/released.mjs
  node tests/lint/reports.mjs
  node tests/lint/alerts.mjs
  run_node_tests 2 tests/lint/*.test.mjs tests/mutation/*.test.mjs
  cargo fmt --all --check
  check_dependencies
  node_modules/.bin/biome ci --colors=off
  node_modules/.bin/squawk --config .squawk.toml supabase/migrations/*.sql
  caddy validate --config deploy/Caddyfile --adapter caddyfile 2> /dev/null
  node tests/docs/lint.mjs
  node scripts/access-reference.mjs --check docs/reference/access.md
  node scripts/dashboards.mjs --check
  shellcheck kijko scripts/*.sh .ci/run .githooks/* kijko_ext/build.sh kijko_ext/tests/*.sh kijko_ext/tests/*/*.sh deploy/docker/*.sh deploy/kubernetes/*.sh deploy/debian/* tests/encryption/*.sh
  [ "$LINTED_BUILDS" = no ] || return 0
  pgrx_environment
  cargo clippy --profile "$BUILD_PROFILE" --package kijko_ext --package kijko-schema --features "kijko_ext/pg$PG_MAJOR" --all-targets -- -D warnings
  cargo clippy --profile "$BUILD_PROFILE" --workspace --exclude kijko_ext --exclude kijko-schema --all-targets -- -D warnings
}

# Licences, versions and sources of all crates. Advisories need GitHub: the workflow there checks them.
check_dependencies() {
  local log
  log=$("$CARGO_DENY" --locked check --hide-inclusion-graph licenses bans sources 2>&1) || {
    printf '%s\n' "$log"
    return 1
  }
  grep -E '^warning| ok$' <<< "$log"
}

test_ext() {
  # shellcheck disable=SC2086 # names of layers
  bash kijko_ext/tests/run.sh ${KIJKO_EXT_LAYERS:-}
}

test_pgtap() {
  echo "-- pgTAP by domain, and lints of the schema"
  prove_as_superuser supabase/tests/database/*.test.sql tests/lint/*.test.sql
}

test_races() {
  echo "-- races between sessions"
  # One file at a time: some tick the clock of all habits.
  run_node_tests 1 tests/database-race/*.test.mjs
}

# As the superuser: a role-play changes session_user, since claims count only for trusted logins.
prove_as_superuser() {
  PGPASSWORD=$(sed -E 's|.*://[^:]+:([^@]+)@.*|\1|' <<< "$ADMIN_DB_URL") PGHOST=127.0.0.1 PGPORT=$((TEST_PORT + 1)) \
    PGUSER=supabase_admin PGDATABASE=postgres PGSSLMODE=disable \
    pg_prove "$@"
}

test_db() {
  second_push_changes_nothing
  test_pgtap
  test_races
  # Generated files are compared on the system's own major version of Postgres only.
  if is_prebuilt; then return 0; fi
  echo "-- generated types: exact, and usable under --strict"
  run_node_tests 2 tests/types/*.test.mjs
  echo "-- generated files are up to date"
  generate_types | diff - supabase/database.types.ts || fail "supabase/database.types.ts is out of date: run './kijko types'"
  node scripts/sql-reference.mjs --check docs/reference/sql.md
  node scripts/processing-register.mjs --check docs/reference/processing.md
}

# The CLI prints "up to date" only when there was nothing to apply.
second_push_changes_nothing() {
  echo "-- a second push changes nothing"
  # What was edited is asked of the test stack.
  local KIJKO_POSTGRES_PASSWORD PG_BIN DB_PORT=$((TEST_PORT + 1)) DATABASE_NAME=postgres
  KIJKO_POSTGRES_PASSWORD=$(owner_password)
  PG_BIN=$(pg_bin "$TEST_HOME/pgsql")
  push_migrations 2>&1 | tee /dev/stderr | grep -q 'up to date'
}

# The worker's own role for what it does, the superuser for what the tests arrange.
test_sidecar() {
  KIJKO_TEST_DATABASE_URL="$(TEST_SECRET=SIDECAR test_role_url kijko_sidecar)" KIJKO_TEST_ADMIN_DATABASE_URL=$ADMIN_DB_URL \
    cargo test --profile "$BUILD_PROFILE" --no-fail-fast "${ALL_PACKAGES[@]}"
}

test_role_url() {
  local variable=KIJKO_${TEST_SECRET}_PASSWORD
  # shellcheck source=/dev/null
  (. "$TEST_HOME/secrets/passwords" && printf 'postgres://%s:%s@127.0.0.1:%s/postgres' "$1" "${!variable}" "$((TEST_PORT + 1))")
}

test_journeys() {
  local files=(tests/journeys/*.test.mjs tests/reports/*.test.mjs tests/docs/*.test.mjs) file broken=no
  local shared=() realtime=() clocks=() alone=()
  # A caller's connections and the time of a statement are the subject of few, which run alone: on a busy machine waiting uses both up.
  widen_request_bounds
  # A long file, which works by SQL. Node.js takes files by their names, and at the end it would be alone.
  beside 1 tests/journeys/stripe_orders.test.mjs
  # Beside no other journey: it lifts the rate of unauthenticated requests, which journeys test, and has the API roll back.
  run_node_tests 1 tests/access/*.test.mjs || broken=yes
  for file in "${files[@]}"; do
    if [ "$file" = tests/journeys/stripe_orders.test.mjs ]; then
      continue
    elif [[ $file =~ /(auth_lockout|auth_settings_|billing_year|requests_bounds|requests_connection_) ]]; then
      alone+=("$file")
    elif [[ $file =~ /realtime[_.] ]]; then
      realtime+=("$file")
    elif [[ $file =~ /(jobs_workers\.|billing|code_indexer|audit_chain) ]] || grep -qE 'tickAt\(|mailSidecar\(' "$file"; then
      clocks+=("$file")
    else
      shared+=("$file")
    fi
  done
  # Several files at a time: they wait for the server more than they compute, and each has tenants of its own.
  # All files call from one address, and together they send more bad webhooks in a minute than one address may.
  set_failed_requests 100000
  run_node_tests 3 "${shared[@]}" || broken=yes
  await_beside || broken=yes
  # Two rows, which leave each other alone. The first changes the policies of realtime and kills its service. The second runs
  # the jobs and sends the mails of all, adds a table of its own for a while, locks the audit log, which each change waits for, or
  # ticks a clock that has moved, which runs every habit that is due by then.
  beside 1 "${realtime[@]}"
  run_node_tests 1 "${clocks[@]}" || broken=yes
  await_beside || broken=yes
  restore_request_bounds
  # These change the settings of login, take all places for passwords or all connections, move the clock of the stack by months, which
  # all concerns everybody, or test bounds.
  run_node_tests 1 "${alone[@]}" || broken=yes
  set_failed_requests 60
  # What the whole run has logged.
  node tests/journeys/log_secrets.mjs "$TEST_HOME/log" || broken=yes
  node tests/journeys/log_schema.mjs "$TEST_HOME/log" || broken=yes
  [ "$broken" = no ]
}

set_failed_requests() {
  test_kijko psql -q -c "select kijko.set_rate_limit_policy('failed_requests', 'address', $1, interval '1 minute', 'external')" >/dev/null
}

# The time of connections that a caller may use at once, how long a request may hold one beyond its tenant's share, and how long a
# statement may take.
widen_request_bounds() {
  test_kijko psql --admin -q -c "alter system set kijko.connection_time_burst = '10min'" \
    -c "alter system set kijko.connection_brief_timeout = '1min'" -c 'select pg_reload_conf()' \
    -c 'update kijko.statement_timeouts set milliseconds = 60000' > /dev/null
}

# A plan that is written gives its tier its own time again.
restore_request_bounds() {
  test_kijko psql --admin -q -c 'alter system reset kijko.connection_time_burst' \
    -c 'alter system reset kijko.connection_brief_timeout' -c 'select pg_reload_conf()' \
    -c 'update public.plans set statement_seconds = statement_seconds' > /dev/null
}

# Throwaway clusters run the instance's copy of Postgres: its user can enter that folder, and perhaps not the checkout.
test_crash() {
  export KIJKO_TEST_PG_PREFIX=$TEST_HOME/pgsql
  run_node_tests 2 tests/crash/*.test.mjs
}

# One file at a time: a planted leak is open to all. KIJKO_ATTACKS=full sends all attacks, by default a sample.
test_attacks() {
  run_node_tests 1 tests/attacks/*.test.mjs
}

test_cli() {
  local files=() file broken=no
  # These make what they need, and stop nothing that others use.
  local own=(access_log_compose containers down edge kubernetes metrics_compose mtls package steps trusted_proxies upgrade upstreams)
  for file in tests/cli/*.test.mjs; do
    [[ " ${own[*]} " = *" $(basename "$file" .test.mjs) "* ]] || files+=("$file")
  done
  own=("${own[@]/#/tests/cli/}")
  beside 1 "${own[@]/%/.test.mjs}"
  # One file at a time: they stop and start the same stack.
  run_node_tests 1 "${files[@]}" || broken=yes
  await_beside || broken=yes
  [ "$broken" = no ]
}

# run_node_tests CONCURRENCY FILE…: how many files at a time. A file that hangs fails after fifteen minutes, with its name. When its tests
# are done a file ends, whatever it has left open: a socket that connects again and again would hold up the run for ever.
run_node_tests() {
  node --test --test-force-exit --test-timeout=900000 --test-concurrency="$1" --test-reporter=tap "${@:2}"
}

# beside CONCURRENCY FILE…: runs these in the background. await_beside prints what they said, and fails if a test failed.
BESIDE=''
beside() {
  run_node_tests "$@" > "$TEST_HOME/beside.log" 2>&1 &
  BESIDE=$!
}

await_beside() {
  local status=0
  wait "$BESIDE" || status=$?
  cat "$TEST_HOME/beside.log"
  return "$status"
}
