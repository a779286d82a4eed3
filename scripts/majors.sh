# Tests on another major version of Postgres than the system's: ./kijko test --pg MAJOR. The servers of 15, 17 and 18 are those
# of a Debian that has them, in a root of its own under ROOTS; that of 16 comes from PyPI, and has neither pg_cron nor pgTAP.
# The extension is built outside, so that all majors share what does not depend on one. Sourced by ./kijko.
# shellcheck shell=bash

ROOTS=${KIJKO_ROOTS:-/var/tmp/kijko-roots}
PGSERVER_VERSION=0.1.4

declare -A PG_SUITES=([15]=bookworm [17]=trixie [18]=sid)
# What the tests run in a root. Headers and the tools of Postgres' own tests are unpacked, because their package wants a compiler.
ROOT_PACKAGES=("${APT_PACKAGES[@]}" nodejs)

# test_on_major MAJOR AREA…
test_on_major() {
  local major=$1 area
  shift
  [[ " ${PG_MAJORS[*]} " = *" $major "* ]] || misuse "--pg must be one of ${PG_MAJORS[*]}, not '$major'"
  [ "$#" -gt 0 ] || set -- ext db pg_upgrade
  for area in "$@"; do
    [[ " ${TEST_AREAS[*]} ${NAMED_AREAS[*]} " = *" $area "* ]] || misuse "there is no test area '$area': ${TEST_AREAS[*]}"
  done
  if [ "$major" = 16 ]; then
    [ "$*" = ext ] || [ "$*" = 'ext db pg_upgrade' ] || misuse "on PostgreSQL 16 only the area ext can run: its server has neither pg_cron nor pgTAP"
    set -- ext
  fi
  check_toolchain
  mkdir -p "$LOGS"
  if [ "$major" = 16 ]; then test_on_pgserver; else test_in_root "$major" "$@"; fi
}

# ---- a Debian that has the major

test_in_root() {
  local major=$1 root=$ROOTS/${PG_SUITES[$1]} area
  shift
  [ "$(id -u)" = 0 ] || fail "tests on PostgreSQL $major make a Debian of their own, which only root can"
  unshare --mount true 2> /dev/null || fail "tests on PostgreSQL $major mount a Debian of their own, which is not allowed here (a container needs --privileged)"
  command -v debootstrap > /dev/null || APT_PACKAGES+=(debootstrap)
  install_apt_packages
  install_npm_packages
  step "Debian ${PG_SUITES[$major]} with PostgreSQL $major" "check the network and the log" make_root "$major" "$root"
  step "the extension for PostgreSQL $major" "the compiler's message above says what is wrong" build_for_root "$major" "$root"
  [ "$*" = ext ] || step "the sidecar and the services" "the compiler's message above says what is wrong" build_programs
  for area in "$@"; do
    if [ "$area" = pg_upgrade ]; then
      upgrade_in_root "$major" "$root"
    else
      in_root "$root" env KIJKO_PG_MAJOR="$major" KIJKO_BUILD_PROFILE="$BUILD_PROFILE" KIJKO_PREBUILT=1 KIJKO_YES=1 KIJKO_HOME=/var/lib/kijko \
        KIJKO_EXT_LAYERS='regress isolation crash workers replication outbox pg_upgrade upgrade' "$ROOT/kijko" test "$area"
    fi
  done
}

# From the system's major, whose packages a Debian that was upgraded still has.
upgrade_in_root() {
  local to=$1 root=$2 from
  from=$(system_pg_major)
  [ "$from" -lt "$to" ] || fail "pg_upgrade goes from the system's PostgreSQL $from to a newer one"
  step "PostgreSQL $from beside it" "check the network and the log" add_major "$from" "$root"
  step "the extension for PostgreSQL $from" "the compiler's message above says what is wrong" build_for "$from" ''
  # An upgrade leaves the former cluster beside the new one, where it would be in the way of the next.
  rm -rf "$root/var/lib/kijko-upgrade"
  in_root "$root" env KIJKO_PG_MAJOR="$from" KIJKO_BUILD_PROFILE="$BUILD_PROFILE" KIJKO_UPGRADE_TO="$to" KIJKO_PREBUILT=1 KIJKO_YES=1 KIJKO_HOME=/var/lib/kijko-upgrade \
    "$ROOT/kijko" test pg_upgrade
}

