#!/usr/bin/env bash
# Makes .tools/libfaketime.so.1 point at the library that shifts a process' clock: $FAKETIME_LIB, or the distribution's package.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

packaged() {
  find /usr/lib /usr/local/lib -name libfaketime.so.1 2>/dev/null | head -n 1
}

library="${FAKETIME_LIB:-$(packaged)}"
if [ -z "$library" ]; then
  apt_install libfaketime
  library="$(packaged)"
  [ -n "$library" ] || fail "the package libfaketime brought no libfaketime.so.1"
fi
FAKETIME='@2000-01-01 00:00:00' LD_PRELOAD="$library" date +%Y | grep -q 2000 || fail "$library shifts no clock"
mkdir -p .tools
ln -sfn "$(realpath "$library")" .tools/libfaketime.so.1
