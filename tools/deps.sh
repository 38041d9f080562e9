#!/bin/sh
# Installs the Debian packages that are missing. Words choose what for: build, run, test, lint,
# model, pictures (a browser for tests/loadtest), images (for docker/local-images.sh), peers (for bench/peers), all (but
# images and peers).
# A machine that has them all is done in some 50 ms and needs neither network nor permission.
set -eu

build="build-essential cmake ninja-build pkg-config libh2o-evloop-dev libhiredis-dev libmongoc-dev liblua5.4-dev
       lua-cjson lua-cjson-dev libssl-dev libcurl4-openssl-dev libsqlite3-dev libmicrohttpd-dev libpcre2-dev
       libcmocka-dev"
run="redis-server redis-tools python3 curl"
test="lua-check python3-pytest python3-pymongo python3-redis python3-requests python3-cryptography"
lint="clang-format lua-check shellcheck"
model="spin gcc"
pictures="chromium python3-pil fonts-dejavu-core"
images="mmdebstrap"
peers="nginx libnginx-mod-http-lua lua-resty-core lua-cjson lua-nginx-redis wrk"

log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() {
    echo "make deps: $*" >&2
    exit 1
}

missing_of() {
    dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii  *//p' | sort -u >"$log"
    for package in "$@"; do
        grep -qxF "$package" "$log" || printf '%s ' "$package"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# A machine that just started may still install its updates: wait for that. And the server's package would start a Redis of
# its own; a run level of 1 tells Debian's scripts not to.
apt() {
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -y -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1
}

wanted=""
for word in "$@"; do
    case $word in
    build) wanted="$wanted $build" ;;
    run) wanted="$wanted $run" ;;
    test) wanted="$wanted $test" ;;
    lint) wanted="$wanted $lint" ;;
    model) wanted="$wanted $model" ;;
    pictures) wanted="$wanted $pictures" ;;
    images) wanted="$wanted $images" ;;
    peers) wanted="$wanted $peers" ;;
    all) wanted="$wanted $build $run $test $lint $model $pictures" ;;
    *) fail "'$word' is none of build, run, test, lint, model, pictures, images, peers, all" ;;
    esac
done

wanted=$(printf '%s' "$wanted" | tr -s ' \n' ' ')
command -v dpkg-query >/dev/null ||
    fail "this is no Debian: install the counterparts of these packages yourself:$wanted"
# shellcheck disable=SC2086 # a list of words
missing=$(missing_of $wanted)
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    fail "these packages are missing and only root can install them; run as root: apt-get install $missing"
fi
echo "Installing ${missing}..."
# shellcheck disable=SC2086
apt install --no-install-recommends $missing && exit 0
# The lists of packages may be missing or old: once more with fresh ones.
apt update -o APT::Update::Error-Mode=any || {
    tail -n 3 "$log" >&2
    fail "cannot reach the Debian archive (no network or no permission?); when it is there again: apt-get update && apt-get install $missing"
}
# shellcheck disable=SC2086
apt install --no-install-recommends $missing || {
    tail -n 5 "$log" >&2
    fail "apt-get could not install these packages; its words are above: $missing"
}
