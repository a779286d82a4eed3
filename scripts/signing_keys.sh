# The file of keys that sign tokens (kijko.signing_key_file). Sourced by ./kijko and inside the postgres image.
# Each key is a block of PEM (PKCS#8) below a line that says its state: "# current since 2026-01-31T12:00:00Z". The server ignores
# such lines: the first block signs, all of them verify. So one write changes keys and states together.
# No key is ever an argument of a program, because command lines are public.
# shellcheck shell=bash

SIGNING_ALGORITHMS=(RS256 ES256 EdDSA)
# The server reads at most 64 KiB, and PostgREST tries every key on a token without a kid.
MAX_SIGNING_KEYS=8

# What read_signing_keys has read, in the order of the file.
SIGNING_KEYS=() SIGNING_STATES=() SIGNING_TIMES=() SIGNING_IDS=() SIGNING_KINDS=()

# new_signing_key [ALGORITHM]: leaves NEW_KEY. RS256: PostgREST verifies it several times faster than ES256.
new_signing_key() {
  NEW_KEY=$(generate_signing_key "${1:-RS256}")$'\n'
  [[ $NEW_KEY == *'-----END PRIVATE KEY-----'* ]] || fail "openssl made no key"
}

generate_signing_key() {
  case $1 in
    RS256) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2> /dev/null ;;
    ES256) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 ;;
    EdDSA) openssl genpkey -algorithm ED25519 ;;
  esac
}

current_utc() { date -u +%Y-%m-%dT%H:%M:%SZ; }

base64url() { base64 -w 0 | tr '+/' '-_' | tr -d '='; }

# From hexadecimal digits
bytes_of_hex() { printf '%b' "$(printf '%s' "$1" | sed 's/../\\x&/g')"; }

# The algorithm and the id of a private key on stdin. The id is the RFC 7638 thumbprint, which the server computes, too.
describe_signing_key() {
  local public hex jwk kind
  public=$(openssl pkey -pubout 2> /dev/null) || return 1
  hex=$(openssl pkey -pubin -pubout -outform DER <<< "$public" | od -An -v -tx1 | tr -d ' \n')
  case $hex in
    302a300506032b6570032100*)
      kind=EdDSA
      jwk=$(printf '{"crv":"Ed25519","kty":"OKP","x":"%s"}' "$(bytes_of_hex "${hex: -64}" | base64url)")
      ;;
    3059301306072a8648ce3d020106082a8648ce3d03010703420004*)
      kind=ES256
      jwk=$(printf '{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}' "$(bytes_of_hex "${hex: -128:64}" | base64url)" \
        "$(bytes_of_hex "${hex: -64}" | base64url)")
      ;;
    30*06092a864886f70d010101*)
      kind=RS256
      jwk=$(rsa_thumbprint_input "$public")
      ;;
    *) return 1 ;;
  esac
  printf '%s %s\n' "$kind" "$(printf '%s' "$jwk" | openssl dgst -sha256 -binary | base64url)"
}

