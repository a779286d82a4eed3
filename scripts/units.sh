# systemd: ./kijko units writes and installs the units of a stack, ./kijko run is what they run. Sourced by ./kijko.
# A stack whose units are installed has a file $KIJKO_HOME/systemd with their prefix: then all commands start and stop its parts
# by systemd.
# shellcheck shell=bash

command_units() {
  local action=${1:-status}
  [ "$#" = 0 ] || shift
  case "$action:$#" in
    status:0) units_status ;;
    print:1 | print:2)
      check_unit_prefix "${2:-kijko}"
      units_print "$1" "${2:-kijko}"
      ;;
    install:0 | install:1)
      check_unit_prefix "${1:-kijko}"
      units_install "${1:-kijko}"
      ;;
    remove:0) units_remove ;;
    *) misuse "units takes: status, print FOLDER [PREFIX], install [PREFIX], remove" ;;
  esac
}

check_unit_prefix() {
  [[ $1 =~ ^[a-z][a-z0-9-]{0,30}$ ]] || misuse "the prefix of units is small letters, digits and hyphens, not '$1'"
}

unit_parts() { printf '%s\n' postgres "${SERVICES[@]}" rotation; }

units_status() {
  managed_by_systemd || fail "no units are installed for this stack: './kijko units install' does that"
  local part units=()
  for part in $(unit_parts); do units+=("$(unit_of "$part")"); done
  systemctl --no-pager --lines=0 list-units --all "${units[@]}" "$(cat "$KIJKO_HOME/systemd").target"
}

# units_print FOLDER PREFIX
units_print() {
  local folder=$1 part file
  # systemd gives blanks, quotes and percent signs a meaning.
  [[ $ROOT$KIJKO_HOME =~ ^[A-Za-z0-9_./@+-]+$ ]] || fail "units need paths of letters, digits and _./@+-: $ROOT, $KIJKO_HOME"
  mkdir -p "$folder" || fail "the folder $folder cannot be made"
  for part in $(unit_parts); do
    render "$ROOT/deploy/systemd/part.service.in" "$2" "$part" > "$folder/$2-$part.service"
  done
  render "$ROOT/deploy/systemd/target.in" "$2" '' > "$folder/$2.target"
  for file in check.service check.timer; do
    render "$ROOT/deploy/systemd/$file.in" "$2" '' > "$folder/$2-$file"
  done
  render "$ROOT/deploy/logrotate/kijko.in" "$2" '' > "$folder/$2.logrotate"
}

# render TEMPLATE PREFIX PART: a placeholder that stands alone in its line becomes as many lines as its value has.
render() {
  local text name value
  text=$(cat "$1")
  for name in NAME PART ROOT HOME USER GROUP DESCRIPTION ORDER TYPE RESTART STOP CAPABILITIES; do
    [[ $text == *"@$name@"* ]] || continue
    value=$(unit_value "$name" "$2" "$3")
    text=${text//"@$name@"/"$value"}
  done
  printf '%s\n' "$text"
}

# unit_value PLACEHOLDER PREFIX PART
unit_value() {
  case $1:$3 in
    NAME:*) echo "$2" ;;
    PART:*) echo "$3" ;;
    # A later package of the same stack takes this one's place.
    ROOT:*) if [ "$(readlink -f "$KIJKO_HOME/package")" = "$ROOT" ]; then echo "$KIJKO_HOME/package"; else echo "$ROOT"; fi ;;
    HOME:*) echo "$KIJKO_HOME" ;;
    USER:*) echo "$OS_USER" ;;
    GROUP:*) id -gn "$OS_USER" ;;
    DESCRIPTION:postgres) echo "PostgreSQL with the extension" ;;
    DESCRIPTION:rest) echo "PostgREST of the API" ;;
    DESCRIPTION:login) echo "PostgREST of login" ;;
    DESCRIPTION:caddy) echo "Caddy, the one origin" ;;
    DESCRIPTION:realtime) echo "realtime over WebSocket" ;;
    DESCRIPTION:storage) echo "storage of objects" ;;
    DESCRIPTION:indexer) echo "the index of repositories" ;;
    DESCRIPTION:rotation) echo "rotation of the logs" ;;
    DESCRIPTION:*) echo "$3" ;;
    ORDER:postgres | ORDER:rotation) echo "After=network-online.target" ;;
    ORDER:*) printf 'Wants=%s-postgres.service\nAfter=network-online.target %s-postgres.service\n' "$2" "$2" ;;
    # Postgres says by itself when it answers.
    TYPE:postgres) printf 'Type=notify\nTimeoutStartSec=10min\n' ;;
    TYPE:*) echo "Type=exec" ;;
    RESTART:*) unit_restarts ;;
    # SIGINT: connections end, and nothing is lost. If a backend is killed for its memory, the server goes on.
    STOP:postgres) printf 'KillSignal=SIGINT\nKillMode=mixed\nTimeoutStopSec=2min\nOOMPolicy=continue\nLimitNOFILE=65536\n' ;;
    STOP:sidecar | STOP:indexer) printf 'KillMode=mixed\nTimeoutStopSec=%s\n' "$((${KIJKO_SHUTDOWN_SECONDS:-25} + 15))" ;;
    STOP:*) printf 'TimeoutStopSec=30\nLimitNOFILE=65536\n' ;;
    # For the ports 80 and 443.
    CAPABILITIES:caddy) printf 'CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n' ;;
    CAPABILITIES:*) echo "CapabilityBoundingSet=" ;;
  esac
}

