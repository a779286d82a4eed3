# What the runners of tests counted: each one's own counts, and their sum as the last line. Sourced by ./kijko.
# shellcheck shell=bash

# What failed in TAP, with its first lines: in a long log the counts alone would not say. A suite fails with its tests.
print_failures() {
  local area
  for area in "$@"; do
    [ -f "$TEST_LOGS/$area.log" ] || continue
    awk -v area="$area" '
      /^ *not ok / { name = $0; left = 0; next }
      /^ *location: / { place = $0 }
      /^ *failureType: / && !/subtestsFailed/ && name != "" { print area ": " name "\n" area ": " place; left = 12; next }
      /^ *(ok|#) / { name = ""; left = 0 }
      left > 0 && !/^ *error: [|>]-/ { left--; print area ": " $0 }' "$TEST_LOGS/$area.log"
  done
}

COUNT_LINES='^(test result: |Result: |Files=[0-9]+, Tests=|# (tests|pass|fail|cancelled|skipped|todo) [0-9]+|.*All [0-9]+ tests passed|.*[0-9]+ of [0-9]+ tests failed)'

print_counts() {
  local area
  print_failures "$@"
  printf '\n===== counts\n'
  for area in "$@"; do
    [ -f "$TEST_LOGS/$area.log" ] || continue
    printf '%s\n' "-- $area"
    grep -E "$COUNT_LINES" "$TEST_LOGS/$area.log" || true
    tail -n 1 "$TEST_LOGS/$area.log"
  done
  print_failed_names "$@"
  cat "$TEST_LOGS"/*.log | sum_counts
}

# A line for each, last of all: where only the end of a long log is kept, this is what is needed of it.
print_failed_names() {
  local area
  for area in "$@"; do
    [ -f "$TEST_LOGS/$area.log" ] || continue
    awk -v area="$area" '
      function failed(error) { print "failed in " area ": " name " (" place "): " error; name = ""; more = 0 }
      /^ *not ok / { name = $0; sub(/^ */, "", name); more = 0; next }
      /^ *location: / { place = $2 }
      /^ *failureType: / && /subtestsFailed/ { name = "" }
      # Of an error of several lines the first that says something.
      more && NF > 0 { sub(/^ */, ""); failed($0) }
      /^ *error: / && name != "" { if ($2 ~ /^[|>]-?$/) more = 1; else { sub(/^ *error: /, ""); failed($0) } }
      /^# +Failed test / || /\(Wstat: .* Failed: [1-9]/ || /^test .* FAILED$/ || /^ +Failed tests?:/ || /^error(\[|:)/ ||
        /, [1-9][0-9]* (faults|with what none may have)$/ { print "failed in " area ": " $0 }' "$TEST_LOGS/$area.log"
  done | cut -c 1-300 | head -n 60
}

# A skipped, ignored or cancelled test is a failure of the run: no test is left out silently.
sum_counts() {
  awk '
    /^test result: / { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i-1); if ($i ~ /^failed/) failed += $(i-1); if ($i ~ /^ignored/) skipped += $(i-1) } }
    /^# pass [0-9]+$/ { passed += $3 }
    /^# fail [0-9]+$/ { failed += $3 }
    /^# (skipped|cancelled|todo) [0-9]+$/ { skipped += $3 }
    /^Files=[0-9]+, Tests=/ { sub(/.*Tests=/, ""); sub(/,.*/, ""); passed += $0 }
    # pg_prove counts what failed among the tests, and names it by file; a file that dies has no failed test.
    /\(Wstat: .* Tests: [0-9]+ Failed: [0-9]+\)$/ { sub(/.*Failed: /, ""); failed += $0 + 0; passed -= $0 }
    /^Result: FAIL$/ { broken = 1 }
    /All [0-9]+ tests passed/ { for (i = 1; i <= NF; i++) if ($i == "All") passed += $(i+1) }
    /[0-9]+ of [0-9]+ tests failed/ { for (i = 1; i <= NF; i++) if ($i == "of") failed += $(i-1) }
    END {
      printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
      exit (broken || failed > 0 || skipped > 0 || passed == 0)
    }'
}
