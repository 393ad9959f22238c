# Sourced by the scripts beside it, from the top folder of the repository.

# Tools are kept here; `.ci/run` points it at the user's cache, so that a fresh clone finds them again.
tools="${TOLLGATE_TOOLS:-.tools}"

say() {
  printf '==> %s\n' "$*" >&2
}

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Installs packages of the distribution, as root or with sudo.
apt_install() {
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "$* is missing, and there is neither root nor sudo to install it"
    sudo=(sudo)
  fi
  command -v apt-get >/dev/null || fail "$* is missing, and there is no apt-get to install it"
  say "installing $* with apt-get"
  local log
  log="$(mktemp)"
  if ! { "${sudo[@]}" apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install $*"
  fi
  rm -f "$log"
}
