# A run of tests that takes too long. Sourced by ./kijko.
# shellcheck shell=bash

# KIJKO_TEST_SECONDS: where runs are cut off after a time, nobody would see what they waited for. Before that the run says so, and fails.
WATCH=''
watch_time() {
  [ -n "${KIJKO_TEST_SECONDS:-}" ] || return 0
  (
    trap - EXIT
    # No child that would outlive this one.
    read -r -t "$KIJKO_TEST_SECONDS" <> <(:) || true
    print_state
    kill_below "$$"
    kill "$$"
  ) &
  WATCH=$!
}

print_state() {
  local log
  printf '\n===== not done after %s s\n' "$SECONDS"
  for log in "$TEST_LOGS"/* "$KIJKO_HOME"/*/beside.log; do
    [ ! -s "$log" ] || { printf -- '-- %s\n' "$log" && tail -n 12 "$log" | cut -c 1-160; }
  done
  ps -eo pid,etimes,pcpu,args --sort=-etimes | awk '/node .*--test|test\.mjs|\/kijko |cargo |rustc /' | cut -c 1-160
}

kill_below() {
  local child
  for child in $(pgrep -P "$1"); do
    [ "$child" = "$BASHPID" ] || { kill_below "$child" && kill "$child" 2> /dev/null || true; }
  done
}
