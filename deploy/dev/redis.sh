#!/usr/bin/env bash
# Makes .tools/redis-server point at a Redis: $REDIS_SERVER, the one on PATH, or the distribution's package.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

# Not resolved any further: the program looks at the name it is called by.
server="${REDIS_SERVER:-$(command -v redis-server || true)}"
if [ -z "$server" ]; then
  apt_install redis-server
  server="$(command -v redis-server)" || fail "the package redis-server brought no redis-server"
fi
"$server" --version >/dev/null 2>&1 || fail "$server does not run"
mkdir -p .tools
ln -sfn "$server" .tools/redis-server
