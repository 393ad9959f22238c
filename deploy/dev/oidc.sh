#!/usr/bin/env bash
# Makes .tools/oidc-provider a folder with the npm packages that the tests log in with: an OpenID provider, and what drives a browser.
# `oidc.sh optional` installs no package of the distribution: without Node.js and npm it says so, and that is all.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

packages=(oidc-provider@9.13.3 playwright-core@1.65.1)

if [ "${1:-}" = optional ] && ! { command -v node && command -v npm; } >/dev/null; then
  say "no OpenID provider: it needs Node.js 20 or newer and npm (apt-get install nodejs npm)"
  exit
fi
command -v node >/dev/null || apt_install nodejs
node --eval 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' ||
  fail "node $(node --version) is older than 20, which oidc-provider needs; put a newer one on PATH"
name="npm-$(printf '%s\n' "${packages[@]}" | sha256sum | head -c 12)"
mkdir -p .tools "$tools"
if [ ! -e "$tools/$name/installed" ]; then
  command -v npm >/dev/null || apt_install npm
  say "fetching ${packages[*]} (npm, about 20 MB)"
  rm -rf "$tools/$name"
  mkdir -p "$tools/$name"
  printf '{"private":true}\n' >"$tools/$name/package.json"
  npm install --prefix "$tools/$name" --no-audit --no-fund --ignore-scripts --no-package-lock --loglevel=error "${packages[@]}" \
    </dev/null >/dev/null || fail "npm could not fetch ${packages[*]}"
  touch "$tools/$name/installed"
fi
ln -sfn "$(realpath "$tools/$name")" .tools/oidc-provider
