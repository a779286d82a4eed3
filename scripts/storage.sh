# ./kijko storage: whether rows and bytes of objects belong together. Sourced by ./kijko.
# shellcheck shell=bash

command_storage() {
  [ "${1:-}" = check ] && [ "$#" -le 2 ] || misuse "storage takes: check [--delete]"
  case ${2:-} in
    '' | --delete) ;;
    *) misuse "storage check takes --delete or nothing" ;;
  esac
  require_database
  check_storage "${@:2}"
}

# By the service's own program, as its user and with its settings: the folder and the keys of S3 are nobody else's.
check_storage() {
  local program=$KIJKO_HOME/bin/kijko-storage no_secrets
  mapfile -t no_secrets < <(sidecar_secrets)
  [ -x "$program" ] || program=$STORAGE_BINARY
  with_storage_settings "${AS_OS_USER[@]}" env "${no_secrets[@]}" "$program" check "$@"
}
