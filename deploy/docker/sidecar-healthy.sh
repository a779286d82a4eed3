#!/bin/bash
# Healthy: /health answers 200. The image has no HTTP client; bash speaks enough HTTP by itself.
set -euo pipefail
bind=$KIJKO_SIDECAR_BIND
[ "${KIJKO_PROGRAM:-}" != kijko-realtime ] || bind=$KIJKO_REALTIME_BIND
[ "${KIJKO_PROGRAM:-}" != kijko-storage ] || bind=$KIJKO_STORAGE_BIND
[ "${KIJKO_PROGRAM:-}" != kijko-indexer ] || bind=$KIJKO_INDEXER_BIND
exec 3<> "/dev/tcp/127.0.0.1/${bind##*:}"
printf 'GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r -t 2 _ status _ <&3
[ "$status" = 200 ]
