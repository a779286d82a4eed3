# What is sold, at Stripe: made there, and compared with it. Sourced by ./kijko.
# shellcheck shell=bash

command_billing() {
  case "$*" in
    sync | 'sync --dry-run' | reconcile) ;;
    *) misuse "billing takes: sync [--dry-run], reconcile" ;;
  esac
  require_running
  [ -n "${STRIPE_API_KEY:-}" ] || fail "STRIPE_API_KEY is not set: give it in .env (docs/operations/billing.md)"
  local status=0
  DATABASE_URL="$SIDECAR_DB_URL?sslmode=disable" "$KIJKO_HOME/bin/kijko-sidecar" billing "$@" || status=$?
  return "$status"
}
