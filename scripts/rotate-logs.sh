#!/usr/bin/env bash
# rotate-logs.sh FOLDER BYTES: keeps each log of the stack at about BYTES, with one former file beside it (NAME.log.1). Runs
# until it is stopped. A log is copied and emptied, because its writers keep it open; they append, so they go on at its new
# end. What is written between the two is lost.
set -euo pipefail

folder=$1 limit=$2

rotate() {
  local file=$1
  [ "$(stat -c %s "$file")" -gt "$limit" ] || return 0
  # A full disk: the log is emptied all the same.
  cp "$file" "$file.1" || rm -f "$file.1"
  : > "$file"
}

while :; do
  for file in "$folder"/*.log; do
    case $file in
      */up-*.log) ;; # of one step of `./kijko up`
      *) [ ! -f "$file" ] || rotate "$file" || true ;;
    esac
  done
  sleep "${KIJKO_ROTATION_SECONDS:-5}"
done
