# ./kijko keys: the keys that sign tokens, and who knows which. Sourced by ./kijko and inside the postgres image.
# A new key is published first (next), then it signs (current), and the former one verifies (previous) until its tokens have
# expired. Each step is one write of the file, so a command that was killed is continued by calling it again.
# shellcheck shell=bash

# How long PostgREST is waited for, in seconds.
KEYS_WAIT_SECONDS=${KIJKO_KEYS_WAIT_SECONDS:-30}
# The longest that auth_api.settings lets an access token live, and a minute for clocks that differ.
LONGEST_TOKEN_SECONDS=$((86400 + 60))

command_keys() {
  local action=${1:-status} argument
  KEY_ALGORITHM='' KEYS_NOW=no
  [ "$#" = 0 ] || shift
  for argument in "$@"; do
    case "$action:${argument,,}" in
      rotate:--now | prune:--now) KEYS_NOW=yes ;;
      create:rs256 | next:rs256 | rotate:rs256) KEY_ALGORITHM=RS256 ;;
      create:es256 | next:es256 | rotate:es256) KEY_ALGORITHM=ES256 ;;
      create:eddsa | next:eddsa | rotate:eddsa) KEY_ALGORITHM=EdDSA ;;
      *) misuse "keys takes: status, create [ALGORITHM], next [ALGORITHM], rotate [ALGORITHM] [--now], prune [--now]; algorithms: ${SIGNING_ALGORITHMS[*]}" ;;
    esac
  done
  case $action in
    status | create | next | rotate | prune) ;;
    *) misuse "keys takes: status, create, next, rotate, prune" ;;
  esac
  SIGNING_KEY_FILE=$(readlink -m "$SIGNING_KEY_FILE")
  if [ "$action" != status ]; then
    # Two commands at once would take each other's keys away.
    exec 8> "$KIJKO_HOME/signing-keys.lock"
    flock -n 8 || fail "another 'keys' command is running"
  fi
  [ "$action" = create ] || require_database
  "keys_$action"
}

# The server must read the file that is changed here, and be able to use it.
require_signing_keys() {
  local theirs
  [ -f "$SIGNING_KEY_FILE" ] || fail "the file $SIGNING_KEY_FILE is missing: put it back from your backup. './kijko keys create' makes a new one, and every token ends"
  read_signing_keys
  theirs=$(admin_psql -At -c "select key ->> 'kid' from jsonb_array_elements(kijko.jwks() -> 'keys') with ordinality as keys (key, place) order by place") ||
    fail "the server cannot use the file of kijko.signing_key_file"
  [ "${SIGNING_IDS[*]}" = "${theirs//$'\n'/ }" ] ||
    fail "the server reads another file than $SIGNING_KEY_FILE: compare it with 'show kijko.signing_key_file' as the superuser"
}

# A token that gives no access, to ask verifiers whether they know a key. Not by login: it has no issuer and no role.
probe_token() {
  admin_psql -At -c "select kijko.sign_jwt_with_key(jsonb_build_object('exp', extract(epoch from now())::bigint + 600), '$1')"
}

# Every PostgREST that runs, as host:port. The postgres image has its own of this and the next one.
postgrest_addresses() {
  if service_pid rest > /dev/null; then echo "127.0.0.1:$REST_PORT"; fi
  if service_pid login > /dev/null; then echo "127.0.0.1:$LOGIN_PORT"; fi
}

# Makes PostgREST read its keys again. Fails, and says what to do, where that cannot be done from here.
reload_postgrest_keys() { signal_services USR2 rest login; }