add_major() {
  local major=$1 root=$2 suite
  suite=$(basename "$root")
  [ ! -x "$root/usr/lib/postgresql/$major/bin/postgres" ] || return 0
  sed "s/$suite/${PG_SUITES[$major]}/" "$root/etc/apt/sources.list" > "$root/etc/apt/sources.list.d/former.list"
  in_root "$root" bash /tmp/apt-install.sh "postgresql-$major" "postgresql-$major-cron" "postgresql-$major-pgtap" "postgresql-$major-plpgsql-check"
}

# Made once. The suite of 18 is in motion, and a mirror of it may lag behind its own dates.
make_root() {
  local major=$1 root=$2 mirror
  [ ! -f "$root/.kijko-ready" ] || return 0
  mirror=$(debian_mirror)
  unpack_root "${PG_SUITES[$major]}" "$root" "$mirror" || unpack_root "${PG_SUITES[$major]}" "$root" "$mirror"
  printf 'force-unsafe-io\n' > "$root/etc/dpkg/dpkg.cfg.d/kijko"
  printf 'Acquire::Check-Valid-Until "false";\n' > "$root/etc/apt/apt.conf.d/99kijko"
  cp "$ROOT/scripts/apt-install.sh" "$root/tmp/"
  in_root "$root" bash /tmp/apt-install.sh "postgresql-$major" "postgresql-$major-cron" "postgresql-$major-pgtap" \
    "postgresql-$major-plpgsql-check" "${ROOT_PACKAGES[@]}"
  # shellcheck disable=SC2016 # expanded by the inner shell
  in_root "$root" bash -c 'cd "$(mktemp -d)" && chmod 755 . && apt-get download -q "$@" && for file in *.deb; do dpkg -x "$file" /; done' \
    download "postgresql-server-dev-$major" libpq-dev
  touch "$root/.kijko-ready"
}

# unpack_root SUITE ROOT MIRROR: a mirror drops a connection now and then, and debootstrap does not go on where it was.
unpack_root() {
  rm -rf "$2"
  mkdir -p "$2"
  debootstrap --variant=minbase --include=ca-certificates "$1" "$2" ${3:+"$3"}
}

# The one that this machine's apt has, which may be the only one that it reaches. Without one debootstrap takes its own.
debian_mirror() {
  # shellcheck disable=SC2016 # expanded by apt-get
  apt-get indextargets --format '$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian Debian main //p' | head -n 1
}

# in_root ROOT COMMAND…: with the checkout at its own path, and mounts and processes that end with the command. The network is
# the machine's.
in_root() {
  local root=$1
  shift
  mkdir -p "$root$ROOT"
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --mount --ipc --pid --fork --kill-child --propagation private bash -ec '
    root=$1 checkout=$2
    shift 2
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/dev/shm"
    mount --bind "$checkout" "$root$checkout"
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
  ' in_root "$root" "$ROOT" "$@"
}

# The root's own pg_config may need a newer libc than this machine has, so it is asked in there.
build_for_root() {
  local major=$1 root=$2 config=$ROOT/target/pgrx/$1/pg_config
  mkdir -p "$(dirname "$config")"
  printf '#!/bin/sh\nchroot %q /usr/lib/postgresql/%s/bin/pg_config "$@" | sed "s#/usr/#%s/usr/#g"\n' "$root" "$major" "$root" > "$config.new"
  chmod +x "$config.new"
  mv "$config.new" "$config"
  build_for "$major" "$config"
}

# build_for MAJOR PG_CONFIG
build_for() {
  KIJKO_PG_CONFIG=$2
  KIJKO_PG_MAJOR=$1
  choose_pg_major
  build_extension
}

# ---- 16

test_on_pgserver() {
  local tree=$ROOT/target/pgserver
  # Of Debian's packages it needs the compiler's, and their user postgres.
  APT_PACKAGES+=(python3-venv)
  install_apt_packages
  install_npm_packages
  step "PostgreSQL 16 (pgserver $PGSERVER_VERSION)" "check the network and the log" make_pgserver "$tree"
  step "the extension for PostgreSQL 16" "the compiler's message above says what is wrong" build_for 16 "$tree/pgserver/pginstall/bin/pg_config"
  KIJKO_PG_MAJOR=16 KIJKO_PG_TREE=$tree/pgserver KIJKO_PG_CONFIG=$tree/pgserver/pginstall/bin/pg_config \
    bash "$ROOT/kijko_ext/tests/run.sh" regress isolation crash workers replication outbox pg_upgrade upgrade
}

make_pgserver() {
  [ ! -x "$1/pgserver/pginstall/bin/postgres" ] || return 0
  python3 -m venv --clear "$ROOT/target/tools/pgserver"
  "$ROOT/target/tools/pgserver/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --target "$1" --requirement "$ROOT/scripts/pgserver.txt"
}
