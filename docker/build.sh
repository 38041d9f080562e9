#!/bin/sh
# Builds Waybill's images as the Compose file describes them, and prints their sizes. Arguments: services
# (default: ingest worker ctl). BASE_IMAGE names the base, IMAGE_TAG the tag (default dev), COMPOSE another Compose than
# the one found.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${COMPOSE:-}" ]; then
    docker compose version >/dev/null 2>&1 && COMPOSE="docker compose" || COMPOSE=docker-compose
fi
[ $# -gt 0 ] || set -- ingest worker ctl
REVISION=$(git describe --always --dirty 2>/dev/null || echo unknown)
export REVISION
# shellcheck disable=SC2086 # one word or two
$COMPOSE --profile tools --profile loadtest build "$@"
echo
for service in "$@"; do
    docker image ls --format '{{.Repository}}:{{.Tag}}  {{.Size}}' "waybill-$service:${IMAGE_TAG:-dev}"
done
