#!/usr/bin/env bash
# Makes the secret files that docker-compose.yml mounts, once: deploy/docker/make-secrets.sh [FOLDER]
# The folder is 0700 and keeps everybody else on the host out. The files in it are 0644, because each container reads its
# own through a mount, as another user than the one who made them.
set -euo pipefail

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
for part in ui config cluster; do
  # shellcheck source=/dev/null
  . "$ROOT/scripts/$part.sh"
done

FOLDER=${1:-${KIJKO_SECRETS_DIR:-$ROOT/deploy/docker/secrets}}

# write NAME VALUE: what is there stays, since the database knows it already.
write() {
  [ -e "$FOLDER/$1" ] || printf '%s\n' "$2" > "$FOLDER/$1"
}

# uri NAME ROLE PASSWORD [HOST]: the containers of compose talk over a network that nothing else is on, hence no TLS between them.
# deploy/kubernetes/secrets.sh sets another host, name and TLS.
uri() {
  write "$1" "postgres://$2:$3@${4:-${KIJKO_DB_HOST:-postgres}}:5432/${KIJKO_DB_NAME:-postgres}?${KIJKO_DB_TLS:-sslmode=disable}"
}

main() {
  command -v openssl > /dev/null || fail "openssl is missing: install it and try again"
  mkdir -p "$FOLDER"
  chmod 0700 "$FOLDER"
  local name password
  for name in admin postgres authenticator login sidecar gateway realtime storage indexer; do
    write "${name}_password" "$(random_password)"
    password=$(cat "$FOLDER/${name}_password")
    case $name in
      authenticator) uri rest_db_uri authenticator "$password" "${KIJKO_DB_POOLER:-}" ;;
      login) uri login_db_uri kijko_login "$password" ;;
      sidecar) uri sidecar_db_uri kijko_sidecar "$password" ;;
      gateway) uri gateway_db_uri kijko_gateway "$password" ;;
      realtime) uri realtime_db_uri kijko_realtime "$password" ;;
      storage) uri storage_db_uri kijko_storage "$password" ;;
      indexer) uri indexer_db_uri kijko_indexer "$password" ;;
    esac
  done
  # Signs URLs of objects.
  write storage_signing_key "$(random_password)"
  # Empty: objects are in the folder.
  [ -e "$FOLDER/storage_s3_secret_access_key" ] || : > "$FOLDER/storage_s3_secret_access_key"
  # Empty: no vendor. Write the key into it and restart the sidecar.
  for vendor in openai anthropic gemini tavily; do
    [ -e "$FOLDER/${vendor}_api_key" ] || : > "$FOLDER/${vendor}_api_key"
  done
  [ -e "$FOLDER/stripe_api_key" ] || : > "$FOLDER/stripe_api_key"
  [ -e "$FOLDER/stripe_webhook_secret" ] || : > "$FOLDER/stripe_webhook_secret"
  # Empty: mails are kept.
  [ -e "$FOLDER/smtp_url" ] || : > "$FOLDER/smtp_url"
  chmod 0644 "$FOLDER"/*
  say "the secrets are in $FOLDER: back them up, and commit them nowhere"
}

main
