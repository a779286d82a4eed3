#!/usr/bin/env bash
# Copies objects from one folder into another: archive-objects FROM TO [LIST]
# LIST names files below FROM; without it, what was added since the last time is copied. Files never change, so one that is there
# is complete. On one file system both folders get the same file, by a link.
set -euo pipefail
from=$1 to=$2 list=${3:-}
# Made by ./kijko. If it is missing, its disk is not mounted: a new folder would hide that.
[ -d "$to" ] || { echo "the folder $to is missing" >&2; exit 1; }
# Nothing was ever stored.
[ -d "$from" ] || exit 0
exec 8> "$to/.lock"
flock 8
work=$(mktemp -d "$to/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Files of folders that changed since the last pass began, or a little before: a file system's clock is coarse.
added() {
  local since=()
  [ ! -f "$to/.pass" ] || since=(-newer "$to/.pass")
  find . -mindepth 2 -maxdepth 2 -type d "${since[@]}" -print0 |
    xargs -0 -r sh -c 'exec find "$@" -mindepth 1 -maxdepth 1 -type f -name "????????-????-????-????-????????????" -print' sh |
    sed 's,^\./,,'
}

# missing FILE: those of its names that are in FROM and not in TO
missing() {
  local name
  while read -r name; do
    if [ ! -e "$to/$name" ] && [ -e "$from/$name" ]; then printf '%s\n' "$name"; fi
  done < "$1"
}

# copy FROM TO FILE OPTION…: with the folders above
copy() {
  (cd "$1" && tr '\n' '\0' < "$3" | xargs -0 -r cp --parents -p "${@:4}" -t "$2")
}

# Makes the folders above, too. A sandbox may refuse links on one file system.
link() { copy "$1" "$to" "$2" --link; }

# A copy is complete on disk before it gets its name.
copy_files() {
  mkdir -p "$work/copies"
  copy "$from" "$work/copies" "$1" || true
  (cd "$work/copies" && find . -type f -print0 | xargs -0 -r sync)
  (cd "$work/copies" && find . -type f -printf '%P\n') > "$work/copied"
  link "$work/copies" "$work/copied"
  rm -rf "$work/copies"
}

sync_folders() { (cd "$to" && sed 's|/[^/]*$||' "$1" | sort -u | tr '\n' '\0' | xargs -0 -r sync); }

touch -d '10 seconds ago' "$work/pass"
if [ -n "$list" ]; then cp "$list" "$work/wanted"; else (cd "$from" && added) > "$work/wanted"; fi
missing "$work/wanted" > "$work/missing"
if [ -s "$work/missing" ]; then
  link "$from" "$work/missing" 2> /dev/null || true
  missing "$work/missing" > "$work/unlinked"
  # A file that was deleted in between is not missing.
  [ ! -s "$work/unlinked" ] || copy_files "$work/unlinked"
  sync_folders "$work/missing"
fi
[ -z "$(missing "$work/missing")" ] || exit 1
[ -n "$list" ] || mv "$work/pass" "$to/.pass"