rsa_thumbprint_input() {
  local text modulus exponent
  text=$(openssl rsa -pubin -noout -modulus -text <<< "$1")
  modulus=$(sed -n 's/^Modulus=//p' <<< "$text")
  exponent=$(sed -nE 's/^Exponent: [0-9]+ \(0x([0-9a-f]+)\)$/\1/p' <<< "$text")
  ((${#exponent} % 2 == 0)) || exponent=0$exponent
  printf '{"e":"%s","kty":"RSA","n":"%s"}' "$(bytes_of_hex "$exponent" | base64url)" "$(bytes_of_hex "$modulus" | base64url)"
}

# A key without a line of state was put there by hand: above all others it signs, elsewhere it verifies.
read_signing_keys() {
  local line key='' state='' since='' kind id changed
  changed=$(date -u -r "$SIGNING_KEY_FILE" +%Y-%m-%dT%H:%M:%SZ)
  SIGNING_KEYS=() SIGNING_STATES=() SIGNING_TIMES=() SIGNING_IDS=() SIGNING_KINDS=()
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%$'\r'}
    if [[ $line =~ ^#\ *(next|current|previous)\ +since\ +([0-9TZ:-]+)$ ]]; then
      state=${BASH_REMATCH[1]} since=${BASH_REMATCH[2]}
    elif [ -n "$key" ] || [[ $line == '-----BEGIN '* ]]; then
      key+=$line$'\n'
      [[ $line == '-----END '* ]] || continue
      read -r kind id < <(printf '%s' "$key" | describe_signing_key) || fail "key $((${#SIGNING_KEYS[@]} + 1)) of $SIGNING_KEY_FILE is none that can sign"
      [ "${#SIGNING_KEYS[@]}" != 0 ] || state=current
      [ "${#SIGNING_KEYS[@]}" = 0 ] || [ "$state" = next ] || state=previous
      SIGNING_KEYS+=("$key") SIGNING_STATES+=("$state") SIGNING_IDS+=("$id") SIGNING_KINDS+=("$kind")
      SIGNING_TIMES+=("${since:-$changed}")
      key='' state='' since=''
    fi
  done < "$SIGNING_KEY_FILE"
}

# print_signing_key STATE TIME KEY
print_signing_key() { printf '# %s since %s\n%s' "$1" "$2" "$3"; }

# print_signing_keys STATE: those of the file in this state
print_signing_keys() {
  local at
  for at in "${!SIGNING_KEYS[@]}"; do
    [ "${SIGNING_STATES[at]}" != "$1" ] || print_signing_key "$1" "${SIGNING_TIMES[at]}" "${SIGNING_KEYS[at]}"
  done
}

# signing_key_of STATE: the place of the first key in this state; fails if there is none
signing_key_of() {
  local at
  for at in "${!SIGNING_KEYS[@]}"; do
    if [ "${SIGNING_STATES[at]}" = "$1" ]; then
      printf '%s\n' "$at"
      return 0
    fi
  done
  return 1
}

# Made with the cluster. Later a missing file is not replaced: it has been moved or lost, and clients hold tokens that need it.
make_signing_keys() {
  [ ! -e "$SIGNING_KEY_FILE" ] || return 0
  if [ -f "$DATA/PG_VERSION" ]; then
    say "kijko: the file of signing keys $SIGNING_KEY_FILE is missing: put it back, or no token is valid. 'keys create' makes a new one"
    return 0
  fi
  create_signing_keys
}

# create_signing_keys [ALGORITHM]
create_signing_keys() {
  require_key_folder "$SIGNING_KEY_FILE" KIJKO_SIGNING_KEY_FILE
  new_signing_key "$@"
  print_signing_key current "$(current_utc)" "$NEW_KEY" | write_key_file "$SIGNING_KEY_FILE"
}

# add_next_key [ALGORITHM]: in the place of another one that does not sign yet
add_next_key() {
  [ "${#SIGNING_KEYS[@]}" -lt "$MAX_SIGNING_KEYS" ] || fail "$SIGNING_KEY_FILE has ${#SIGNING_KEYS[@]} keys: run './kijko keys prune' first"
  new_signing_key "$@"
  {
    print_signing_keys current
    print_signing_key next "$(current_utc)" "$NEW_KEY"
    print_signing_keys previous
  } | write_key_file "$SIGNING_KEY_FILE"
}

# The next key signs from here on.
promote_next_key() {
  local current next now
  current=$(signing_key_of current) next=$(signing_key_of next) now=$(current_utc)
  {
    print_signing_key current "$now" "${SIGNING_KEYS[next]}"
    print_signing_key previous "$now" "${SIGNING_KEYS[current]}"
    print_signing_keys previous
  } | write_key_file "$SIGNING_KEY_FILE"
}

# keep_signing_keys PLACE…: removes all others
keep_signing_keys() {
  local at
  for at in "$@"; do
    print_signing_key "${SIGNING_STATES[at]}" "${SIGNING_TIMES[at]}" "${SIGNING_KEYS[at]}"
  done | write_key_file "$SIGNING_KEY_FILE"
}
