#!/usr/bin/env bash
# Makes .tools/chromium point at a Chromium that runs without a screen: $CHROMIUM, one on PATH, or the distribution's package.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

find_chromium() {
  local name
  for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    command -v "$name" && return
  done
  return 1
}

chromium="${CHROMIUM:-$(find_chromium || true)}"
if [ -z "$chromium" ]; then
  apt_install chromium-headless-shell
  chromium="$(find_chromium)" || fail "the package chromium-headless-shell brought no browser"
fi
"$chromium" --version >/dev/null 2>&1 || fail "$chromium does not run"
mkdir -p .tools
ln -sfn "$chromium" .tools/chromium
