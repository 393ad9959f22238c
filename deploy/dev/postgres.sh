#!/usr/bin/env bash
# Makes .tools/postgres point at a Postgres server, with initdb and psql beside it: $POSTGRES, or the distribution's package.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

# The newest server that the distribution has installed.
installed() {
  find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1
}

server="${POSTGRES:-$(installed)}"
if [ -z "$server" ]; then
  # The package would set up and start a server of its own.
  settings=/etc/postgresql-common/createcluster.d
  if [ "$(id -u)" -eq 0 ] && [ ! -e "$settings" ]; then
    mkdir -p "$settings"
    echo 'create_main_cluster = false' >"$settings/tollgate.conf"
  fi
  apt_install postgresql
  server="$(installed)"
  [ -n "$server" ] || fail "the package postgresql brought no server"
fi
bin="$(dirname "$(realpath "$server")")"
for program in postgres initdb psql; do
  "$bin/$program" --version >/dev/null 2>&1 || fail "$bin/$program does not run"
done
mkdir -p .tools
ln -sfn "$bin/postgres" .tools/postgres
