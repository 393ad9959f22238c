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

# Makes a virtual environment for packages of PyPI in "$1".
python_venv() {
  command -v python3 >/dev/null || fail "python3 is missing; it fetches packages of PyPI"
  if ! python3 -m venv "$1" >/dev/null 2>&1; then
    rm -rf "$1"
    apt_install python3-venv
    python3 -m venv "$1" || fail "python3 cannot make a virtual environment"
  fi
}

# Installs packages of PyPI into the virtual environment "$1"; the rest is for pip.
pip_install() {
  local venv="$1"
  shift
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}
