#!/bin/sh
# Makes the images that the Compose file builds on where no registry can be reached: a base from Debian's packages, a
# Redis from it, and waybill-devstore in the place of MongoDB. Prints the variables that name them:
#
#     eval "$(docker/local-images.sh)" && docker-compose up --build
#
# The base bears a hash of this script and of its sources in its tag, so a second run takes a few seconds.
set -eu
cd "$(dirname "$0")/.."
suite=bookworm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() {
    echo "local-images: $*" >&2
}

quietly() {
    "$@" >"$work/log" 2>&1 || {
        tail -n 40 "$work/log" >&2
        say "failed: $*"
        exit 1
    }
}

# This machine's own files of Debian sources, so that its mirror is used and security updates are in.
debian_sources() {
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        if [ -s "$file" ] && grep -Eq "^(deb .* |Suites:(.* )?)$suite( |\$)" "$file"; then
            echo "$file"
        fi
    done
}

has_image() {
    docker image inspect "$1" >/dev/null 2>&1
}

# Debian's slim image in all that matters here: no documents, no translations, merged /usr.
make_base() {
    tools/deps.sh images >&2
    say "making the base image from Debian's packages (about a minute) ..."
    # To a file first: a failed run must not become an empty image.
    # shellcheck disable=SC2086,SC2016 # a list of files; mmdebstrap's shell expands $1
    quietly mmdebstrap --quiet --variant=minbase --include=usr-is-merged \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --aptopt='Acquire::Retries "3"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook=': > "$1/etc/machine-id"' \
        "$suite" "$work/base.tar" $sources
    quietly docker import --change 'CMD ["bash"]' "$work/base.tar" "$base"
    rm "$work/base.tar"
}

docker info >/dev/null 2>&1 || {
    say "no Docker engine answers"
    exit 1
}
sources=$(debian_sources)
[ -n "$sources" ] || {
    say "this is no Debian $suite: set BASE_IMAGE, REDIS_IMAGE and MONGO_IMAGE to images of your registry instead"
    exit 1
}
# A builder that cannot do what BuildKit does is all that an engine without the buildx plugin has.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0

# shellcheck disable=SC2086
hash=$(cat docker/local-images.sh docker/local/redis.Dockerfile $sources | sha256sum | cut -c1-12)
base=waybill-base:$suite-$hash
has_image "$base" || make_base

redis=waybill-redis:$suite-$hash
if ! has_image "$redis"; then
    say "making the Redis image ..."
    quietly docker build --build-arg "BASE_IMAGE=$base" -t "$redis" -f docker/local/redis.Dockerfile docker
fi

say "making the stand-in for MongoDB, and with it the compile stage of all images (up to two minutes) ..."
devstore=waybill-devstore:${IMAGE_TAG:-dev}
quietly docker build --build-arg "BASE_IMAGE=$base" --target devstore -t "$devstore" -f docker/Dockerfile .

cat <<END
export BASE_IMAGE=$base REDIS_IMAGE=$redis MONGO_IMAGE=$devstore
export MONGO_URL_SECRET=mongo_url_devstore GO_IMAGE=$base
END
if [ "${DOCKER_BUILDKIT:-}" = 0 ]; then
    echo "export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0"
fi