# Back-off from 1 second to a minute, which systemd can do since version 254.
unit_restarts() {
  local version
  version=$(systemctl --version 2> /dev/null | sed -nE '1s/^systemd ([0-9]+).*/\1/p') || version=''
  if [ "${version:-0}" -ge 254 ]; then
    printf 'RestartSec=1\nRestartSteps=8\nRestartMaxDelaySec=1min\n'
  else
    echo "RestartSec=5"
  fi
}

UNIT_FOLDER=${KIJKO_UNIT_FOLDER:-/etc/systemd/system}

units_install() {
  local prefix=$1 folder part
  [ "$(id -u)" = 0 ] || fail "units are installed by root: sudo ./kijko units install"
  command -v systemctl > /dev/null || fail "this machine has no systemd"
  [ -f "$KIJKO_HOME/applied" ] || fail "there is no stack yet: './kijko up' makes one"
  reachable_by_os_user "$ROOT" || fail "the user $OS_USER cannot enter $ROOT, and units run as this user: move the checkout, for example to /opt/kijko"
  as_os_user test ! -e "$ROOT/.env" -o -r "$ROOT/.env" || fail "the user $OS_USER cannot read $ROOT/.env, and units run as this user"
  managed_by_systemd && [ "$(cat "$KIJKO_HOME/systemd")" != "$prefix" ] && fail "this stack has units with another prefix: './kijko units remove' first"
  # What runs by itself would hold the ports.
  stop_services
  stop_postgres
  folder=$(mktemp -d)
  units_print "$folder" "$prefix"
  rm -f "$folder"/*.logrotate
  install -m 0644 "$folder"/* "$UNIT_FOLDER/"
  rm -rf "$folder"
  # systemd would make them as root's, and the rotation could not empty them.
  for part in $(unit_parts); do touch "$LOGS/$part.log"; done
  give_to_os_user "$LOGS"
  printf '%s\n' "$prefix" > "$KIJKO_HOME/systemd"
  systemctl daemon-reload
  enable_units
  say "installed $prefix.target: it starts now and at each boot"
  say "an alarm when something is wrong: systemctl enable --now $prefix-check.timer"
}

# The target is enabled for the boot, and its parts by the target.
enable_units() {
  local prefix part units=()
  prefix=$(cat "$KIJKO_HOME/systemd")
  for part in $(unit_parts); do
    { [ "$part" = rotation ] && rotation_is_off; } || units+=("$(unit_of "$part")")
  done
  systemctl enable --quiet "$prefix.target" "${units[@]}"
  systemctl start "$prefix.target"
}

units_remove() {
  local prefix part
  managed_by_systemd || fail "no units are installed for this stack"
  [ "$(id -u)" = 0 ] || fail "units are removed by root: sudo ./kijko units remove"
  prefix=$(cat "$KIJKO_HOME/systemd")
  for part in $(unit_parts); do
    systemctl disable --quiet --now "$(unit_of "$part")" || true
    rm -f "$UNIT_FOLDER/$prefix-$part.service"
  done
  systemctl disable --quiet --now "$prefix.target" "$prefix-check.timer" || true
  rm -f "$UNIT_FOLDER/$prefix.target" "$UNIT_FOLDER/$prefix-check.service" "$UNIT_FOLDER/$prefix-check.timer" "$KIJKO_HOME/systemd"
  systemctl daemon-reload
  say "removed; the data stays. './kijko up' starts the stack without systemd"
}

# ./kijko run PART: this process becomes the part. It changes nothing that `up` has installed, and its pid file is what the other
# commands know the part by.
command_run() {
  [ "$#" = 1 ] && [[ " $(unit_parts | tr '\n' ' ') " = *" $1 "* ]] || misuse "run takes one part: $(unit_parts | tr '\n' ' ')"
  [ -f "$DATA/PG_VERSION" ] && load_secrets || fail "there is no stack yet: './kijko up' makes one"
  part_state "$1" | grep -qx running && fail "$1 is running already"
  RUN_IN_FOREGROUND=yes
  if [ "$1" = postgres ]; then
    configure_cluster
    exec "${AS_BARE_OS_USER[@]}" ${NOTIFY_SOCKET:+"NOTIFY_SOCKET=$NOTIFY_SOCKET"} "$PG_BIN/postgres" -D "$DATA"
  fi
  "start_$1"
}
