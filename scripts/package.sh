# ./kijko package: a tarball and Debian packages of what was built here, and ./kijko up --from, which starts a stack from one.
# A package is a tree like the checkout, without sources: ./kijko, scripts, SQL and configuration, the programs in package/bin, the
# extension in package/extension (Debian's layout), and a file PACKAGE that says what it is for. Sourced by ./kijko.
# shellcheck shell=bash

PACKAGE_TREE=(
  kijko scripts sql/platform supabase/migrations supabase/seed.sql supabase/config.toml supabase/release.txt deploy/Caddyfile deploy/systemd deploy/logrotate docs/operations
  .env.example CHANGELOG.md LICENSE LICENSE-APACHE LICENSE-MIT
)

command_package() {
  [ "$#" -le 1 ] && [[ ${1:-} != -* ]] || misuse "package takes a folder"
  ! in_package || fail "a package is made in a checkout: this is one already"
  local folder=${1:-$ROOT/target/package} name work
  check_toolchain
  install_apt_packages
  install_npm_packages
  make_folders
  # Whether a stack has the indexer is chosen where it runs.
  has_service indexer || SERVICES+=(indexer)
  build_all
  mkdir -p "$folder" || fail "the folder $folder cannot be made"
  folder=$(readlink -f "$folder")
  read_package_facts
  name=kijko-$PACKAGE_VERSION-pg$PACKAGE_MAJOR-$PACKAGE_ARCH
  work=$(mktemp -d)
  chmod 0755 "$work"
  trap 'rm -rf "$work"' EXIT
  step "the tree of the package" "see the log" fill_package "$work/$name"
  step "the tarball" "is there room in $folder?" pack_tarball "$work" "$name" "$folder/$name.tar.gz"
  step "the Debian packages" "is there room in $folder?" pack_debs "$work" "$name" "$folder"
  rm -rf "$work"
  trap - EXIT
  (cd "$folder" && sha256sum "$name.tar.gz" ./*"_${PACKAGE_VERSION}_$PACKAGE_ARCH.deb" | sed 's|  \./|  |' > "$name.sha256")
  cat "$folder/$name.sha256"
}

# What this build is, and what it needs.
read_package_facts() {
  PACKAGE_VERSION=$(kijko_release)
  PACKAGE_MAJOR=${PG_MAJOR:-15}
  PACKAGE_ARCH=$(dpkg --print-architecture)
  packaged_apt_packages "$PACKAGE_MAJOR"
}

# fill_package FOLDER
fill_package() {
  local tree=$1 file
  mkdir -p "$tree/package/bin"
  (cd "$ROOT" && tar -c --exclude=node_modules "${PACKAGE_TREE[@]}") | tar -x -C "$tree" --no-same-owner
  rm -f "$tree"/scripts/*.mjs
  cp -p "$SIDECAR_BINARY" "$REALTIME_BINARY" "$STORAGE_BINARY" "$INDEXER_BINARY" "$tree/package/bin/"
  cp -p "$(postgrest_binary)" "$tree/package/bin/postgrest"
  for file in "$ROOT"/node_modules/@supabase/cli-linux-*/bin/supabase; do cp -p "$file" "$tree/package/bin/supabase"; done
  fill_package_extension "$tree/package/extension"
  strip --strip-unneeded "$tree"/package/bin/kijko-* "$tree/package/extension/lib/postgresql/$PACKAGE_MAJOR/lib/kijko.so"
  write_package_file "$tree" > "$tree/PACKAGE"
  chmod -R u=rwX,go=rX "$tree"
  (cd "$tree" && find . -type f -not -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum) > "$tree/SHA256SUMS"
}

fill_package_extension() {
  local library=lib/postgresql/$PACKAGE_MAJOR/lib extension=share/postgresql/$PACKAGE_MAJOR/extension
  mkdir -p "$1/$library" "$1/$extension"
  cp -p "$BUILD_PREFIX/$library/kijko.so" "$1/$library/"
  cp -p "$BUILD_PREFIX/$extension"/kijko* "$1/$extension/"
  cp -p "$BUILD_PREFIX/.extension" "$1/.extension"
}

write_package_file() {
  printf 'version=%s\npg_major=%s\narch=%s\nglibc=%s\n' "$PACKAGE_VERSION" "$PACKAGE_MAJOR" "$PACKAGE_ARCH" "$(newest_glibc_symbol "$1")"
}

# The programs of a newer system do not start on an older one: the newest version of a symbol of libc that one of them needs.
newest_glibc_symbol() {
  objdump -T "$1"/package/bin/kijko-* "$1/package/extension/lib/postgresql/$PACKAGE_MAJOR/lib/kijko.so" | sed -nE 's/.*GLIBC_([0-9.]+).*/\1/p' | sort -V | tail -n 1
}

# pack_tarball WORK NAME FILE: the same tree gives the same file.
pack_tarball() {
  tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner --mtime='2000-01-01 00:00Z' -c "$2" | gzip -6 -n > "$3.new"
  mv "$3.new" "$3"
}

# pack_debs WORK NAME FOLDER: the extension by itself, for a server of your own, and the stack.
pack_debs() {
  local tree=$1/$2 deb=$1/deb
  mkdir -p "$deb/usr"
  cp -r "$tree/package/extension/lib" "$tree/package/extension/share" "$deb/usr/"
  put_deb "$deb" "postgresql-$PACKAGE_MAJOR-kijko" "$3" "postgresql-$PACKAGE_MAJOR, libc6 (>= $(package_fact glibc "$tree"))" \
    "identity, limits, cron and sealing for multi-tenant backends (PostgreSQL extension kijko)" ''
  rm -rf "$deb"
  mkdir -p "$deb/usr/lib" "$deb/usr/bin" "$deb/etc/kijko"
  cp -r "$tree" "$deb/usr/lib/kijko"
  ln -s /etc/kijko/kijko.env "$deb/usr/lib/kijko/.env"
  cp "$tree/.env.example" "$deb/etc/kijko/kijko.env"
  # The units' user reads it; it can hold keys of vendors.
  chmod 0640 "$deb/etc/kijko/kijko.env"
  printf '#!/bin/sh\nKIJKO_HOME=${KIJKO_HOME:-/var/lib/kijko} exec /usr/lib/kijko/kijko "$@"\n' > "$deb/usr/bin/kijko"
  chmod 0755 "$deb/usr/bin/kijko"
  put_deb "$deb" kijko "$3" "$(printf '%s, ' "${PACKAGED_APT_PACKAGES[@]}")libc6 (>= $(package_fact glibc "$tree"))" \
    "multi-tenant backend for AI developer tools, inside Postgres" /etc/kijko/kijko.env
}

# put_deb TREE PACKAGE FOLDER DEPENDS DESCRIPTION CONFFILE
put_deb() {
  local control=$1/DEBIAN script
  mkdir -p "$control"
  cat > "$control/control" << CONTROL
Package: $2
Version: $PACKAGE_VERSION
Architecture: $PACKAGE_ARCH
Maintainer: Kijko <kijko@localhost>
Section: database
Priority: optional
Depends: $4
Description: $5
CONTROL
  if [ -n "$6" ]; then
    printf '%s\n' "$6" > "$control/conffiles"
    for script in postinst prerm; do
      cp "$ROOT/deploy/debian/$script" "$control/$script"
      chmod 0755 "$control/$script"
    done
  fi
  (cd "$1" && find . -path ./DEBIAN -prune -o -type f -print0 | sort -z | sed -z 's|^\./||' | xargs -0 md5sum) > "$control/md5sums"
  dpkg-deb --root-owner-group -Zgzip --build "$1" "$3/${2}_${PACKAGE_VERSION}_$PACKAGE_ARCH.deb" > /dev/null
}
