#!/usr/bin/env bash
# Installs Debian packages without letting them start anything: Debian would make and start a cluster on 5432 and a web
# server on 80. Run as root: scripts/apt-install.sh PACKAGE…
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

policy=/usr/sbin/policy-rc.d
cluster_conf=/etc/postgresql-common/createcluster.d/kijko-install.conf
made=()
cleanup() { [ "${#made[@]}" = 0 ] || rm -f "${made[@]}"; }
trap cleanup EXIT

# invoke-rc.d asks this file before it starts a service; 101 means no. An administrator's own policy is left in place.
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 0755 "$policy"
  made+=("$policy")
fi
if [ ! -e "$cluster_conf" ]; then
  mkdir -p "$(dirname "$cluster_conf")"
  printf 'create_main_cluster = false\n' > "$cluster_conf"
  made+=("$cluster_conf")
fi
# Caddy's unit would be enabled and so start at the next boot; a mask made before the package keeps it off. An installed Caddy is not touched.
if command -v systemctl > /dev/null && ! dpkg-query -W caddy > /dev/null 2>&1; then
  systemctl mask caddy.service caddy-api.service > /dev/null 2>&1 || true
fi

apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
