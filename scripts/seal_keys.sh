# The file of keys that seal secrets (kijko.seal_key_file). Sourced by ./kijko and inside the postgres image.
# A line is the id of a key, a blank, and the key: 32 random bytes in base64. The first seals, all of them unseal.
# No key is ever an argument of a program, because command lines are public.
# shellcheck shell=bash

new_seal_key() {
  local key id
  key=$(openssl rand -base64 32)
  # The server computes the same id, and refuses a key whose id differs.
  id=$({ printf 'kijko seal key 1\0' && printf '%s' "$key" | base64 -d; } | sha256sum | cut -c1-16)
  printf '%s %s\n' "$id" "$key"
}

# seal_key_ids FILE: the ids in their order
seal_key_ids() { sed -nE 's/^[[:space:]]*([0-9a-f]{16})[[:space:]].*/\1/p' "$1"; }

# Made with the cluster. Later a missing file is not replaced: it has been moved or lost, and what is stored needs it.
make_seal_keys() {
  [ ! -e "$SEAL_KEY_FILE" ] || return 0
  if [ -f "$DATA/PG_VERSION" ]; then
    say "kijko: the file of seal keys $SEAL_KEY_FILE is missing: put it back, or no secret can be read. 'secrets create' makes a new one"
    return 0
  fi
  create_seal_keys
}

create_seal_keys() {
  require_key_folder "$SEAL_KEY_FILE" KIJKO_SEAL_KEY_FILE
  new_seal_key | write_key_file "$SEAL_KEY_FILE"
}

# add_seal_key FILE: puts a new key in front. First it is written behind the others: if that is lost, nothing was sealed by it.
add_seal_key() {
  local file=$1 key former
  former=$(cat "$file")
  key=$(new_seal_key)
  printf '%s\n%s\n' "$former" "$key" | write_key_file "$file"
  printf '%s\n%s\n' "$key" "$former" | write_key_file "$file"
}

# remove_seal_keys FILE ID…
remove_seal_keys() {
  local file=$1 ids
  shift
  ids=$(
    IFS='|'
    printf '%s' "$*"
  )
  sed -E "/^[[:space:]]*($ids)[[:space:]]/d" "$file" | write_key_file "$file"
}
