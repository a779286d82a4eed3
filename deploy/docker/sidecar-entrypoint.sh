#!/bin/sh
# Secrets come as files (DATABASE_URL_FILE and so on), because `docker inspect` shows the environment to everybody who may ask.
set -eu

# from_file NAME: sets NAME to the contents of the file that NAME_FILE names; an empty or missing optional file sets nothing.
from_file() {
  eval "file=\${$1_FILE:-}"
  [ -n "$file" ] || return 0
  [ -r "$file" ] || {
    echo "kijko: $1_FILE names $file, which is missing or not readable" >&2
    exit 2
  }
  value=$(cat "$file")
  export "$1=$value"
}

from_file DATABASE_URL
from_file KIJKO_GATEWAY_DATABASE_URL
from_file OPENAI_API_KEY
from_file ANTHROPIC_API_KEY
from_file GEMINI_API_KEY
from_file TAVILY_API_KEY
from_file STRIPE_API_KEY
from_file STRIPE_WEBHOOK_SECRET
from_file SMTP_URL
from_file KIJKO_STORAGE_SIGNING_KEY
from_file KIJKO_STORAGE_S3_SECRET_ACCESS_KEY
for name in $(env | sed -n 's/^\(KIJKO_OAUTH_[A-Z0-9_]*_CLIENT_SECRET\)_FILE=.*/\1/p'); do
  from_file "$name"
done
exec "${KIJKO_PROGRAM:-kijko-sidecar}" "$@"
