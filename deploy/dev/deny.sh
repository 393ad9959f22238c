#!/usr/bin/env bash
# Checks the dependencies against deny.toml; builds cargo-deny at the first use.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

deny="$(command -v cargo-deny || true)"
if [ -z "$deny" ]; then
  deny="${XDG_CACHE_HOME:-$HOME/.cache}/tollgate/cargo/bin/cargo-deny"
  if [ ! -x "$deny" ]; then
    say "building cargo-deny (once; takes some minutes)"
    cargo install --locked --quiet --root "${deny%/bin/cargo-deny}" cargo-deny </dev/null ||
      fail "cargo could not install cargo-deny"
  fi
fi

"$deny" --locked check bans licenses sources
if "$deny" fetch db >/dev/null 2>&1; then
  "$deny" --locked check advisories
else
  say "advisories are not checked: their database cannot be fetched from here"
fi
