#!/bin/sh
# install.sh BIN OUT: in the compile stage, lays out for each program of BIN what its own stage copies:
#   OUT/PROGRAM/bin     the program, stripped
#   OUT/PROGRAM/image   prepare.sh, and the list of the Debian packages that have the shared libraries it links. So an
#                       image has what its program needs and nothing else, and the list cannot go stale.
set -eu
bin=$1
out=$2

libraries_of() {
    readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p'
}

package_of() {
    dpkg-query -S "*/$1" | sed -n '1s/[:,].*//p' | grep . || {
        echo "install.sh: no package has $1" >&2
        return 1
    }
}

for program in "$bin"/waybill*; do
    name=$(basename "$program")
    mkdir -p "$out/$name/bin" "$out/$name/image"
    strip -o "$out/$name/bin/$name" "$program"
    libraries_of "$program" | while read -r library; do
        package_of "$library" || exit 1
    done >"$out/all"
    sort -u "$out/all" >"$out/$name/image/packages"
    cp "$(dirname "$0")/prepare.sh" "$out/$name/image/"
done
rm "$out/all"
find "$out" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
