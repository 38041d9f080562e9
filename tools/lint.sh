#!/bin/sh
# Format, scripts, floors. Prints what is wrong and ends with 1.
set -u
cd "$(dirname "$0")/.." || exit 2
bad=0

check() {
    what=$1
    shift
    "$@" || {
        echo "lint: $what" >&2
        bad=1
    }
}

# Files of a kind that are there (one that was deleted but not yet committed is still listed).
files() {
    git ls-files --cached --others --exclude-standard "$@" | while read -r file; do
        [ -f "$file" ] && printf '%s\n' "$file"
    done
}

# only FOLDER HEADER: no file outside of the folder includes the header (docs/architecture.md, "floors").
# shellcheck disable=SC2317 # called by check
only() {
    ! files 'core/*.c' 'core/*.h' | grep -vE "^core/($1)/" | xargs grep -nE "#include [<\"]$2"
}

c_files=$(files '*.c' '*.h')
lua_files=$(files '*.lua')
sh_files=$(files '*.sh')

# shellcheck disable=SC2086 # lists of files without spaces
[ -z "$c_files" ] || check "run \`make fmt\`" clang-format --dry-run -Werror $c_files
# shellcheck disable=SC2086
[ -z "$lua_files" ] || check "luacheck found something" luacheck -q --no-color $lua_files
# shellcheck disable=SC2086
[ -z "$sh_files" ] || check "shellcheck found something" shellcheck $sh_files
check "only core/policy may include Lua" only policy 'l(ua|ualib|auxlib)\.h'
check "only core/queue may include hiredis" only queue '(hiredis/)?(hiredis|async)\.h'
check "only core/store may include the MongoDB driver" only store '(mongoc|bson)(/|\.h)'
check "only core/ingest may include libh2o" only ingest 'h2o(/|\.h)'
check "only core/admin may include libmicrohttpd" only admin 'microhttpd\.h'
check "only core/ctl and core/policy may include libcurl" only "ctl|policy" 'curl/'
check "only core/base (and ingest, for TLS) may include OpenSSL" only "base|ingest" 'openssl/'

check "a page links to what is not there" tools/check_links.py

[ "$bad" -eq 0 ] && echo "lint: all good"
exit "$bad"
