# What the scripts share. Sourced by them; POSIX sh.

project=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$project/target}
root=
[ "$(id -u)" = 0 ] || root=sudo
# Where Debian has setcap and criu, which a user's PATH leaves out.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() {
    printf '\n== %s\n' "$*"
}

# The packages of the arguments that are not installed.
missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

# Installs Debian or Ubuntu packages that are missing.
install_packages() {
    # shellcheck disable=SC2046 # Package names are words.
    set -- $(missing_packages "$@")
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null || { echo "install these first: $*" >&2; return 1; }
    say "installing $*"
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq update </dev/null
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "$@" </dev/null >/dev/null
}

# Finds cargo also where a root shell does not look.
find_cargo() {
    command -v cargo >/dev/null && return 0
    for home in "$HOME" "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)"; do
        [ -x "$home/.cargo/bin/cargo" ] && PATH=$PATH:$home/.cargo/bin && return 0
    done
    echo "cargo is needed: https://rustup.rs" >&2
    return 1
}
