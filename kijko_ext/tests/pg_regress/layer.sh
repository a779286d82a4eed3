# Postgres' own test programs: pg_regress and pg_isolation_regress. Sourced by run.sh.
# shellcheck shell=bash

layer_regress() {
  run_regress "$TESTS/pg_regress/schedule" "$1"
}

# run_regress SCHEDULE ACCEPT [DATABASE]: in a new database, or in one that has the extension already
run_regress() {
  local schedule=$1 accept=$2 database=${3:-} out=$HOME_DIR/regress status=0
  rm -rf "$out" && mkdir -p "$out"
  if [ "$accept" = yes ]; then expect_nothing_yet "$TESTS/pg_regress" sql; fi
  local arguments=(--load-extension=kijko)
  if [ -n "$database" ]; then arguments=(--use-existing --dbname="$database"); fi
  "$PGXS_TESTS/regress/pg_regress" --bindir="$BIN" --host="$RUN" --port=5432 --user=postgres \
    --inputdir="$TESTS/pg_regress" --outputdir="$out" --schedule="$schedule" "${arguments[@]}" || status=$?
  if [ "$accept" = yes ]; then cp "$out"/results/*.out "$TESTS/pg_regress/expected/" && return 0; fi
  if [ "$status" != 0 ]; then cat "$out/regression.diffs"; fi
  return "$status"
}

layer_isolation() {
  local out=$HOME_DIR/isolation status=0
  rm -rf "$out" && mkdir -p "$out"
  if [ "$1" = yes ]; then expect_nothing_yet "$TESTS/isolation" spec; fi
  local specs=("$TESTS"/isolation/specs/*.spec)
  specs=("${specs[@]##*/}")
  "$PGXS_TESTS/isolation/pg_isolation_regress" --bindir="$BIN" --host="$RUN" --port=5432 --user=postgres \
    --inputdir="$TESTS/isolation" --outputdir="$out" --load-extension=kijko "${specs[@]%.spec}" || status=$?
  if [ "$1" = yes ]; then cp "$out"/results/*.out "$TESTS/isolation/expected/" && return 0; fi
  if [ "$status" != 0 ]; then cat "$out/regression.diffs"; fi
  return "$status"
}

# pg_regress stops at a test without an expected file.
expect_nothing_yet() {
  local file
  for file in "$1"/s*/*."$2"; do touch "$1/expected/$(basename "$file" ".$2").out"; done
}
