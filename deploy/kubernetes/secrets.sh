#!/usr/bin/env bash
# The secrets of deploy/kubernetes as files in a folder, with a kustomization that makes Secrets of them, one for each part:
#   deploy/kubernetes/secrets.sh make|next|rotate|prune|seal|prune-seal [FOLDER], then kubectl -n kijko apply -k FOLDER
# make: once; what is there stays. next, rotate and prune change the keys that sign tokens, seal puts a new key that seals secrets
# in front, prune-seal leaves that one alone (docs/operations/kubernetes.md#keys). Nothing here is ever an argument of a program.
set -euo pipefail

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
for part in ui key_file signing_keys seal_keys; do
  # shellcheck source=/dev/null
  . "$ROOT/scripts/$part.sh"
done

FOLDER=${2:-$ROOT/deploy/kubernetes/secrets}
SIGNING_KEY_FILE=$FOLDER/signing.keys SEAL_KEY_FILE=$FOLDER/seal.keys
# There is no cluster beside these files: a missing one is made.
DATA=$FOLDER/none
give_to_os_user() { :; }

make() {
  # In the cluster of deploy/kubernetes/base/postgres.yaml; the API goes through the pooler.
  KIJKO_DB_HOST=kijko-db-rw KIJKO_DB_POOLER=kijko-pooler KIJKO_DB_NAME=kijko \
    KIJKO_DB_TLS='sslmode=verify-full&sslrootcert=/run/ca/ca.crt' "$ROOT/deploy/docker/make-secrets.sh" "$FOLDER"
  make_signing_keys
  make_seal_keys
  cp "$ROOT/deploy/kubernetes/secrets.yaml" "$FOLDER/kustomization.yaml"
}

main() {
  local at kept=()
  [ "$#" = 1 ] || [ "$#" = 2 ] || misuse "secrets.sh takes make, next, rotate, prune, seal or prune-seal, and a folder"
  [ "$1" = make ] || [ -f "$SIGNING_KEY_FILE" ] || fail "there are no keys in $FOLDER: 'secrets.sh make' makes them"
  [ ! -f "$SIGNING_KEY_FILE" ] || read_signing_keys
  case $1 in
    make) make ;;
    next) signing_key_of next > /dev/null && fail "there is a next key already"; add_next_key ;;
    rotate) signing_key_of next > /dev/null || fail "there is no next key: 'secrets.sh next' first"; promote_next_key ;;
    prune)
      for at in "${!SIGNING_KEYS[@]}"; do [ "${SIGNING_STATES[at]}" = previous ] || kept+=("$at"); done
      keep_signing_keys "${kept[@]}"
      ;;
    seal) add_seal_key "$SEAL_KEY_FILE" ;;
    prune-seal) mapfile -t kept < <(seal_key_ids "$SEAL_KEY_FILE" | tail -n +2); [ "${#kept[@]}" = 0 ] || remove_seal_keys "$SEAL_KEY_FILE" "${kept[@]}" ;;
    *) misuse "secrets.sh takes make, next, rotate, prune, seal or prune-seal, not '$1'" ;;
  esac
  say "now: kubectl -n kijko apply -k $FOLDER"
}

main "$@"
