#!/bin/sh
# make test-compose: the images and the Compose file, for real, where a Docker engine answers. The last line is a plain count.
#
# Images come from Debian's packages (docker/local-images.sh) unless BASE_IMAGE, REDIS_IMAGE and MONGO_IMAGE are all set:
# then those of a registry are tested. COMPOSE names another Compose than the one found.
set -eu
cd "$(dirname "$0")/../.."

skip() {
    echo "no compose tests: $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

command -v docker >/dev/null || skip "docker is not installed"
docker info >/dev/null 2>&1 || skip "no Docker engine answers"
if [ -z "${COMPOSE:-}" ]; then
    if docker compose version >/dev/null 2>&1; then
        COMPOSE="docker compose"
    else
        COMPOSE=docker-compose
        command -v docker-compose >/dev/null || skip "neither 'docker compose' nor docker-compose is installed"
    fi
fi
export COMPOSE

# A tag of the tests' own: the images of whoever works here stay as they are.
export IMAGE_TAG=test
if [ -z "${BASE_IMAGE:-}" ] || [ -z "${REDIS_IMAGE:-}" ] || [ -z "${MONGO_IMAGE:-}" ]; then
    variables=$(docker/local-images.sh)
    eval "$variables"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
docker/build.sh >"$log" 2>&1 || {
    tail -n 60 "$log"
    echo "the images could not be built"
    exit 1
}
tail -n 4 "$log"
WAYBILL_TEST_COMPOSE=1 /usr/bin/python3 -B -m pytest tests/compose -q -p no:cacheprovider "$@"