# postgrest_accepts HOST:PORT TOKEN: any answer but 401. The function does not exist, so no database is asked.
postgrest_accepts() {
  local version status=''
  {
    exec 9<> "/dev/tcp/${1%:*}/${1##*:}" || return 1
    printf 'POST /rpc/kijko_knows_key HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$2" >&9
    read -r -t 5 version status _ <&9 || true
    exec 9>&-
  } 2> /dev/null
  [[ $version == HTTP/* ]] && [ -n "$status" ] && [ "$status" != 401 ]
}

# all_postgrest yes|no TOKEN…: whether each of them accepts all of these tokens, or none
all_postgrest() {
  local wanted=$1 address token accepted
  shift
  for address in $(postgrest_addresses); do
    for token in "$@"; do
      accepted=no
      ! postgrest_accepts "$address" "$token" || accepted=yes
      [ "$accepted" = "$wanted" ] || return 1
    done
  done
}

# await_postgrest yes|no TOKEN…: signals again and again, because one that cannot reach the database keeps what it has.
await_postgrest() {
  local waited=$SECONDS try=0
  until all_postgrest "$@"; do
    [ $((try++ % 10)) != 0 ] || reload_postgrest_keys || return 1
    [ $((SECONDS - waited)) -lt "$KEYS_WAIT_SECONDS" ] || return 1
    sleep 0.1
  done
}

# Exit status 1 while something does not know a key, or a rotation is not finished.
keys_status() {
  local at token known format='%-44s %-9s %-9s %-21s %s\n' sound=yes
  require_signing_keys
  # shellcheck disable=SC2059
  printf "$format" KEY ALGORITHM STATE SINCE POSTGREST
  for at in "${!SIGNING_IDS[@]}"; do
    token=$(probe_token "${SIGNING_IDS[at]}") known=yes
    all_postgrest yes "$token" || known=no sound=no
    # shellcheck disable=SC2059
    printf "$format" "${SIGNING_IDS[at]}" "${SIGNING_KINDS[at]}" "${SIGNING_STATES[at]}" "${SIGNING_TIMES[at]}" "$known"
  done
  print_prunable
  [ "$sound" = yes ] || fail "a PostgREST does not run or does not know a key: './kijko reload'"
  api_keys_are_current || fail "the anon and the service key are not signed by the current key: './kijko keys rotate' makes new ones"
}

print_prunable() {
  local at
  for at in "${!SIGNING_IDS[@]}"; do
    [ "${SIGNING_STATES[at]}" != previous ] || printf 'the tokens of %s have expired by %s\n' "${SIGNING_IDS[at]}" "$(expiry_of "$at")"
  done
}

# expiry_of PLACE: when the last access token that a previous key can have signed ends
expiry_of() {
  local since
  # A time that is none, written by hand, is now.
  since=$(date -d "${SIGNING_TIMES[$1]}" +%s 2> /dev/null) || since=$(date +%s)
  date -u -d "@$((since + LONGEST_TOKEN_SECONDS))" +%Y-%m-%dT%H:%M:%SZ
}

has_expired() { [[ $(current_utc) > $(expiry_of "$1") ]]; }

# Works on a stack that is down: then `up` makes the anon and the service key anew.
keys_create() {
  [ ! -e "$SIGNING_KEY_FILE" ] || fail "there is a file of keys already: $SIGNING_KEY_FILE"
  create_signing_keys ${KEY_ALGORITHM:+"$KEY_ALGORITHM"}
  say "made $SIGNING_KEY_FILE: back it up. Tokens of former keys are refused"
  load_secrets 2> /dev/null && postgres_answers || return 0
  require_signing_keys
  write_api_keys
  publish_signing_keys "${SIGNING_IDS[0]}" || fail "PostgREST does not know the new key: './kijko reload'"
}

keys_next() {
  require_signing_keys
  prepare_next_key
  say "the key $NEXT_ID is published and does not sign yet. Servers that keep a copy of the key set have it after 10 minutes; then './kijko keys rotate'"
}

# Leaves NEXT_ID. A key that has never signed can be replaced by one of another algorithm.
prepare_next_key() {
  local at
  at=$(signing_key_of next) || at=''
  if [ -z "$at" ] || { [ -n "$KEY_ALGORITHM" ] && [ "${SIGNING_KINDS[at]}" != "$KEY_ALGORITHM" ]; }; then
    add_next_key ${KEY_ALGORITHM:+"$KEY_ALGORITHM"}
    require_signing_keys
    at=$(signing_key_of next)
  fi
  NEXT_ID=${SIGNING_IDS[at]}
  publish_signing_keys "$NEXT_ID" || fail "PostgREST does not know the key $NEXT_ID yet, so it does not sign. Then: 'keys rotate'$([ "$KEYS_NOW" = no ] || echo ", and 'keys prune --now'")"
}

# publish_signing_keys ID: until every PostgREST knows the key
publish_signing_keys() {
  local token
  token=$(probe_token "$1") || return 1
  await_postgrest yes "$token"
}

keys_rotate() {
  require_signing_keys
  if finish_rotation; then return 0; fi
  if [ "$KEYS_NOW" = yes ]; then
    confirm_loss "Every token ends that a former key has signed: sessions are refreshed, anon and service keys are replaced. Continue?" ||
      fail "nothing was changed (KIJKO_YES=1 in the environment answers yes, in .env it does not)"
    # Whoever has the current key has the file.
    drop_next_key
  fi
  prepare_next_key
  promote_next_key
  require_signing_keys
  write_api_keys
  say "the key ${SIGNING_IDS[0]} (${SIGNING_KINDS[0]}) signs from now on: back up $SIGNING_KEY_FILE"
  if [ "$KEYS_NOW" = yes ]; then
    prune_signing_keys
  else
    say "There are a new anon and a new service key (./kijko status -o env). The former ones are valid until './kijko keys prune':" \
      "give your clients the new ones first. Not before $(expiry_of "$(signing_key_of previous)"), when the last session of the former key has a new token"
  fi
}

# The file names the new key, and what was killed has left the former anon and service key.
finish_rotation() {
  [ "$KEYS_NOW" = no ] && ! signing_key_of next > /dev/null && ! api_keys_are_current || return 1
  [ -z "$KEY_ALGORITHM" ] || [ "$KEY_ALGORITHM" = "${SIGNING_KINDS[0]}" ] || return 1
  publish_signing_keys "${SIGNING_IDS[0]}" || fail "PostgREST does not know the current key: './kijko reload'"
  write_api_keys
  say "finished what was begun: the key ${SIGNING_IDS[0]} signs, and the anon and the service key are made by it"
}

drop_next_key() {
  local at kept=()
  signing_key_of next > /dev/null || return 0
  for at in "${!SIGNING_KEYS[@]}"; do
    [ "${SIGNING_STATES[at]}" = next ] || kept+=("$at")
  done
  keep_signing_keys "${kept[@]}"
  require_signing_keys
}

keys_prune() {
  require_signing_keys
  prune_signing_keys ask
}

# Removes previous keys whose tokens have expired, or all of them. PostgREST is told even if there is none: a command that was
# killed may have removed one and not said so.
# prune_signing_keys [ask]
prune_signing_keys() {
  local at kept=() removed=() tokens=() waiting=()
  for at in "${!SIGNING_IDS[@]}"; do
    if [ "${SIGNING_STATES[at]}" != previous ]; then
      kept+=("$at")
    elif [ "$KEYS_NOW" = yes ] || has_expired "$at"; then
      removed+=("${SIGNING_IDS[at]}")
      tokens+=("$(probe_token "${SIGNING_IDS[at]}")")
    else
      kept+=("$at")
      waiting+=("${SIGNING_IDS[at]} until $(expiry_of "$at")")
    fi
  done
  if [ "${#removed[@]}" -gt 0 ]; then
    [ -z "${1:-}" ] || confirm_loss "Anon and service keys that ${removed[*]} has signed end. Have your clients the new ones? Continue?" ||
      fail "nothing was changed (KIJKO_YES=1 in the environment answers yes, in .env it does not)"
    api_keys_are_current || write_api_keys
    keep_signing_keys "${kept[@]}"
    require_signing_keys
    await_postgrest no "${tokens[@]}" || fail "a PostgREST still accepts the tokens of ${removed[*]}: './kijko keys prune' again"
    say "removed: ${removed[*]}"
  else
    reload_postgrest_keys || true
  fi
  [ "${#waiting[@]}" = 0 ] || fail "kept: ${waiting[*]}, because tokens of it may be in use. '--now' removes it all the same"
  [ "${#removed[@]}" -gt 0 ] || say "there is no former key"
}
