# What a person sees: messages, steps with progress, failures that name the step and what to do. Sourced by ./kijko.
# shellcheck shell=bash

EXIT_FAILED=1
EXIT_MISUSED=2

say() { printf '%s\n' "$*" >&2; }

misuse() {
  say "kijko: $*"
  exit "$EXIT_MISUSED"
}

fail() {
  say "kijko: $*"
  exit "$EXIT_FAILED"
}

# step "title" "hint" command…: runs the command with its output in a log file, shows that it is alive, and on failure
# prints the step, the log's last lines and the hint. The command runs in a subshell: it cannot set variables. It runs in
# the background, where `set -e` still holds (it does not before `||`), and in a process group that Ctrl-C can end whole.
# No process of it is left when it returns: one that stayed behind (a `sleep`) would hold the output open, and its reader would wait.
# The dots end with the script, also when that is killed.
STEP_PID=''
step() {
  local title=$1 hint=$2 name log started=$SECONDS ticker='' status=0
  shift 2
  name=$(printf '%s' "$title" | tr -cs '[:alnum:]' '-')
  log=$LOGS/up-${name%-}.log
  mkdir -p "$LOGS"
  printf '  %-44s' "$title" >&2
  (until read -r -t 5 <> <(:); do kill -0 "$$" 2> /dev/null && printf '.' >&2 || exit 0; done) &
  ticker=$!
  set -m
  (trap - EXIT INT TERM; "$@") > "$log" 2>&1 < /dev/null &
  STEP_PID=$!
  set +m
  wait "$STEP_PID" || status=$?
  STEP_PID=''
  { kill "$ticker" && wait "$ticker"; } 2> /dev/null || true
  if [ "$status" = 0 ]; then
    printf ' %ss\n' "$((SECONDS - started))" >&2
    return 0
  fi
  printf ' FAILED\n\n' >&2
  tail -n 25 "$log" | sed 's/^/    /' >&2
  say ''
  say "kijko: the step '$title' failed (whole log: $log)"
  [ -z "$hint" ] || say "what to do: $hint"
  exit "$EXIT_FAILED"
}

# ask "question": yes or no; without a terminal the answer is KIJKO_YES=1, of the environment or of .env, or no.
ask() {
  [ "${KIJKO_YES-${DOTENV_YES:-}}" != 1 ] || return 0
  confirm_loss "$1"
}

# confirm_loss "question": as ask, but .env does not answer. Such a file stays for years, and nobody thinks of it when data is
# about to be deleted.
confirm_loss() {
  [ "${KIJKO_YES:-}" != 1 ] || return 0
  [ -t 0 ] || return 1
  local answer
  read -r -p "$1 [y/N] " answer
  [[ $answer =~ ^[Yy] ]]
}
