# Releases: which one this checkout and the database are of, and ./kijko upgrade. Sourced by ./kijko and inside the migrate image.
# shellcheck shell=bash

kijko_release() { cat "$ROOT/supabase/release.txt"; }

# The newest that was applied to the database; nothing in a new one.
database_release() {
  [ "$(owner_psql -At -c "select to_regclass('private.releases') is not null")" = t ] || return 0
  owner_psql -At -c 'select r.release from private.releases as r' | sort -V | tail -n 1
}

record_release() { owner_psql -c "select private.record_release('$(kijko_release)')" > /dev/null; }

# An older release does not know what a newer one has stored.
refuse_newer_database() {
  local there
  there=$(database_release)
  [ -z "$there" ] || [ "$(printf '%s\n%s\n' "$there" "$(kijko_release)" | sort -V | tail -n 1)" = "$(kijko_release)" ] ||
    fail "the database is of release $there, and this is $(kijko_release): check out $there, or restore a backup from before the upgrade"
}

# `up` is for the release that is there; another one begins with a backup.
refuse_other_release() {
  local there
  refuse_newer_database
  there=$(database_release)
  [ -z "$there" ] || [ "$there" = "$(kijko_release)" ] || [ "${UPGRADING:-no}" = yes ] ||
    fail "the database is of release $there, and this is $(kijko_release): run './kijko upgrade'"
}

command_upgrade() {
  local option there pending
  if [ "${1:-}" = --pg ]; then
    [ "$#" = 2 ] || misuse "upgrade --pg takes a major version of PostgreSQL"
    upgrade_postgres "$2"
    return
  fi
  UPGRADE_BACKUP=yes UPGRADE_CHECK=no
  for option in "$@"; do
    case $option in
      --check) UPGRADE_CHECK=yes ;;
      --without-backup) UPGRADE_BACKUP=no ;;
      *) misuse "upgrade takes --check and --without-backup, or --pg MAJOR, not '$option'" ;;
    esac
  done
  require_database
  refuse_newer_database
  # Everything that would stop it half-way is asked before anything is changed.
  [ ! -f "$BUILD_PREFIX/.extension" ] || refuse_platform_drift "$BUILD_PREFIX"
  refuse_migration_drift
  [ ! -f "$KIJKO_HOME/paused" ] || fail "this stack is paused since a restore: run './kijko resume' first"
  there=$(database_release)
  pending=$(pending_migrations)
  say "from ${there:-a release without a stamp} to $(kijko_release)"
  say "migrations: $(wc -w <<< "$pending"); files of sql/platform: $(pending_platform | wc -l)"
  [ -z "$pending" ] || say "$pending"
  [ "$UPGRADE_CHECK" = no ] || return 0
  ask "Continue? The stack stops for a moment." || fail "nothing was changed (KIJKO_YES=1 answers yes)"
  if [ "$UPGRADE_BACKUP" = yes ]; then
    load_backup_settings
    lock_backups
    backup_create
    unlock_backups
  fi
  UPGRADING=yes
  command_up
  say "this is release $(kijko_release). If it does not do what you need, docs/operations/upgrades.md says how to go back"
}
