# ./kijko upgrade and what releases are. Sourced by ./kijko.
# shellcheck shell=bash

# The release of this checkout, as Cargo.toml says.
kijko_release() { sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1; }
