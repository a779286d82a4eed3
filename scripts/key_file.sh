# Writes a file of secret keys. Sourced by ./kijko and inside the postgres image.
# shellcheck shell=bash

# write_key_file FILE: from stdin, whole or not at all, and on disk before it counts: what is sealed or signed by a key that a
# power failure takes back would be lost. Owner and mode of an existing file are kept.
write_key_file() {
  local file=$1 new=$1.new
  (umask 077 && cat > "$new") || return 1
  if [ -e "$file" ]; then
    chmod --reference="$file" "$new"
    [ "$(id -u)" != 0 ] || chown --reference="$file" "$new"
  else
    give_to_os_user "$new"
  fi
  sync "$new" || return 1
  mv -f "$new" "$file" || return 1
  sync "$(dirname "$file")"
}

# require_key_folder FILE VARIABLE
require_key_folder() {
  local folder
  folder=$(dirname "$1")
  [ -d "$folder" ] || fail "the folder of $2 does not exist: $folder"
}
