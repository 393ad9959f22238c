#!/usr/bin/env bash
# Runs the OpenID provider that the examples name, on 127.0.0.1:9400, until Ctrl-C. It lets everybody in under any name.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

deploy/dev/oidc.sh
say "the issuer"
exec node deploy/dev/logins/provider.mjs "$(<deploy/dev/logins/examples.json)"
