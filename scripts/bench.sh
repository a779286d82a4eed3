# Benchmarks and mutation, on test stacks of their own. No part of the gate. Sourced by ./kijko.
# shellcheck shell=bash

# ---- mutation: which changes of the database no test notices (tests/mutation).

command_mutate() {
  prepare_machine
  trap 'stop_test_stack' EXIT
  trap 'exit 130' INT TERM
  start_test_stack mutation
  (cd "$ROOT" && node tests/mutation/mutate.mjs "$@")
}

# ---- benchmarks: tests/bench/AREA.mjs, each on a fresh instance of its own that is stopped again

# Debian packages that only a benchmark needs.
declare -A BENCH_PACKAGES=([limits]='redis-server wrk' [requests]=wrk [storage]='nginx wrk')
# Benchmarks that need more connections than the stack has by itself.
declare -A BENCH_CONNECTIONS=([tenants]=1100)
# Benchmarks that compare two stacks. The second one is SECOND_ADMIN_DB_URL, SECOND_API_URL and SECOND_ANON_KEY.
declare -A BENCH_SECOND=([executions]=yes)
SECOND_STACK=()

command_bench() {
  local areas=("$@") area failed=()
  [ "$#" -gt 0 ] || mapfile -t areas < <(bench_areas)
  for area in "${areas[@]}"; do
    [ -f "$ROOT/tests/bench/$area.mjs" ] || misuse "there is no benchmark '$area': $(bench_areas | tr '\n' ' ')"
    # shellcheck disable=SC2206 # names of packages
    APT_PACKAGES+=(${BENCH_PACKAGES[$area]:-})
    # It starts indexers of its own.
    [ "$area" != code ] || export KIJKO_BUILD_INDEXER=1
  done
  prepare_machine
  trap 'stop_second_stack; stop_test_stack' EXIT
  trap 'exit 130' INT TERM
  for area in "${areas[@]}"; do
    [ -z "${BENCH_SECOND[$area]:-}" ] || start_second_stack
    KIJKO_MAX_CONNECTIONS=${BENCH_CONNECTIONS[$area]:-} start_test_stack bench
    (cd "$ROOT" && KIJKO_TEST_PG_PREFIX=$TEST_HOME/pgsql "$(bench_node "$area")" "tests/bench/$area.mjs") || failed+=("$area")
    stop_test_stack
    stop_second_stack
  done
  [ "${#failed[@]}" = 0 ] || fail "failed: ${failed[*]}"
}

start_second_stack() {
  start_test_stack bench-second
  export SECOND_ADMIN_DB_URL=$ADMIN_DB_URL SECOND_API_URL=$API_URL SECOND_ANON_KEY=$ANON_KEY
  SECOND_STACK=("$TEST_HOME" "$TEST_PORT")
  TEST_STACK=no
}

stop_second_stack() {
  [ "${#SECOND_STACK[@]}" = 0 ] || TEST_HOME=${SECOND_STACK[0]} TEST_PORT=${SECOND_STACK[1]} test_kijko down > /dev/null 2>&1 || true
  SECOND_STACK=()
}

# pg-boss and graphile-worker need a newer Node.js than everything else here.
bench_node() {
  case $1 in jobs | outbox) echo "$ROOT/node_modules/node22/bin/node" ;; *) echo node ;; esac
}

# Names with an underscore are parts of a benchmark.
bench_areas() {
  local file
  for file in "$ROOT"/tests/bench/*.mjs; do basename "$file" .mjs; done | grep -v _
}
